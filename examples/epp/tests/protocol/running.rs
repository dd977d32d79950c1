//! The picker's own life: what it is asked beside requests, another configuration, its end.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use kvroute_epp::config::{Document, EppConfig};
use kvroute_gateway::reload::{ConfigFile, Reloaded};
use kvroute_gateway::server::Drained;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::envoy::{Talk, served};
use crate::setup::{Folder, Running, answer, pod, prompt, until};

const COMPLETIONS: &str = "/v1/completions";

/// Status and body.
async fn http(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut text)).await;
    read.expect("it answers in time").expect("it is text");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("there is a status");
    (status, text)
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    http(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

async fn health(address: SocketAddr, service: &str) -> i32 {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(channel).check(request).await.expect("it is known").into_inner().status
}

#[tokio::test]
async fn health_is_told_over_grpc_on_both_ports() {
    const SERVING: i32 = 1;
    const NOT_SERVING: i32 = 2;
    let ready = ["", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor"];
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for address in [running.health, running.address] {
        for service in ready.iter().chain(&["liveness"]) {
            assert_eq!(health(address, service).await, SERVING, "{service}");
        }
    }
    let without = Running::with_document("fleet: {pods: ['http://127.0.0.1:9']}", 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(health(without.health, "liveness").await, SERVING);
    for service in ready {
        assert_eq!(health(without.health, service).await, NOT_SERVING, "{service}");
    }
}

#[tokio::test]
async fn people_see_what_they_see_of_the_gateway_and_send_no_requests_there() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer_all(&answer(0), served(&one.name())).await;
    running.outcomes(1).await;
    let (status, page) = get(running.watched, "/metrics").await;
    assert_eq!(status, 200);
    for series in [
        "kvroute_requests_total{endpoint=\"completions\",model=\"m\",status=\"200\"} 1",
        "kvroute_confirmed_prompt_tokens_total{",
        "llm_d_epp_request_total{model_name=\"m\",target_model_name=\"m\"} 1",
        "inference_objective_request_total{model_name=\"m\",target_model_name=\"m\"} 1",
        "inference_pool_ready_pods{name=\"kvroute\"} 1",
        "inference_pool_per_pod_queue_size{",
        "inference_extension_scheduler_e2e_duration_seconds_count 1",
    ] {
        assert!(page.contains(series), "{series} in\n{page}");
    }
    let explain = format!("{{\"endpoint\":\"/v1/completions\",\"request\":{}}}", prompt(0, 400));
    let length = explain.len();
    let request = format!(
        "POST /explain HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{explain}"
    );
    let (status, text) = http(running.watched, &request).await;
    let chosen = format!("\"decision\":{{\"pod\":\"{}\"", one.name());
    assert!(status == 200 && text.contains(&chosen), "{text}");
    for (path, expected) in
        [("/", 200), ("/status.json", 200), ("/health", 200), ("/ready", 200), ("/v1/files", 404)]
    {
        assert_eq!(get(running.watched, path).await.0, expected, "{path}");
    }
    let request =
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(http(running.watched, request).await.0, 404);
}

#[tokio::test]
async fn a_file_that_changes_counts_and_streams_go_on() {
    let (old, new) = (pod().await, pod().await);
    let folder = Folder::new("reload");
    let path = folder.0.join("epp.yaml");
    let text = |pod: &crate::pod::Pod, rest: &str| {
        format!("fleet: {{pods: ['{}'], drain_ms: 20000}}\n{rest}", pod.url())
    };
    fs::write(&path, text(&old, "")).unwrap();
    let mut file = ConfigFile::<Document>::open(&path).unwrap();
    let running = Running::start(&[&old], "").await;
    let gateway = running.picker.gateway();
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    fs::write(&path, text(&old, "epp: {lissten: 1}")).unwrap();
    let Reloaded::Refused(error) = file.reload(gateway) else { panic!("it is wrong") };
    assert!(error.to_string().contains("did you mean `listen`"), "{error}");
    let rest = "epp: {shed: saturated}\nrouter: {policy: {preset: affinity}}";
    fs::write(&path, text(&new, rest)).unwrap();
    assert_eq!(file.reload(gateway), Reloaded::Applied { needs_restart: vec!["epp.shed"] });
    let name = new.name();
    until("the new pod is there", || gateway.router().pod(&name, 0).is_some_and(|pod| pod.is_accepting()))
        .await;
    until("the old one takes nothing", || {
        gateway.router().pod(&old.name(), 0).is_none_or(|pod| !pod.is_accepting())
    })
    .await;
    let mut next = running.talk().await;
    let forwarded = next.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    assert_eq!(forwarded.destination(), new.name());
    talk.answer_all(&answer(0), served(&old.name())).await;
    next.answer_all(&answer(0), served(&new.name())).await;
    running.outcomes(2).await;
}

#[tokio::test]
async fn draining_lets_streams_end_and_takes_no_new_ones() {
    let one = pod().await;
    let mut running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    running.begin_stop();
    until("it drains", || running.picker.gateway().is_draining()).await;
    until("it takes no more connections", || std::net::TcpStream::connect(running.address).is_err()).await;
    talk.answer_all(&answer(0), served(&one.name())).await;
    drop(talk);
    running.outcomes(1).await;
    assert_eq!(running.stop().await, Drained::Whole);
}

#[tokio::test]
async fn draining_ends_in_its_time() {
    let one = pod().await;
    let running = Running::start(&[&one], "gateway: {timeouts: {drain_ms: 300}}").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    assert_eq!(running.stop().await, Drained::CutOff(1));
}

#[tokio::test]
async fn one_connection_carries_as_many_requests_as_there_are() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let channel =
        Channel::from_shared(format!("http://{}", running.address)).unwrap().connect().await.unwrap();
    let mut talks = Vec::new();
    for number in 0..400 {
        let mut talk = Talk::over(channel.clone()).await;
        talk.ask(COMPLETIONS, &[], None, &prompt(number * 100, 20)).await.forwarded();
        talks.push(talk);
    }
    assert_eq!((running.booked(&one), running.picker.streams()), (400, 400));
    assert_eq!(running.picker.gateway().buffered_bytes(), 0, "what was sent back is not held");
    drop(talks);
    running.outcomes(400).await;
}

#[tokio::test]
async fn envoy_may_ask_over_tls() {
    let one = pod().await;
    let file = |name: &str| format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let section = format!("epp: {{tls: {{certificate: '{}', key: '{}'}}}}", file("tls.crt"), file("tls.key"));
    let running = Running::start(&[&one], &section).await;
    let authority = Certificate::from_pem(fs::read(file("ca.crt")).unwrap());
    let tls = ClientTlsConfig::new().ca_certificate(authority).domain_name("picker.test");
    let endpoint = Channel::from_shared(format!("https://{}", running.address)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.expect("it is trusted");
    let mut talk = Talk::over(channel).await;
    let forwarded = talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    assert_eq!(forwarded.destination(), one.name());
    talk.answer_all(&answer(0), None).await;
    let plain = Channel::from_shared(format!("http://{}", running.address)).unwrap().connect().await;
    let asked = match plain {
        Ok(channel) => HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop),
        Err(_) => return,
    };
    assert!(asked.is_err(), "not without");
}

#[tokio::test]
async fn many_streams_at_once_come_to_their_ends() {
    let (one, two) = (pod().await, pod().await);
    let running = Running::start(&[&one, &two], "").await;
    let address = running.address;
    let talks: Vec<_> = (0..40)
        .map(|number| {
            tokio::spawn(async move {
                let mut talk = Talk::open(address).await;
                let body = prompt(number * 1000, 4000);
                let forwarded = talk.ask(COMPLETIONS, &[], None, &body).await.forwarded();
                assert_eq!(forwarded.body, body.as_bytes());
                talk.answer_all(&answer(0), served(forwarded.destination())).await;
            })
        })
        .collect();
    for talk in talks {
        talk.await.unwrap();
    }
    running.outcomes(40).await;
}

#[test]
fn the_example_says_the_defaults() {
    let example = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/epp.yaml")).unwrap();
    let document = Document::parse(&example).unwrap();
    assert_eq!(document.epp, EppConfig::default());
    let mut base = Document::of_pods([]).unwrap().base;
    assert!(!document.base.fleet.pods.is_empty());
    base.fleet.pods = document.base.fleet.pods.clone();
    base.gateway.answer_headers = document.base.gateway.answer_headers;
    assert_eq!(document.base, base);
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, said) in [
        ("epp: {lissten: '0.0.0.0:1'}", "did you mean `listen`? (line 1"),
        ("epp: {listen: here}", "epp.listen"),
        ("epp: {shed: sometimes}", "sometimes"),
        ("gateway: {prefill: vllm}", "gateway.prefill"),
        ("gateway: {tls: {certificate: a, key: b}}", "gateway.tls"),
        ("gateway: {retrys: 1}", "did you mean `retries`"),
        ("gateway: {listen: '127.0.0.1:1'}", "gateway.listen"),
        ("fleet: {pods: ['http://10.0.0.1:1', 'http://pod-a:8000']}", "fleet.pods[1].url: found `pod-a`"),
        ("router: {policy: {preset: costly}}", "costly"),
        ("epp: {endpoint_picker_config: /nowhere/at/all.yaml}", "/nowhere/at/all.yaml"),
        (
            "epp: {endpoint_picker_config: a}\nrouter: {policy: {preset: affinity}}",
            "epp.endpoint_picker_config",
        ),
    ] {
        let error = Document::parse(text).expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn llm_ds_configuration_takes_the_routers_place() {
    let folder = Folder::new("llm-d");
    let path = folder.0.join("llm-d.yaml");
    let text = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: queue-scorer\n\
                - type: kv-cache-utilization-scorer\n- type: latency-slo-admitter\nschedulingProfiles:\n- name: default\n  plugins:\n  \
                - {pluginRef: queue-scorer, weight: 2}\n  - {pluginRef: kv-cache-utilization-scorer, weight: 3}\n";
    fs::write(&path, text).unwrap();
    let document = format!("epp: {{endpoint_picker_config: '{}'}}", path.display());
    let document = Document::parse(&document).unwrap();
    let scorers = document.base.router.policy.decode.scorers.clone().expect("they are said");
    assert!(scorers.kv_usage.is_some() && scorers.queue.is_some(), "{scorers:?}");
    assert!(document.notes.iter().any(|note| note.contains("latency-slo-admitter")), "{:?}", document.notes);
}
