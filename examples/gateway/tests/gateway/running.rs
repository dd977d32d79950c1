//! The gateway's own life: draining, another configuration, what is written.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::record::LogLine;
use kvroute_gateway::config::Document;
use kvroute_gateway::reload::{ConfigFile, Reloaded};
use kvroute_gateway::server::Drained;
use kvroute_gateway::snapshots;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::client::{get, post};
use crate::pod::{Answer, Pod, completion, send, wait};
use crate::setup::{Running, until};

const PROMPT: &str = r#"{"model":"m","prompt":[1,2,3]}"#;

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kvroute-gateway-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn draining_lets_requests_end_and_takes_no_new_ones() {
    let pod = Pod::answering(Answer::stream(vec![send("data: 1\n\n"), wait(600), send("data: 2\n\n")])).await;
    let mut running = Running::start(&[pod.url()], "").await;
    let idle = TcpStream::connect(running.address).await.unwrap();
    let request = tokio::spawn(post(running.address, "/v1/completions", PROMPT));
    until("the pod has the request", || pod.seen().len() == 1).await;
    running.begin_stop();
    until("it drains", || running.gateway.is_draining()).await;
    assert!(TcpStream::connect(running.address).await.is_err(), "it takes no more connections");
    let got = request.await.unwrap();
    assert!(got.is_whole && got.body.ends_with(b"data: 2\n\n"), "{got:?}");
    let start = Instant::now();
    assert_eq!(running.stop().await, Drained::Whole, "an idle connection holds nothing up");
    assert!(start.elapsed() < Duration::from_secs(2));
    drop(idle);
}

#[tokio::test]
async fn draining_ends_in_its_time_whatever_is_in_flight() {
    let pod = Pod::answering(Answer::stream(vec![send("data: 1\n\n"), wait(30_000)])).await;
    let running = Running::start(&[pod.url()], "timeouts: {drain_ms: 300}").await;
    let request = tokio::spawn(post(running.address, "/v1/completions", PROMPT));
    until("the pod has the request", || pod.seen().len() == 1).await;
    let gateway = running.gateway.clone();
    assert_eq!(running.stop().await, Drained::CutOff(1));
    assert!(!request.await.unwrap().is_whole);
    assert_eq!(gateway.router().counters().in_flight, 0);
}

#[tokio::test]
async fn a_file_that_changes_counts_and_a_broken_one_does_not() {
    let pod = Pod::answering(completion(0)).await;
    let folder = Folder::new("reload");
    let path = folder.0.join("gateway.yaml");
    let text = |gateway: &str, policy: &str| {
        let url = pod.url();
        format!(
            "gateway: {{{gateway}}}\nfleet: {{pods: ['{url}']}}\nrouter: {{policy: {{preset: {policy}}}}}\n"
        )
    };
    fs::write(&path, text("", "cost")).unwrap();
    let mut file: ConfigFile = ConfigFile::open(&path).unwrap();
    let running = Running::with_document(&text("", "cost"), 1).await;
    let gateway = &running.gateway;
    let policy = gateway.router().policy();
    assert_eq!(file.reload(gateway), Reloaded::Unchanged);

    fs::write(&path, text("retries: [", "cost")).unwrap();
    let Reloaded::Refused(error) = file.reload(gateway) else { panic!("it is broken") };
    assert!(error.to_string().contains("gateway.yaml"), "{error}");
    assert_eq!(file.reload(gateway), Reloaded::Unchanged, "it is said once");
    assert_eq!(gateway.settings().retries, 2);
    assert!(Arc::ptr_eq(&gateway.router().policy(), &policy));

    fs::write(&path, text("retries: 7, answer_headers: true, listen: '127.0.0.1:1'", "affinity")).unwrap();
    assert_eq!(file.reload(gateway), Reloaded::Applied { needs_restart: vec!["gateway.listen"] });
    assert_eq!(gateway.settings().retries, 7);
    assert!(!Arc::ptr_eq(&gateway.router().policy(), &policy));
    let got = post(running.address, "/v1/completions", PROMPT).await;
    assert!(got.header("x-kvroute-pod").is_some());

    fs::remove_file(&path).unwrap();
    assert!(matches!(file.reload(gateway), Reloaded::Refused(_)));
    assert_eq!(get(running.address, "/ready").await.status, 200);
}

#[tokio::test]
async fn pods_can_be_exchanged_while_it_runs() {
    let (old, new) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let folder = Folder::new("pods");
    let path = folder.0.join("gateway.yaml");
    let text = |pod: &Pod| format!("fleet: {{pods: ['{}'], drain_ms: 100}}\n", pod.url());
    fs::write(&path, text(&old)).unwrap();
    let mut file: ConfigFile = ConfigFile::open(&path).unwrap();
    let running = Running::with_document(&text(&old), 1).await;
    fs::write(&path, text(&new)).unwrap();
    assert_eq!(file.reload(&running.gateway), Reloaded::Applied { needs_restart: vec![] });
    let name = new.name();
    running
        .until("the new pod is there alone", |running| {
            let pods = running.gateway.router().pods();
            pods.len() == 1 && pods[0].name() == name
        })
        .await;
    assert_eq!(post(running.address, "/v1/completions", PROMPT).await.status, 200);
    assert_eq!((old.seen().len(), new.seen().len()), (0, 1));
}

#[tokio::test]
async fn decisions_and_their_outcomes_are_written_and_can_be_read() {
    let pod = Pod::answering(completion(0)).await;
    let folder = Folder::new("decisions");
    let path = folder.0.join("decisions.jsonl");
    let running =
        Running::start(&[pod.url()], &format!("decision_log: {{path: '{}'}}", path.display())).await;
    for _ in 0..3 {
        post(running.address, "/v1/completions", PROMPT).await;
    }
    running.wait_for_outcomes(3).await;
    running.gateway.close();
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<_> = text.lines().map(|line| LogLine::parse(line).expect(line)).collect();
    let decisions = lines.iter().filter(|line| matches!(line, LogLine::Decision(_))).count();
    assert_eq!((decisions, lines.len()), (3, 6));
}

#[tokio::test]
async fn a_gateway_that_starts_again_goes_on_where_it_was() {
    let (pod, other) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let folder = Folder::new("snapshot");
    let path = folder.0.join("router.snapshot");
    let section = format!("answer_headers: true, snapshot: {{path: '{}', interval_ms: 0}}", path.display());
    let urls = [pod.url(), other.url()];
    let prompt = format!(
        r#"{{"model":"m","prompt":[{}]}}"#,
        (0..400).map(|id| id.to_string()).collect::<Vec<_>>().join(",")
    );
    let before = Running::start(&urls, &section).await;
    let home =
        post(before.address, "/v1/completions", &prompt).await.header("x-kvroute-pod").unwrap().to_owned();
    before.gateway.close();
    drop(before);

    let again = Running::start(&urls, &section).await;
    let predicted = |running: &Running| {
        let pods = running.gateway.router().status().pods;
        pods.iter().find(|pod| pod.name == home).is_some_and(|pod| pod.predicted.blocks > 0)
    };
    again.until("what was sent is known again", predicted).await;
    let got = post(again.address, "/v1/completions", &prompt).await;
    assert_eq!(got.header("x-kvroute-pod"), Some(&*home));
    drop(again);

    // A pod that is gone stays gone, and a damaged file is refused as a whole.
    let single = Running::start(&[if home == pod.name() { other.url() } else { pod.url() }], &section).await;
    let router = single.gateway.router();
    assert!(snapshots::restore(router, Duration::ZERO, &path).unwrap().is_some());
    assert_eq!(router.pods().len(), 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 1);
    fs::write(&path, bytes).unwrap();
    let error = snapshots::restore(router, Duration::ZERO, &path).unwrap_err();
    assert!(error.to_string().contains("router.snapshot"), "{error}");
    assert_eq!(snapshots::restore(router, Duration::ZERO, &folder.0.join("none")), Ok(None));
}

#[test]
fn the_example_is_right_and_mistakes_are_named_with_their_place() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml");
    let document = Document::parse(&fs::read_to_string(example).unwrap()).unwrap();
    assert!(!document.fleet.pods.is_empty());
    for (text, said) in [
        ("gateway: {retrys: 1}", "did you mean `retries`? (line 1"),
        ("gateway:\n  timeouts: {idle_ms: 0}", "gateway.timeouts.idle_ms: found `0`"),
        ("gateway: {limits: {max_head_bytes: 5}}", "gateway.limits.max_head_bytes"),
        ("gateway: {session: {header: 'a b'}}", "gateway.session.header"),
        ("gateway: {session: {token_cookie: kv}}", "router.sessions.key"),
        ("gateway: {prefill: magic}", "magic"),
        ("router: {policy: {preset: costly}}", "costly"),
        ("tokenizers: {m: {}}", "tokenizers.m"),
    ] {
        let error = Document::parse(text).expect_err(text).to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[tokio::test]
async fn requests_wait_for_nobody_before_pods_have_answered() {
    let document = Document::parse("fleet: {pods: ['http://127.0.0.1:9']}").unwrap();
    let gateway = kvroute_gateway::gateway::Gateway::start(&document, Vec::new()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving =
        tokio::spawn(kvroute_gateway::server::serve(gateway, listener, None, std::future::pending()));
    sleep(Duration::from_millis(50)).await;
    assert_eq!(get(address, "/ready").await.status, 503);
    assert_eq!(get(address, "/health").await.status, 200);
    assert_eq!(post(address, "/v1/completions", PROMPT).await.status, 503);
    serving.abort();
}
