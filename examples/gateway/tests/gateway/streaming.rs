//! Answers pass by unchanged, as they come; clients that leave take their request with them.

use std::time::{Duration, Instant};

use kvroute_core::Finish;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{get, post, request};
use crate::pod::{Answer, Pod, Step, completion, send, wait};
use crate::setup::{Running, until};

const PROMPT: &str = r#"{"model":"m","prompt":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18],"stream":true}"#;

/// Bytes that no proxy would write by itself: split within characters and lines, odd spaces, no end of line.
fn odd_stream() -> Vec<Step> {
    let text = concat!(
        "data: {\"id\":\"c\",\"choices\":[{\"text\":\"gr\u{fc}\u{df} \u{1f600}\"}],\"usage\":null}\n\n",
        ": ping\r\n\r\n",
        "data:   {\"choices\":[],\"usage\":{\"prompt_tokens\":18,\"completion_tokens\":2,",
        "\"prompt_tokens_details\":{\"cached_tokens\":16}}}\n\n",
        "data: [DONE]\n\nrest without an end",
    );
    let mut steps = Vec::new();
    for piece in text.as_bytes().chunks(7) {
        steps.push(send(piece.to_vec()));
        steps.push(wait(1));
    }
    steps
}

fn bytes_of(steps: &[Step]) -> Vec<u8> {
    let bytes = steps.iter().filter_map(|step| match step {
        Step::Send(bytes) => Some(bytes.to_vec()),
        _ => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_and_its_usage_is_read() {
    let pod = Pod::answering(Answer::stream(odd_stream())).await;
    let running = Running::start(&[pod.url()], "").await;
    let got = post(running.address, "/v1/completions", PROMPT).await;
    assert_eq!((got.status, got.is_whole), (200, true));
    assert_eq!(got.body, bytes_of(&odd_stream()));
    assert_eq!(got.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(got.header("x-from-pod"), Some("yes"));
    assert_eq!(got.header("x-kvroute-pod"), None, "not asked for");
    assert_eq!(pod.seen()[0].body, PROMPT.as_bytes(), "the request passes byte for byte as well");
    let outcome = running.wait_for_outcomes(1).await.remove(0);
    assert_eq!(outcome.engine_cached_tokens, Some(16));
    assert_eq!((outcome.prompt_tokens, outcome.end, outcome.status), (18, Finish::Completed, 200));
    assert!(outcome.first_byte.is_some() && outcome.explanation.is_some());
}

#[tokio::test]
async fn pieces_reach_the_client_as_they_come() {
    let steps = vec![send("data: 1\n\n"), wait(600), send("data: 2\n\n")];
    let pod = Pod::answering(Answer::stream(steps)).await;
    let running = Running::start(&[pod.url()], "").await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let start = Instant::now();
    stream.write_all(&request("POST", "/v1/completions", "", PROMPT)).await.unwrap();
    let mut read = String::new();
    while !read.contains("data: 1") {
        let mut piece = [0; 1024];
        let length = stream.read(&mut piece).await.unwrap();
        assert!(length > 0, "{read}");
        read.push_str(&String::from_utf8_lossy(&piece[..length]));
    }
    assert!(start.elapsed() < Duration::from_millis(400), "the first piece waited for the second");
    assert!(!read.contains("data: 2"));
}

#[tokio::test]
async fn a_client_that_leaves_in_a_stream_cancels_the_request() {
    let steps = vec![send("data: 1\n\n"), wait(30_000), send("data: 2\n\n")];
    let pod = Pod::answering(Answer::stream(steps)).await;
    let running = Running::start(&[pod.url()], "").await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&request("POST", "/v1/completions", "", PROMPT)).await.unwrap();
    let mut piece = [0; 1024];
    assert!(stream.read(&mut piece).await.unwrap() > 0);
    assert_eq!(running.gateway.router().counters().in_flight, 1);
    drop(stream);
    until("the pod's answer is dropped", || pod.cancelled() == 1).await;
    let outcome = running.wait_for_outcomes(1).await.remove(0);
    assert_eq!(outcome.end, Finish::Cancelled);
    assert_eq!(running.gateway.router().counters().in_flight, 0);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_begins_cancels_the_request() {
    let pod = Pod::answering(completion(0).after(30_000)).await;
    let running = Running::start(&[pod.url()], "").await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&request("POST", "/v1/completions", "", PROMPT)).await.unwrap();
    until("the pod has the request", || pod.seen().len() == 1).await;
    drop(stream);
    until("the pod's answer is dropped", || pod.cancelled() == 1).await;
    let outcome = running.wait_for_outcomes(1).await.remove(0);
    assert_eq!((outcome.end, outcome.status), (Finish::Cancelled, 0));
    assert_eq!(running.gateway.router().counters().in_flight, 0);
}

#[tokio::test]
async fn a_pod_that_breaks_off_breaks_the_answer_off() {
    let pod = Pod::answering(Answer::stream(vec![send("data: 1\n\n"), wait(20), Step::Break])).await;
    let other = Pod::answering(Answer::stream(vec![send("data: 1\n\n"), wait(20), Step::Break])).await;
    let running = Running::start(&[pod.url(), other.url()], "").await;
    let got = post(running.address, "/v1/completions", PROMPT).await;
    assert_eq!((got.status, got.is_whole, &*got.body), (200, false, &b"data: 1\n\n"[..]));
    let outcome = running.wait_for_outcomes(1).await.remove(0);
    assert_eq!((outcome.end, outcome.retries), (Finish::Failed, 0));
    assert_eq!(pod.seen().len() + other.seen().len(), 1, "it had begun, so it is not sent again");
}

#[tokio::test]
async fn answers_that_are_huge_pass_and_connections_are_kept() {
    let huge = vec![b'x'; 20 << 20];
    let sent = huge.clone();
    let pod = Pod::start(move |_| Answer { length: None, ..Answer::stream(vec![send(sent.clone())]) }).await;
    let running = Running::start(&[pod.url()], "").await;
    let connections = pod.connections();
    for _ in 0..3 {
        let got = post(running.address, "/v1/completions", PROMPT).await;
        assert!(got.is_whole && got.body == huge);
    }
    assert_eq!(pod.connections() - connections, 1);
}

#[tokio::test]
async fn what_engines_answer_beside_goes_to_a_pod_and_back() {
    let pod = Pod::start(|seen| Answer::json(&json!({ "asked": seen.path })).status(418)).await;
    let running = Running::start(&[pod.url()], "").await;
    for path in ["/v1/embeddings?a=b", "/tokenize", "/v1/unheard/of"] {
        let got = post(running.address, path, r#"{"input":"x"}"#).await;
        assert_eq!((got.status, got.json()), (418, json!({ "asked": path })));
    }
    assert_eq!(get(running.address, "/v1/unheard").await.status, 418);
    assert_eq!(get(running.address, "/elsewhere").await.status, 404);
    assert_eq!(get(running.address, "/v1/completions").await.status, 405);
    let models = get(running.address, "/v1/models").await.json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("m")));
    assert_eq!(get(running.address, "/health").await.status, 200);
    assert_eq!(get(running.address, "/ready").await.json()["accepting"], json!(1));
}
