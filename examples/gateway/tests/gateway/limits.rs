//! Bad clients get a clear status, and nobody else notices.

use std::time::{Duration, Instant};

use kvroute_core::Finish;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::client::{exchange, post, read, request};
use crate::pod::{Answer, Pod, completion, send, wait};
use crate::setup::{Running, until};

const PROMPT: &str = r#"{"model":"m","prompt":"tell me"}"#;

#[tokio::test]
async fn malformed_requests_are_answered_with_400() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "").await;
    for bytes in
        [&b"GARBAGE\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]
    {
        assert_eq!(exchange(running.address, bytes).await.status, 400, "{bytes:?}");
    }
    for body in ["", "{", "[1]", r#"{"prompt":[-1]}"#, r#"{"prompt":{"a":1}}"#, "{\"model\":[]}"] {
        let got = post(running.address, "/v1/completions", body).await;
        assert_eq!(got.status, 400, "{body}");
        assert!(!got.message().is_empty());
    }
    assert_eq!(pod.seen().len(), 0);
    assert_eq!(post(running.address, "/v1/completions", PROMPT).await.status, 200);
}

#[tokio::test]
async fn models_that_nobody_serves_are_answered_with_404() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "").await;
    let got = post(running.address, "/v1/chat/completions", r#"{"model":"gpt-0","messages":[]}"#).await;
    assert_eq!((got.status, got.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
    assert_eq!(got.json()["error"]["param"].as_str(), Some("model"));
    assert!(got.message().contains("gpt-0"));
    let without = post(running.address, "/v1/chat/completions", r#"{"messages":[]}"#).await;
    assert_eq!(without.status, 200, "a request that names none is content with any");
}

#[tokio::test]
async fn bodies_that_are_too_long_are_answered_with_413() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "limits: {max_body_bytes: 1000}").await;
    let long = format!(r#"{{"prompt":"{}"}}"#, "x".repeat(2000));
    assert_eq!(post(running.address, "/v1/completions", &long).await.status, 413);
    // One that does not say how long it is.
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = "POST /v1/completions HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n";
    let got = exchange(running.address, format!("{head}{chunk}{chunk}").as_bytes()).await;
    assert_eq!(got.status, 413);
    let huge_head = format!("GET /health HTTP/1.1\r\nx-long: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(exchange(running.address, huge_head.as_bytes()).await.status, 431);
    assert_eq!(pod.seen().len(), 0);
    assert_eq!(running.gateway.buffered_bytes(), 0);
    let outcomes = running.wait_for_outcomes(2).await;
    assert!(outcomes.iter().all(|outcome| outcome.status == 413 && outcome.end == Finish::Cancelled));
}

#[tokio::test]
async fn memory_for_bodies_is_bounded_over_all_requests() {
    let pod = Pod::answering(completion(0).after(400)).await;
    let running = Running::start(&[pod.url()], "limits: {max_buffered_bytes: 1500}").await;
    let long = format!(r#"{{"model":"m","prompt":"{}"}}"#, "x".repeat(1000));
    let (first, second) = tokio::join!(post(running.address, "/v1/completions", &long), async {
        sleep(Duration::from_millis(100)).await;
        post(running.address, "/v1/completions", &long).await
    });
    assert_eq!((first.status, second.status), (200, 503));
    assert_eq!(second.header("retry-after"), Some("1"));
    assert_eq!(running.gateway.buffered_bytes(), 0);
    assert_eq!(post(running.address, "/v1/completions", &long).await.status, 200);
}

#[tokio::test]
async fn clients_that_send_slowly_are_cut_off() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "timeouts: {head_ms: 200, body_ms: 300}").await;
    let start = Instant::now();
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(b"POST /v1/compl").await.unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(3), silent.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 50\r\n\r\n{\"pro")
        .await
        .unwrap();
    let got = read(&mut slow).await;
    assert_eq!(got.status, 408);
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(pod.seen().len(), 0);
}

#[tokio::test]
async fn clients_that_do_not_read_lose_their_request() {
    let piece = vec![b'x'; 1 << 20];
    let steps = (0..64).flat_map(|_| [send(piece.clone()), wait(1)]).collect();
    let pod = Pod::answering(Answer::stream(steps)).await;
    let running = Running::start(&[pod.url()], "timeouts: {write_ms: 300}").await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(&request("POST", "/v1/completions", "", PROMPT)).await.unwrap();
    let outcome = running.wait_for_outcomes(1).await.remove(0);
    assert_eq!(outcome.end, Finish::Cancelled);
    assert_eq!(running.gateway.router().counters().in_flight, 0);
    // It notices when the connection does.
    until("the pod's answer is dropped", || pod.cancelled() == 1).await;
}

#[tokio::test]
async fn pods_that_stop_in_the_middle_are_given_up() {
    let pod =
        Pod::answering(Answer::stream(vec![send("data: 1\n\n"), wait(30_000), send("data: 2\n\n")])).await;
    for section in ["timeouts: {idle_ms: 200}", "timeouts: {total_ms: 300}"] {
        let running = Running::start(&[pod.url()], section).await;
        let start = Instant::now();
        let got = post(running.address, "/v1/completions", PROMPT).await;
        assert_eq!((got.status, got.is_whole, &*got.body), (200, false, &b"data: 1\n\n"[..]), "{section}");
        assert!(start.elapsed() < Duration::from_secs(3), "{section}");
        assert_eq!(running.wait_for_outcomes(1).await[0].end, Finish::Failed, "{section}");
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "limits: {max_connections: 1}").await;
    let holder = TcpStream::connect(running.address).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let waiting = tokio::spawn(post(running.address, "/v1/completions", PROMPT));
    sleep(Duration::from_millis(150)).await;
    assert!(!waiting.is_finished());
    drop(holder);
    assert_eq!(waiting.await.unwrap().status, 200);
}
