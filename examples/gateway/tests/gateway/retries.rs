//! Pods that fail before their answer begins are replaced.

use std::time::Instant;

use kvroute_core::Finish;
use tokio::net::TcpListener;

use crate::client::post;
use crate::pod::{Answer, Manner, Pod, RawPod, completion};
use crate::setup::Running;

const PROMPT: &str = r#"{"model":"m","prompt":"tell me","max_tokens":1}"#;

/// A good pod and one that misbehaves: each request gets its answer, whichever pod is asked first.
async fn every_request_is_answered(bad: String, requests_to_bad: impl Fn() -> usize) {
    let good = Pod::answering(completion(0)).await;
    // In turn, so that the bad one is asked first about every other time.
    let running = Running::start(&[bad, good.url()], "routing: round-robin").await;
    for _ in 0..4 {
        let got = post(running.address, "/v1/completions", PROMPT).await;
        assert_eq!(got.status, 200, "{:?}", String::from_utf8_lossy(&got.body));
    }
    let retries: u32 = running.wait_for_outcomes(4).await.iter().map(|outcome| outcome.retries).sum();
    assert_eq!(retries as usize, requests_to_bad());
    assert!(retries >= 1, "the bad pod was never asked");
}

#[tokio::test]
async fn a_reset_before_the_head_is_tried_elsewhere() {
    let bad = RawPod::start(Manner::Reset).await;
    every_request_is_answered(bad.url(), || bad.requests()).await;
}

#[tokio::test]
async fn garbage_for_an_answer_is_tried_elsewhere() {
    for garbage in [&b"\x00\xff\xfe garbage\r\n\r\n"[..], b"HTTP/1.1 20", b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let bad = RawPod::start(Manner::Say(garbage)).await;
        every_request_is_answered(bad.url(), || bad.requests()).await;
    }
}

#[tokio::test]
async fn a_busy_pod_is_tried_elsewhere() {
    for status in [502, 503, 504] {
        let bad = Pod::answering(completion(0).status(status)).await;
        every_request_is_answered(bad.url(), || bad.seen().len()).await;
    }
}

#[tokio::test]
async fn what_a_pod_refuses_or_fails_at_is_its_answer() {
    for status in [400, 404, 422, 429, 500] {
        let pod =
            Pod::answering(Answer::json(&serde_json::json!({"error": {"message": "no"}})).status(status))
                .await;
        let other = Pod::answering(completion(0)).await;
        let running = Running::start(&[pod.url()], "").await;
        let got = post(running.address, "/v1/completions", PROMPT).await;
        assert_eq!((got.status, got.json()["error"]["message"].as_str()), (status, Some("no")));
        let end = if status == 500 { Finish::Failed } else { Finish::Cancelled };
        assert_eq!(running.wait_for_outcomes(1).await[0].end, end, "{status}");
        assert_eq!(other.seen().len(), 0);
    }
}

#[tokio::test]
async fn tries_are_bounded_and_the_last_failure_is_told() {
    let pods = [
        RawPod::start(Manner::Reset).await,
        RawPod::start(Manner::Reset).await,
        RawPod::start(Manner::Reset).await,
    ];
    let urls: Vec<_> = pods.iter().map(RawPod::url).collect();
    let running = Running::start(&urls, "retries: 1").await;
    let got = post(running.address, "/v1/completions", PROMPT).await;
    assert_eq!(got.status, 502);
    assert!(got.message().contains("did not answer"), "{}", got.message());
    assert_eq!(pods.iter().map(RawPod::requests).sum::<usize>(), 2);
    let outcome = running.wait_for_outcomes(1).await.remove(0);
    assert_eq!((outcome.retries, outcome.status, outcome.end), (1, 502, Finish::Failed));
    let failures: u32 = running.gateway.router().pods().iter().map(|pod| pod.failures().0).sum();
    assert_eq!(failures, 2, "the pods are marked");
    assert_eq!(running.gateway.router().counters().in_flight, 0);

    let single = Running::start(&urls[..1], "retries: 5").await;
    assert_eq!(post(single.address, "/v1/completions", PROMPT).await.status, 502);
    assert_eq!(single.wait_for_outcomes(1).await[0].retries, 1, "no pod is asked twice");
    let busy = Pod::answering(completion(7).status(503)).await;
    let busy_only = Running::start(&[busy.url()], "retries: 0").await;
    let got = post(busy_only.address, "/v1/completions", PROMPT).await;
    assert_eq!((got.status, got.header("x-from-pod")), (503, Some("yes")), "the pod's own words");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_tried_elsewhere_at_once() {
    let good = Pod::answering(completion(0)).await;
    let gone = Pod::answering(completion(0)).await;
    let running = Running::start(&[gone.url(), good.url()], "routing: round-robin").await;
    let address = gone.name();
    drop(gone);
    // Its port stays taken by nobody.
    tokio::task::yield_now().await;
    assert!(TcpListener::bind(&*address).await.is_ok());
    for _ in 0..2 {
        assert_eq!(post(running.address, "/v1/completions", PROMPT).await.status, 200);
    }
}

#[tokio::test]
async fn a_pod_that_hangs_is_given_up_and_marked() {
    let hanging = RawPod::start(Manner::Hang).await;
    let running = Running::start(&[hanging.url()], "timeouts: {first_byte_ms: 200}").await;
    let start = Instant::now();
    let got = post(running.address, "/v1/completions", PROMPT).await;
    assert_eq!(got.status, 504);
    assert!(start.elapsed().as_secs() < 3);
    assert_eq!(running.gateway.router().pods()[0].failures().0, 1);
    assert_eq!(running.wait_for_outcomes(1).await[0].end, Finish::Failed);
}
