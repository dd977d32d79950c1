//! Requests through Envoy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Got, get, post, post_with, request};
use crate::pod::{Answer, Pod, completion, send, wait};
use crate::program::{Program, wait_until};
use crate::proxy::{Options, Proxy};

const COMPLETIONS: &str = "/v1/completions";
const HEADERS: &str = "gateway: {answer_headers: true, reload_ms: 100}";

fn address(pod: &Pod) -> SocketAddr {
    pod.name().parse().expect("it is an address")
}

fn prompt(first: u32, tokens: u32) -> String {
    let token_ids: Vec<u32> = (first..first + tokens).collect();
    json!({ "model": "m", "prompt": token_ids }).to_string()
}

/// Requests that end, as the picker counts them.
async fn in_flight(program: &Program) -> (Value, Value) {
    let status = get(program.watched, "/status.json").await.json();
    (status["gateway"]["in_flight"].clone(), status["router"]["counters"]["in_flight"].clone())
}

async fn nothing_is_booked(program: &Program) {
    wait_until("nothing is booked", Duration::from_secs(30), async || {
        in_flight(program).await == (json!(0), json!(0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn a_prompt_goes_where_its_prefix_went_and_usage_comes_back() {
    let pods = [Pod::answering(completion(96)).await, Pod::answering(completion(96)).await];
    let program = Program::start("prefix", &[(&pods[0], ""), (&pods[1], "")], HEADERS).await;
    let proxy =
        Proxy::start("prefix", program.address, &pods.each_ref().map(address), &Options::default()).await;
    for first in [0, 10_000, 20_000, 30_000] {
        let got = post(proxy.address, COMPLETIONS, &prompt(first, 400)).await;
        assert_eq!(got.status, 200, "{got:?}");
        let home = got.header("x-kvroute-pod").expect("it says where it went").to_owned();
        for _ in 0..3 {
            let again = post(proxy.address, COMPLETIONS, &prompt(first, 420)).await;
            assert_eq!((again.status, again.header("x-kvroute-pod")), (200, Some(&*home)));
        }
    }
    assert_eq!(pods[0].seen().len() + pods[1].seen().len(), 16);
    let seen = [pods[0].seen(), pods[1].seen()].concat();
    for seen in &seen {
        assert_eq!(seen.json()["model"], "m");
    }
    nothing_is_booked(&program).await;
    let metrics = String::from_utf8(get(program.watched, "/metrics").await.body).unwrap();
    let sum: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("kvroute_confirmed_cached_tokens_total{"))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(sum, 16 * 96, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn streams_pass_as_they_come() {
    let steps = vec![
        send("data: {\"n\":1}\n\n"),
        wait(1500),
        send("data: {\"n\":2}\n\n"),
        send(
            "data: {\"usage\":{\"prompt_tokens\":400,\"prompt_tokens_details\":{\"cached_tokens\":64}}}\n\n",
        ),
        send("data: [DONE]\n\n"),
    ];
    let pod = Pod::answering(Answer::stream(steps)).await;
    let program = Program::start("stream", &[(&pod, "")], HEADERS).await;
    let proxy = Proxy::start("stream", program.address, &[address(&pod)], &Options::default()).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(&request("POST", COMPLETIONS, "connection: close\r\n", &prompt(0, 400))).await.unwrap();
    let (mut text, mut first) = (Vec::new(), None);
    let mut buffer = [0; 4096];
    loop {
        let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut buffer)).await;
        match read.expect("it goes on").unwrap() {
            0 => break,
            length => text.extend_from_slice(&buffer[..length]),
        }
        let has_first = String::from_utf8_lossy(&text).contains("\"n\":1");
        first = first.or(has_first.then(Instant::now));
    }
    let waited = first.expect("the first event came").elapsed();
    assert!(waited > Duration::from_millis(1000), "it was held back: {waited:?}");
    assert!(String::from_utf8_lossy(&text).contains("[DONE]"));
    nothing_is_booked(&program).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn bodies_of_ten_megabytes_pass_unchanged_both_ways() {
    let long = "y".repeat(10 << 20);
    let pod = Pod::answering(Answer::json(&json!({ "text": long }))).await;
    let program = Program::start("large", &[(&pod, "")], HEADERS).await;
    let proxy = Proxy::start("large", program.address, &[address(&pod)], &Options::default()).await;
    let body = json!({ "model": "m", "prompt": "x".repeat(10 << 20) }).to_string();
    let got = patient_post(proxy.address, &body).await;
    assert_eq!(got.status, 200, "{}", got.head);
    let seen = pod.seen().remove(0);
    assert_eq!(seen.body.len(), body.len());
    assert!(seen.body == body.as_bytes(), "the body was changed");
    assert!(got.is_whole && got.json()["text"].as_str().map(str::len) == Some(10 << 20));
    nothing_is_booked(&program).await;
}

/// As [`post`], with time for a long body on a busy machine.
async fn patient_post(address: SocketAddr, body: &str) -> Got {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let bytes = request("POST", COMPLETIONS, "connection: close\r\n", body);
    let (mut reading, mut writing) = stream.split();
    let mut text = Vec::new();
    let both = async {
        let (written, read) = tokio::join!(writing.write_all(&bytes), reading.read_to_end(&mut text));
        written.unwrap();
        read.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(120), both).await.expect("it ends in time");
    crate::client::parse(&text)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn what_cannot_be_read_is_refused_before_any_pod() {
    let pod = Pod::answering(completion(0)).await;
    let program = Program::start("refused", &[(&pod, "")], HEADERS).await;
    let proxy = Proxy::start("refused", program.address, &[address(&pod)], &Options::default()).await;
    for (body, status) in [
        ("{\"model\":\"m\",\"prompt\":", 400),
        ("[1]", 400),
        ("{\"model\":\"of nobody\",\"prompt\":\"a\"}", 404),
    ] {
        let got = post(proxy.address, COMPLETIONS, body).await;
        assert_eq!(got.status, status, "{got:?}");
        assert!(!got.message().is_empty());
    }
    assert_eq!(pod.seen().len(), 0);
    assert_eq!(post(proxy.address, COMPLETIONS, &prompt(0, 100)).await.status, 200);
    let got = get(proxy.address, "/v1/anything").await;
    assert_eq!(got.status, 200, "no body, and no path of ours: {got:?}");
    nothing_is_booked(&program).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn a_dead_picker_stops_requests_where_envoy_fails_closed() {
    let pod = Pod::answering(completion(0)).await;
    let mut program = Program::start("close", &[(&pod, "")], HEADERS).await;
    let proxy = Proxy::start("close", program.address, &[address(&pod)], &Options::default()).await;
    assert_eq!(post(proxy.address, COMPLETIONS, &prompt(0, 100)).await.status, 200);
    program.kill();
    let got = post(proxy.address, COMPLETIONS, &prompt(0, 100)).await;
    assert!(got.status >= 500, "{got:?}");
    assert_eq!(pod.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn a_dead_picker_is_passed_over_where_envoy_fails_open() {
    let pods = [Pod::answering(completion(0)).await, Pod::answering(completion(0)).await];
    let mut program = Program::start("open", &[(&pods[0], ""), (&pods[1], "")], HEADERS).await;
    let options = Options { fails_open: true, ..Options::default() };
    let proxy = Proxy::start("open", program.address, &pods.each_ref().map(address), &options).await;
    assert_eq!(post(proxy.address, COMPLETIONS, &prompt(0, 100)).await.status, 200);
    program.kill();
    // Envoy fails open until it has sent the first piece of a body to the picker (envoyproxy/envoy#41276). So it has to
    // know beforehand, by its health checks.
    proxy.until_picker_is_known_dead().await;
    for _ in 0..6 {
        let got = post(proxy.address, COMPLETIONS, &prompt(0, 100)).await;
        assert_eq!((got.status, got.header("x-kvroute-pod")), (200, None), "{got:?}");
    }
    assert!(pods.iter().all(|pod| pod.seen().len() >= 2), "in turn");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn a_subset_is_kept_to() {
    let pods = [Pod::answering(completion(0)).await, Pod::answering(completion(0)).await];
    let program = Program::start("subset", &[(&pods[0], ""), (&pods[1], "")], HEADERS).await;
    let addresses = pods.each_ref().map(address);
    let options = Options { subset: Some(vec![pods[1].name()]), ..Options::default() };
    let proxy = Proxy::start("subset", program.address, &addresses, &options).await;
    for first in 0..6 {
        let got = post(proxy.address, COMPLETIONS, &prompt(first * 1000, 100)).await;
        assert_eq!((got.status, got.header("x-kvroute-pod")), (200, Some(&*pods[1].name())));
    }
    assert_eq!((pods[0].seen().len(), pods[1].seen().len()), (0, 6));
    drop(proxy);
    let options = Options { subset: Some(vec!["10.0.0.1:1".to_owned()]), ..Options::default() };
    let proxy = Proxy::start("subset", program.address, &addresses, &options).await;
    let got = post(proxy.address, COMPLETIONS, &prompt(0, 100)).await;
    assert_eq!(got.status, 503, "{got:?}");
    nothing_is_booked(&program).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn a_sidecar_is_told_the_prefill_pod() {
    let (decode, prefill) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let sections = format!("{HEADERS}\nrouter: {{policy: {{prefill: {{max_uncached_tokens: 64}}}}}}");
    let pods = [(&decode, ", role: decode"), (&prefill, ", role: prefill")];
    let program = Program::start("prefill", &pods, &sections).await;
    let addresses = [address(&decode), address(&prefill)];
    let proxy = Proxy::start("prefill", program.address, &addresses, &Options::default()).await;
    let client = "x-prefiller-host-port: 10.9.9.9:1\r\n";
    let got = post_with(proxy.address, COMPLETIONS, client, &prompt(0, 400)).await;
    assert_eq!((got.status, got.header("x-kvroute-prefill-pod")), (200, Some(&*prefill.name())));
    let got = post_with(proxy.address, COMPLETIONS, client, &prompt(50_000, 20)).await;
    assert_eq!((got.status, got.header("x-kvroute-prefill-pod")), (200, None));
    let seen = decode.seen();
    assert_eq!(seen[0].header("x-prefiller-host-port"), Some(&*prefill.name()));
    assert_eq!(seen[1].header("x-prefiller-host-port"), None);
    assert_eq!(prefill.seen().len(), 0, "that is the sidecar's to do");
    nothing_is_booked(&program).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn what_envoy_could_not_reach_is_booked_where_it_was_answered() {
    // Envoy does not know the first of the picker's pods, and takes another one.
    let pods = [Pod::answering(completion(0)).await, Pod::answering(completion(0)).await];
    let program = Program::start("served", &[(&pods[0], ""), (&pods[1], "")], HEADERS).await;
    let proxy = Proxy::start("served", program.address, &[address(&pods[1])], &Options::default()).await;
    for first in 0..8 {
        let got = post(proxy.address, COMPLETIONS, &prompt(first * 1000, 100)).await;
        assert_eq!((got.status, got.header("x-kvroute-pod")), (200, Some(&*pods[1].name())), "{got:?}");
    }
    nothing_is_booked(&program).await;
    let status = get(program.watched, "/status.json").await.json();
    let of = |name: String| {
        let pods = status["router"]["pods"].as_array().expect("there are pods");
        let pod = pods.iter().find(|pod| pod["name"] == name).expect("it is there");
        pod["predicted"]["blocks"].as_u64().expect("it is a number")
    };
    assert_eq!((of(pods[0].name()), of(pods[1].name())), (0, 8 * 6));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn clients_that_leave_and_pods_that_break_off_leave_nothing_booked() {
    let slow = Answer::stream(vec![send("data: {\"n\":1}\n\n"), wait(60_000)]);
    let pod = Pod::answering(slow).await;
    let program = Program::start("leave", &[(&pod, "")], HEADERS).await;
    let proxy = Proxy::start("leave", program.address, &[address(&pod)], &Options::default()).await;
    let mut streams = Vec::new();
    for first in 0..3 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(&request("POST", COMPLETIONS, "", &prompt(first * 1000, 100))).await.unwrap();
        streams.push(stream);
    }
    // And one whose request is not whole.
    let mut half = TcpStream::connect(proxy.address).await.unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"prompt\":";
    half.write_all(head.as_bytes()).await.unwrap();
    wait_until("all are in flight", Duration::from_secs(30), async || {
        in_flight(&program).await == (json!(4), json!(3))
    })
    .await;
    drop((streams, half));
    nothing_is_booked(&program).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Envoy"]
async fn another_configuration_under_load_costs_no_request() {
    let pods = [Pod::answering(completion(0).after(20)).await, Pod::answering(completion(0).after(20)).await];
    let both = [(&pods[0], ""), (&pods[1], "")];
    let mut program = Program::start("reload", &both, HEADERS).await;
    let proxy =
        Proxy::start("reload", program.address, &pods.each_ref().map(address), &Options::default()).await;
    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4_u32)
        .map(|client| {
            let (is_over, done, address) = (Arc::clone(&is_over), Arc::clone(&done), proxy.address);
            tokio::spawn(async move {
                let mut number = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let body = prompt(client * 100_000 + number * 100, 300);
                    let got = post(address, COMPLETIONS, &body).await;
                    assert_eq!(got.status, 200, "{got:?}");
                    number += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for (at, preset) in ["affinity", "llm-d-demo", "cost"].into_iter().enumerate() {
        let before = done.load(Ordering::Relaxed);
        // One pod leaves and comes back, and the policy is another one.
        let policy = format!("{HEADERS}\nrouter: {{policy: {{preset: {preset}}}}}");
        program.reconfigure(&both[at % 2..=at % 2], &policy);
        program.until_ready(1).await;
        program.reconfigure(&both, &policy);
        program.until_ready(2).await;
        wait_until("requests go on", Duration::from_secs(60), async || {
            done.load(Ordering::Relaxed) > before + 20
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("all its requests were answered");
    }
    nothing_is_booked(&program).await;
}
