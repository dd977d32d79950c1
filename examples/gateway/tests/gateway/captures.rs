//! What real vLLM pods published, published again over ZeroMQ, pod by pod; for each request that they got, the gateway is
//! asked what it expects them to have cached, and they told what they had.

use std::path::Path;

use kvroute_examples::capture::{self, Item, Query};
use serde_json::json;

use crate::client::post;
use crate::pod::{Answer, Pod, send};
use crate::setup::{Running, until};

/// A pod that says of itself what a captured one did, and publishes what it is told to.
struct Captured {
    pod: Pod,
    publisher: zmq::Socket,
    topic: String,
}

impl Captured {
    async fn start(name: &str) -> Self {
        let publisher = zmq::Context::new().socket(zmq::XPUB).expect("a socket");
        publisher.set_linger(0).expect("an option");
        publisher.bind("tcp://127.0.0.1:*").expect("a port is free");
        let endpoint = publisher.get_last_endpoint().expect("it is bound").expect("it is text");
        let port = endpoint.rsplit(':').next().expect("a port");
        let topic = format!("kv@{name}@tiny");
        let source = json!({"0": {"enable_kv_cache_events": true, "publisher": "zmq", "topic": topic,
                                  "endpoint": format!("tcp://*:{port}")}});
        let about = move |path: &str| match path {
            "/v1/models" => {
                let models = include_str!("../../../../testdata/pods/vllm-connect-0/models-with-lora-b.json");
                Some(Answer::json(&serde_json::from_str(models).expect("JSON")))
            }
            "/version" => Some(Answer::json(&json!({"version": "0.32.0"}))),
            "/kv_event_sources" => Some(Answer::json(&source)),
            "/metrics" => {
                let page = include_str!("../../../../testdata/pods/vllm-connect-0/metrics.txt");
                Some(Answer { kind: "text/plain", ..Answer::stream(vec![send(page)]) })
            }
            _ => None,
        };
        let pod = Pod::with_facts(about, |_| panic!("nothing is sent")).await;
        Self { pod, publisher, topic }
    }

    fn publish(&self, sequence: u64, payload: &[u8]) {
        let frames = [self.topic.as_bytes(), &sequence.to_be_bytes(), payload];
        self.publisher.send_multipart(frames, 0).expect("it publishes");
    }

    fn is_subscribed(&self) -> bool {
        self.publisher.recv_bytes(zmq::DONTWAIT).is_ok_and(|told| told.first() == Some(&1))
    }
}

/// What the gateway expects each pod to have cached of a request, by name.
async fn expected(running: &Running, query: &Query, pod: &str) -> usize {
    let model = query.context.lora.as_ref().map_or("tiny", |lora| &lora.name);
    let mut request = json!({"model": model, "prompt": query.token_ids});
    if let Some(salt) = &query.context.cache_salt {
        request["cache_salt"] = json!(salt);
    }
    let got = post(running.address, "/explain?endpoint=/v1/completions", &request.to_string()).await;
    assert_eq!(got.status, 200, "{}: {got:?}", query.name);
    let explained = got.json();
    let pods = explained["explanation"]["pods"].as_array().expect("pods").clone();
    let row = pods.iter().find(|row| row["pod"] == pod).expect("it was looked at");
    let blocks = row["matched_blocks"].as_array().expect("tiers").iter().map(|tier| tier[1].as_u64());
    let blocks: u64 = blocks.map(|blocks| blocks.expect("a number")).sum();
    usize::try_from(blocks * row["block_size"].as_u64().expect("a number")).expect("tokens")
}

#[tokio::test]
async fn what_real_pods_had_cached_is_what_the_gateway_expects_of_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures/live-3pods");
    let capture = capture::read(&path).expect("a capture");
    let mut pods = Vec::new();
    for pod in &capture.pods {
        pods.push(Captured::start(&pod.name).await);
    }
    let urls: Vec<_> = pods.iter().map(|captured| captured.pod.url()).collect();
    let running = Running::start(&urls, "").await;
    for captured in &pods {
        until("it is subscribed to", || captured.is_subscribed()).await;
    }

    let mut last = vec![None; pods.len()];
    let (mut equal, mut hits, mut after_reset) = (0, 0, 0);
    for item in &capture.items {
        let query = match item {
            Item::Batch { pod, sequence, payload } => {
                pods[*pod].publish(*sequence, payload);
                last[*pod] = Some(*sequence);
                continue;
            }
            Item::Query(query) => query,
        };
        running
            .until("all that was published is applied", |running| {
                let streams = running.gateway.fleet().status().events.streams;
                let applied = |name: &str| streams.iter().find(|s| s.pod == name)?.counters.last_sequence;
                pods.iter().zip(&last).all(|(captured, last)| applied(&captured.pod.name()) == *last)
            })
            .await;
        for answer in &query.answers {
            let expected = expected(&running, query, &pods[answer.pod].pod.name()).await;
            let is_equal = expected == answer.cached as usize;
            assert!(is_equal || answer.exception.is_some(), "{}: {answer:?}, not {expected}", query.name);
            equal += usize::from(is_equal);
            hits += usize::from(is_equal && expected > 0);
            after_reset += usize::from(!is_equal);
        }
    }
    assert_eq!((equal, after_reset), (519, 5));
    assert!(hits > 200, "{hits}");
    let streams = running.gateway.fleet().status().events.streams;
    assert!(streams.iter().all(|stream| stream.counters.gaps == 0 && stream.counters.lost == 0));
}
