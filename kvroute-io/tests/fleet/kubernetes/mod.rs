//! Pods from the Kubernetes API, against a server that says what a real one says: lists in pages, watches line by line,
//! bookmarks, forgotten versions, connections that break.

mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use kvroute_core::Role;
use kvroute_io::fleet::{Fleet, FleetDocument, PodState};
use kvroute_io::pods::SourceStatus;
use serde_json::{Value, json};

use super::support::*;
use server::{ApiServer, Kind, Tell};

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
    let waited = tokio::time::timeout(Duration::from_secs(15), until("they are", is_so)).await;
    assert!(waited.is_ok(), "{:?} are followed, not {expected:?}; {:?}", followed(fleet), source(fleet));
}

fn source(fleet: &Fleet) -> SourceStatus {
    fleet.status().sources.pop().unwrap()
}

/// Why the API could not be asked last.
fn error(fleet: &Fleet) -> Option<String> {
    fleet.status().sources.pop()?.error
}

#[tokio::test]
async fn ready_pods_of_the_pool_come_and_go() {
    let api = ApiServer::start();
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
    let api = ApiServer::start();
    api.put(Kind::Pools, pool(&[fake.url.port()]));
    api.put(Kind::Pods, pod("decode", "127.0.0.1", true, Some("decode")));
    let fleet = start(api.config(""));
    until_state(&fleet, "decode", PodState::Ready).await;
    let routed = fleet.router().pod("decode", 0).unwrap();
    assert_eq!(routed.role(), Role::Decode);
    assert_eq!(routed.labels()["topology.kubernetes.io/zone"], "eu-1");
    assert_eq!(chosen(&fleet), ["decode"]);
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
    let api = ApiServer::start();
    api.put(Kind::Pools, pool(&[8000, 8001]));
    api.put(Kind::Pods, pod("a", "fd00::2", true, None));
    let fleet = start(api.config(""));
    let two = [("a-rank-0", "http://[fd00::2]:8000"), ("a-rank-1", "http://[fd00::2]:8001")];
    until_followed(&fleet, &two).await;
    api.put(Kind::Pools, pool(&[9000]));
    until_followed(&fleet, &[("a", "http://[fd00::2]:9000")]).await;
    // A pool that makes no sense changes nothing, and is told of; one that is gone takes its pods along.
    let mut broken = pool(&[]);
    broken["spec"]["selector"] = json!({});
    api.put(Kind::Pools, broken);
    until("it is told", || error(&fleet).filter(|error| error.contains("selects nothing"))).await;
    until_followed(&fleet, &[("a", "http://[fd00::2]:9000")]).await;
    api.delete(Kind::Pools, "llm");
    until_followed(&fleet, &[]).await;
    assert!(source(&fleet).error.unwrap().contains("no InferencePool `llm`"));
}

#[tokio::test]
async fn the_older_pools_form_and_a_selector_without_a_pool_do_as_well() {
    let api = ApiServer::start();
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
    let api = ApiServer::start();
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
    let api = ApiServer::start();
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    let fleet = start(api.config(""));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    api.until_watched(0).await;
    // A bookmark says how far it is; the next watch begins there.
    *api.state.version.lock() = 7777;
    let bookmark = json!({ "kind": "Pod", "metadata": { "resourceVersion": "7777" } });
    api.say(Kind::Pods, "BOOKMARK", &bookmark);
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.tell(Tell::End);
    api.until_watched(1).await;
    assert!(api.asked("/pods?").last().unwrap().ends_with("resourceVersion=7777"));
    assert_eq!(api.watches().1, 1, "nothing had to be listed again");

    // The connection breaks, and what happens meanwhile is told by the next watch.
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.tell(Tell::Cut);
    api.put(Kind::Pods, pod("b", "127.0.0.3", true, None));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000"), ("b", "http://127.0.0.3:8000")]).await;
    assert_eq!(api.watches().1, 1, "nothing had to be listed again");

    // The version is forgotten: all is listed again.
    let before = api.watches().0;
    api.until_watched(before - 1).await;
    api.state.objects.lock().remove(&(Kind::Pods, "a".to_owned()));
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
                       "message": "too old resource version: 7777 (9000)" });
    api.say(Kind::Pods, "ERROR", &gone);
    until_followed(&fleet, &[("b", "http://127.0.0.3:8000")]).await;
    assert_eq!(api.watches().1, 2);
}

#[tokio::test]
async fn an_api_that_fails_costs_no_pod_and_is_asked_again_with_the_newest_key() {
    let folder = directory("kubernetes");
    let token = folder.join("token");
    std::fs::write(&token, "first\n").unwrap();
    let api = ApiServer::start();
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    let fleet = start(api.config(&format!(", token_file: '{}'", token.display())));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    let key = || api.state.asked.lock().last().unwrap().1.clone();
    assert_eq!(key().as_deref(), Some("Bearer first"));
    api.until_watched(0).await;
    std::fs::write(&token, "second").unwrap();
    *api.state.status.lock() = Some(403);
    api.tell(Tell::Cut);
    until("it is told", || error(&fleet).filter(|error| error.contains("403"))).await;
    assert_eq!(followed(&fleet).len(), 1);
    *api.state.status.lock() = None;
    until("all is well again", || error(&fleet).is_none().then_some(())).await;
    assert_eq!(key().as_deref(), Some("Bearer second"));
    api.put(Kind::Pods, pod("b", "127.0.0.3", true, None));
    until("the next one is there", || (followed(&fleet).len() == 2).then_some(())).await;
    // A line that is none costs that watch.
    api.line(Kind::Pods, "{\"type\":".to_owned());
    until("it is told", || error(&fleet).filter(|error| error.contains("cannot be read"))).await;
    until("all is well again", || error(&fleet).is_none().then_some(())).await;
    assert_eq!(followed(&fleet).len(), 2);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn an_object_that_cannot_be_read_costs_no_other() {
    let api = ApiServer::start();
    let odd = |name: &str| {
        let mut odd = pod(name, "127.0.0.9", true, None);
        odd["status"]["conditions"] = json!("ready");
        odd
    };
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    api.put(Kind::Pods, odd("odd"));
    let fleet = start(api.config(""));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
    api.until_watched(0).await;
    api.put(Kind::Pods, odd("another"));
    api.put(Kind::Pods, pod("b", "127.0.0.3", true, None));
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000"), ("b", "http://127.0.0.3:8000")]).await;
    assert_eq!((error(&fleet), api.watches()), (None, (1, 1)));
    // A pool that cannot be read is not one that is gone.
    let mut broken = pool(&[8000]);
    broken["spec"]["targetPorts"] = json!("8000");
    api.put(Kind::Pools, broken);
    let gone = json!({ "kind": "Status", "code": 410, "message": "too old resource version" });
    api.say(Kind::Pools, "ERROR", &gone);
    until("it is told", || error(&fleet).filter(|error| error.contains("cannot be read"))).await;
    assert_eq!(followed(&fleet).len(), 2);
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_told_of_and_looked_at_again() {
    let folder = directory("kubernetes-ca");
    let file = folder.join("ca.crt");
    std::fs::write(&file, "no certificate").unwrap();
    let api = ApiServer::start();
    api.put(Kind::Pools, pool(&[8000]));
    api.put(Kind::Pods, pod("a", "127.0.0.2", true, None));
    let fleet = start(api.config(&format!(", ca_file: '{}'", file.display())));
    until("it is told", || error(&fleet).filter(|error| error.contains("ca.crt"))).await;
    assert!(api.asked("").is_empty());
    std::fs::write(&file, include_str!("../../../../examples/epp/tests/tls/ca.crt")).unwrap();
    until_followed(&fleet, &[("a", "http://127.0.0.2:8000")]).await;
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
