//! Prompts computed on one pod and answered by another.

use serde_json::{Value, json};

use crate::client::{post, post_with};
use crate::pod::{Answer, Pod, completion};
use crate::setup::Running;

fn document(decode: &Pod, prefill: &Pod, protocol: &str) -> String {
    format!(
        "gateway: {{answer_headers: true, prefill: {protocol}}}\n\
         fleet:\n  pods:\n  - {{url: '{}', role: decode}}\n  - {{url: '{}', role: prefill}}\n\
         router: {{policy: {{prefill: {{max_uncached_tokens: 64}}}}}}\n",
        decode.url(),
        prefill.url()
    )
}

fn prompt(tokens: u32) -> String {
    let token_ids: Vec<u32> = (0..tokens).collect();
    json!({ "model": "m", "prompt": token_ids, "max_tokens": 50, "stream": true, "temperature": 0.125 })
        .to_string()
}

#[tokio::test]
async fn a_sidecar_is_told_the_prefill_pod() {
    let (decode, prefill) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let running = Running::with_document(&document(&decode, &prefill, "sidecar"), 2).await;
    let got = post(running.address, "/v1/completions", &prompt(200)).await;
    assert_eq!((got.status, got.header("x-kvroute-prefill-pod")), (200, Some(&*prefill.name())));
    let seen = decode.seen().remove(0);
    assert_eq!(seen.header("x-prefiller-host-port"), Some(&*prefill.name()));
    assert_eq!(seen.body, prompt(200).as_bytes());
    assert_eq!(prefill.seen().len(), 0, "that is the sidecar's to do");
    // A short prompt is computed where it is answered; a client's own header must not choose pods.
    let headers = "x-prefiller-host-port: 10.9.9.9:1\r\n";
    post_with(running.address, "/v1/completions", headers, &prompt(20)).await;
    assert_eq!(decode.seen()[1].header("x-prefiller-host-port"), None);
}

#[tokio::test]
async fn vllms_pods_are_asked_one_after_the_other() {
    let params = json!({ "do_remote_prefill": true, "remote_block_ids": [[1, 2, 3]], "remote_engine_id": "e",
                         "remote_host": "h", "remote_port": 5600 });
    let answer = Answer::json(&json!({ "choices": [], "kv_transfer_params": params }));
    let (decode, prefill) = (Pod::answering(completion(0)).await, Pod::answering(answer).await);
    let running = Running::with_document(&document(&decode, &prefill, "vllm"), 2).await;
    let got =
        post_with(running.address, "/v1/completions", "authorization: Bearer k\r\n", &prompt(200)).await;
    assert_eq!(got.status, 200);
    let (asked, answered) = (prefill.seen().remove(0), decode.seen().remove(0));
    assert_eq!(asked.path, "/v1/completions");
    let first = asked.json();
    assert_eq!((&first["max_tokens"], &first["stream"]), (&json!(1), &json!(false)));
    assert_eq!(first["kv_transfer_params"]["do_remote_decode"], json!(true));
    let mut expected: Value = serde_json::from_str(&prompt(200)).unwrap();
    expected["kv_transfer_params"] = params;
    assert_eq!(answered.json(), expected);
    assert!(asked.header("x-request-id").is_some());
    assert_eq!(asked.header("x-request-id"), answered.header("x-request-id"));
    assert_eq!(answered.header("authorization"), Some("Bearer k"));
    post(running.address, "/v1/completions", &prompt(20)).await;
    assert_eq!(prefill.seen().len(), 1, "a short prompt is computed where it is answered");
    assert_eq!(running.gateway.router().counters().in_flight, 0);
}

#[tokio::test]
async fn where_the_prefill_pod_fails_the_decode_pod_computes_the_prompt() {
    for bad in [completion(0).status(500), Answer::json(&json!([1, 2]))] {
        let (decode, prefill) = (Pod::answering(completion(0)).await, Pod::answering(bad).await);
        let running = Running::with_document(&document(&decode, &prefill, "vllm"), 2).await;
        let got = post(running.address, "/v1/completions", &prompt(200)).await;
        assert_eq!((got.status, got.header("x-kvroute-prefill-pod")), (200, None));
        assert_eq!(decode.seen()[0].body, prompt(200).as_bytes());
        assert_eq!(running.wait_for_outcomes(1).await[0].retries, 1);
    }
    let refusal =
        Answer::json(&json!({ "error": { "message": "too long", "type": "BadRequest" } })).status(400);
    let (decode, prefill) = (Pod::answering(completion(0)).await, Pod::answering(refusal).await);
    let running = Running::with_document(&document(&decode, &prefill, "vllm"), 2).await;
    let got = post(running.address, "/v1/completions", &prompt(200)).await;
    assert_eq!((got.status, got.message()), (400, "too long".to_owned()));
    assert_eq!(decode.seen().len(), 0);
}
