//! Pods from the Kubernetes API, against a server that says what a real one says: lists in pages, watches line by line,
//! bookmarks, forgotten versions, connections that break.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use kvroute_core::Role;
use kvroute_io::fleet::{Fleet, FleetConfig, FleetDocument, PodState};
use kvroute_io::pods::SourceStatus;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};

use super::support::*;

/// What a server's watches are told.
#[derive(Clone, Debug)]
enum Tell {
    /// A line, of this kind.
    Line(Kind, String),
    /// All of them end, as they do when their time is over.
    End,
    /// All connections break.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Pools,
    Pods,
}

#[derive(Debug, Default)]
struct State {
    objects: Mutex<BTreeMap<(Kind, String), Value>>,
    version: Mutex<u64>,
    /// Paths with their queries, and the key that was shown.
    asked: Mutex<Vec<(String, Option<String>)>>,
    /// What is answered in place of all else.
    status: Mutex<Option<u16>>,
    /// Objects a page.
    page: Mutex<usize>,
}

/// An API server.
struct ApiServer {
    address: SocketAddr,
    state: Arc<State>,
    tell: broadcast::Sender<Tell>,
    task: JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ApiServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, tell) = (Arc::new(State::default()), broadcast::channel(1024).0);
        (*state.page.lock(), *state.version.lock()) = (100, 1000);
        let task = tokio::spawn(serve(listener, Arc::clone(&state), tell.clone()));
        Self { address, state, tell, task }
    }

    /// Puts an object there, or changes it.
    fn put(&self, kind: Kind, mut object: Value) {
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let before = self.state.objects.lock().insert((kind, name), object.clone());
        self.say(kind, if before.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn delete(&self, kind: Kind, name: &str) {
        let version = self.next_version();
        let mut object = self.state.objects.lock().remove(&(kind, name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        self.say(kind, "DELETED", &object);
    }

    fn say(&self, kind: Kind, event: &str, object: &Value) {
        self.tell(Tell::Line(kind, json!({ "type": event, "object": object }).to_string()));
    }

    fn tell(&self, tell: Tell) {
        // Nobody may be watching.
        let _ = self.tell.send(tell);
    }

    fn next_version(&self) -> u64 {
        let mut version = self.state.version.lock();
        *version += 1;
        *version
    }

    fn asked(&self, part: &str) -> Vec<String> {
        let asked = self.state.asked.lock();
        asked.iter().filter(|(path, _)| path.contains(part)).map(|(path, _)| path.clone()).collect()
    }

    /// Waits until a watch of this kind runs that was asked for after `before` others.
    async fn until_watched(&self, kind: &str, before: usize) {
        let is_watched = || {
            let watches =
                self.asked(&format!("/{kind}?")).iter().filter(|path| path.contains("watch=1")).count();
            (watches > before).then_some(())
        };
        until("it is watched", is_watched).await;
        // Its head was sent before it listens for what is told.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }

    /// A fleet of the pool `llm` here.
    fn config(&self, more: &str) -> FleetConfig {
        let document = format!(
            "fleet:\n  kubernetes: {{namespace: serving, pool: llm, api: 'http://{}', timeout_ms: 2000{more}}}\n",
            self.address
        );
        let mut config = FleetDocument::parse(&document).unwrap().fleet;
        let quick = super::support::config(&[]);
        (config.learn, config.scrape, config.drain_ms) = (quick.learn, quick.scrape, 100);
        config
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, tell: broadcast::Sender<Tell>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, told) = (Arc::clone(&state), tell.subscribe());
        connections.spawn(async move {
            // A client that went away is no failure of the server's.
            let _ = answer(stream, state, told).await;
        });
    }
}

async fn answer(
    mut stream: TcpStream,
    state: Arc<State>,
    mut told: broadcast::Receiver<Tell>,
) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let key = head.lines().find_map(|line| line.strip_prefix("authorization: ")).map(str::to_owned);
        state.asked.lock().push((path.clone(), key));
        let kind = if path.contains("/inferencepools") { Kind::Pools } else { Kind::Pods };
        let status = *state.status.lock();
        if let Some(status) = status {
            write_all(&mut stream, status, "{}").await?;
        } else if path.contains("watch=1") {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            loop {
                match told.recv().await {
                    Ok(Tell::Line(of, line)) if of == kind => {
                        // In two chunks: lines and frames have nothing to do with each other.
                        let line = format!("{line}\n");
                        let (one, two) = line.split_at(line.len() / 2);
                        for part in [one, two] {
                            let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                            stream.write_all(chunk.as_bytes()).await?;
                            stream.flush().await?;
                        }
                    }
                    Ok(Tell::Line(..)) => {}
                    Ok(Tell::End) => break stream.write_all(b"0\r\n\r\n").await?,
                    Ok(Tell::Cut) | Err(_) => return Ok(()),
                }
            }
        } else {
            let page = list(&state, kind, &path);
            write_all(&mut stream, 200, &page).await?;
            // A watch tells what happens from here on.
            told = told.resubscribe();
        }
    }
}

async fn write_all(stream: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let length = body.len();
    stream
        .write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
        .await
}

fn list(state: &State, kind: Kind, path: &str) -> String {
    let next = path.rsplit("continue=").next().unwrap_or_default();
    let from: usize = next.parse().unwrap_or(0);
    let objects = state.objects.lock();
    let all: Vec<&Value> =
        objects.iter().filter(|((of, _), _)| *of == kind).map(|(_, object)| object).collect();
    let size = *state.page.lock();
    let page: Vec<_> = all.iter().skip(from).take(size).collect();
    let next = if from + size < all.len() { (from + size).to_string() } else { String::new() };
    let version = state.version.lock().to_string();
    json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version, "continue": next },
            "items": page })
    .to_string()
}

fn pool(ports: &[u16]) -> Value {
    let ports: Vec<_> = ports.iter().map(|port| json!({ "number": port })).collect();
    json!({
        "apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool",
        "metadata": { "name": "llm", "namespace": "serving", "uid": "6c1", "generation": 1 },
        "spec": { "selector": { "matchLabels": { "app": "vllm", "tier": "a/b" } }, "targetPorts": ports,
                  "endpointPickerRef": { "name": "epp", "port": { "number": 9002 }, "failureMode": "FailClose" } },
        "status": { "parents": [] },
    })
}

fn pod(name: &str, address: &str, is_ready: bool, role: Option<&str>) -> Value {
    let mut labels = json!({ "app": "vllm", "tier": "a/b", "topology.kubernetes.io/zone": "eu-1" });
    if let Some(role) = role {
        labels["llm-d.ai/role"] = json!(role);
    }
    let ready = if is_ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "serving", "uid": name, "labels": labels,
                      "ownerReferences": [{ "kind": "ReplicaSet", "name": "vllm", "uid": "1" }] },
        "spec": { "nodeName": "node-1", "containers": [{ "name": "vllm", "image": "vllm:0.32" }] },
        "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "hostIP": "10.1.0.1",
                    "conditions": [ { "type": "PodScheduled", "status": "True" },
                                    { "type": "Ready", "status": ready, "lastTransitionTime": null } ] },
    })
}

/// The pods that the fleet follows, with their URLs; those that are leaving are none.
fn followed(fleet: &Fleet) -> BTreeMap<String, String> {
    let pods = fleet.status().pods.into_iter().filter(|pod| pod.state != PodState::Draining);
    pods.map(|pod| (pod.name, pod.url.to_string())).collect()
}

async fn until_followed(fleet: &Fleet, pods: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        pods.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect();
    let is_so = || (followed(fleet) == expected).then_some(());
    let waited = tokio::time::timeout(std::time::Duration::from_secs(15), until("they are", is_so)).await;
    assert!(waited.is_ok(), "{:?} are followed, not {expected:?}; {:?}", followed(fleet), source(fleet));
}

fn source(fleet: &Fleet) -> SourceStatus {
    fleet.status().sources.pop().unwrap()
}

#[tokio::test]
async fn ready_pods_of_the_pool_come_and_go() {
    let api = ApiServer::start().await;
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    api.put(Kind::Pods, pod("b", "127.0.0.3", false, None));
    let fleet = start(api.config(""));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    let status = source(&fleet);
    assert_eq!((&*status.source, status.pods, status.error), ("kubernetes serving/llm", 1, None));
    assert!(status.read_seconds_ago.is_some());
    let asked = api.asked("/api/v1/namespaces/serving/pods?labelSelector=app%3Dvllm%2Ctier%3Da%2Fb&");
    assert!(!asked.is_empty(), "{:?}", api.asked(""));
    let asked =
        api.asked("/apis/inference.networking.k8s.io/v1/namespaces/serving/inferencepools?fieldSelector=");
    assert!(!asked.is_empty(), "{:?}", api.asked(""));

    api.until_watched("pods", 0).await;
    api.put(Kind::Pods, pod("b", "127.0.0.3", true, None));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000"), ("b", "http://127.0.0.3:8000")]).await;
    // One that is told to end is let go before it has gone.
    let mut leaving = pod("a", "127.0.0.2", true, None);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-23T12:00:00Z");
    api.put(Kind::Pods, leaving);
    until_followed(&fleet, &[("b", "http://127.0.0.3:8000")]).await;
    api.delete(Kind::Pods, "a");
    // It comes back under its name, elsewhere.
    api.put(Kind::Pods, pod("a", "127.0.0.9", true, None));
    until_followed(&fleet, &[("a", "http://127.0.0.9:8000"), ("b", "http://127.0.0.3:8000")]).await;
    api.delete(Kind::Pods, "b");
    until_followed(&fleet, &[("a", "http://127.0.0.9:8000")]).await;
}

#[tokio::test]
async fn a_pod_of_the_pool_gets_requests_with_its_role_and_labels() {
    let fake = FakePod::vllm().await;
    let api = ApiServer::start().await;
    api.put(Kind::Pools, pool(&[fake.url.port()]));
    api.put(Kind::Pods, pod("decode", "127.0.0.1", true, Some("decode")));
    let fleet = start(api.config(""));
    until_state(&fleet, "decode", PodState::Ready).await;
    let routed = fleet.router().pod("decode", 0).unwrap();
    assert_eq!(routed.role(), Role::Decode);
    assert_eq!(routed.labels()["topology.kubernetes.io/zone"], "eu-1");
    assert_eq!(chosen(&fleet), ["decode"]);
    api.until_watched("pods", 0).await;
    for (label, role) in [("prefill", Role::Prefill), ("prefill-decode", Role::Both)] {
        api.put(Kind::Pods, pod("decode", "127.0.0.1", true, Some(label)));
        let is_so = || fleet.router().pod("decode", 0).filter(|pod| pod.role() == role);
        until("it has its new role", is_so).await;
    }
    api.put(Kind::Pods, pod("decode", "127.0.0.1", true, Some("encode")));
    until_followed(&fleet, &[]).await;
}

#[tokio::test]
async fn each_port_of_a_pod_is_one_of_ours_and_another_pool_is_followed_at_once() {
    let api = ApiServer::start().await;
    api.put(Kind::Pools, pool(&[8000, 8001]));
    api.put(Kind::Pods, pod("a", "fd00::2", true, None));
    let fleet = start(api.config(""));
    let two = [("a-rank-0", "http://[fd00::2]:8000"), ("a-rank-1", "http://[fd00::2]:8001")];
    until_followed(&fleet, &two).await;
    api.until_watched("inferencepools", 0).await;
    api.put(Kind::Pools, pool(&[9000]));
    until_followed(&fleet, &[("a", "http://[fd00::2]:9000")]).await;
    // A pool that makes no sense changes nothing, and is told of; one that is gone takes its pods along.
    let mut broken = pool(&[]);
    broken["spec"]["selector"] = json!({});
    api.put(Kind::Pools, broken);
    until("it is told", || source(&fleet).error.filter(|error| error.contains("selects nothing"))).await;
    until_followed(&fleet, &[("a", "http://[fd00::2]:9000")]).await;
    api.delete(Kind::Pools, "llm");
    until_followed(&fleet, &[]).await;
    assert!(source(&fleet).error.unwrap().contains("no InferencePool `llm`"));
}

#[tokio::test]
async fn the_older_pools_form_and_a_selector_without_a_pool_do_as_well() {
    let api = ApiServer::start().await;
    let mut old = pool(&[]);
    old["spec"] = json!({ "selector": { "app": "vllm" }, "targetPortNumber": 8000 });
    api.put(Kind::Pools, old);
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    let fleet = start(api.config(", pool_version: v1alpha2"));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    assert!(!api.asked("/apis/inference.networking.x-k8s.io/v1alpha2/").is_empty());
    let mut config = api.config("");
    let kubernetes = config.kubernetes.as_mut().unwrap();
    (kubernetes.pool, kubernetes.ports) = (None, vec![8080]);
    kubernetes.selector.insert("app".into(), "vllm".into());
    fleet.reconfigure(config).unwrap();
    until_followed(&fleet, &[("a", "http://127.0.0.2:8080")]).await;
    assert_eq!(source(&fleet).source, "kubernetes serving/app=vllm");
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let api = ApiServer::start().await;
    *api.state.page.lock() = 3;
    api.put(Kind::Pools, pool(&[8000]));
    for number in 0..10 {
        api.put(Kind::Pods, pod(&format!("pod-{number}"), &format!("127.0.1.{number}"), true, None));
    }
    let fleet = start(api.config(""));
    until("all are there", || (followed(&fleet).len() == 10).then_some(())).await;
    assert_eq!(api.asked("/pods?").iter().filter(|path| !path.contains("watch=1")).count(), 4);
}

#[tokio::test]
async fn watches_go_on_where_they_ended_and_what_was_forgotten_is_listed_again() {
    let api = ApiServer::start().await;
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    let fleet = start(api.config(""));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    api.until_watched("pods", 0).await;
    // A bookmark says how far it is; the next watch begins there.
    let bookmark = json!({ "kind": "Pod", "metadata": { "resourceVersion": "7777" } });
    api.say(Kind::Pods, "BOOKMARK", &bookmark);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    api.tell(Tell::End);
    api.until_watched("pods", 1).await;
    assert!(api.asked("/pods?").last().unwrap().ends_with("resourceVersion=7777"));
    let lists = |api: &ApiServer| api.asked("/pods?").iter().filter(|path| !path.contains("watch=1")).count();
    assert_eq!(lists(&api), 1, "nothing had to be listed again");

    // The connection breaks; what happens meanwhile is told by the next watch (here: by the list after it is gone).
    let before = api.asked("/pods?").len();
    api.tell(Tell::Cut);
    until("it is watched again", || (api.asked("/pods?").len() > before).then_some(())).await;
    assert_eq!(followed(&fleet).len(), 1, "a pod is not gone because nobody tells of it");

    // The version is forgotten: all is listed again.
    let watches = api.asked("/pods?").iter().filter(|path| path.contains("watch=1")).count();
    api.until_watched("pods", watches - 1).await;
    api.state.objects.lock().remove(&(Kind::Pods, "a".to_owned()));
    let mut other = pod("c", "127.0.0.4", true, None);
    other["metadata"]["resourceVersion"] = json!("9000");
    api.state.objects.lock().insert((Kind::Pods, "c".to_owned()), other);
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
                       "message": "too old resource version: 7777 (9000)" });
    api.say(Kind::Pods, "ERROR", &gone);
    until_followed(&fleet, &[("c", "http://127.0.0.4:8000")]).await;
    assert_eq!(lists(&api), 2);
}

#[tokio::test]
async fn an_api_that_fails_costs_no_pod_and_is_asked_again_with_the_newest_key() {
    let folder = directory("kubernetes");
    let token = folder.join("token");
    std::fs::write(&token, "first\n").unwrap();
    let api = ApiServer::start().await;
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    let fleet = start(api.config(&format!(", token_file: '{}'", token.display())));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    let key = |api: &ApiServer| api.state.asked.lock().last().unwrap().1.clone();
    assert_eq!(key(&api).as_deref(), Some("Bearer first"));
    api.until_watched("pods", 0).await;
    std::fs::write(&token, "second").unwrap();
    *api.state.status.lock() = Some(403);
    api.tell(Tell::Cut);
    until("it is told", || source(&fleet).error.filter(|error| error.contains("403"))).await;
    assert_eq!(followed(&fleet).len(), 1);
    *api.state.status.lock() = None;
    until("all is well again", || source(&fleet).error.is_none().then_some(())).await;
    assert_eq!(key(&api).as_deref(), Some("Bearer second"));
    api.until_watched("pods", 1).await;
    api.put(Kind::Pods, pod("b", "127.0.0.3", true, None));
    until("the next one is there", || (followed(&fleet).len() == 2).then_some(())).await;
    // Lines that are none are told of, and watched anew.
    api.tell(Tell::Line(Kind::Pods, "{\"type\":".to_owned()));
    until("it is told", || source(&fleet).error.filter(|error| error.contains("cannot be read"))).await;
    until("all is well again", || source(&fleet).error.is_none().then_some(())).await;
    assert_eq!(followed(&fleet).len(), 2);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn mistakes_in_the_pools_configuration_are_named() {
    for (text, said) in [
        ("{namespace: a}", "found neither `pool` nor `selector` with `ports`"),
        ("{selector: {a: b}}", "found neither `pool` nor `selector` with `ports`"),
        ("{pool: a, ports: [1]}", "go without it"),
        ("{selector: {a: b}, ports: [0]}", "fleet.kubernetes.ports"),
        ("{pool: 'a/../b'}", "fleet.kubernetes.pool"),
        ("{pool: a, api: somewhere}", "fleet.kubernetes.api"),
        ("{pool: a, timeout_ms: 1}", "fleet.kubernetes.timeout_ms"),
        ("{pool: a, poll: 1}", "did you mean `pool`"),
    ] {
        let error = FleetDocument::parse(&format!("fleet: {{kubernetes: {text}}}")).expect_err(text);
        assert!(error.to_string().contains(said), "{text}: {error}");
    }
}
