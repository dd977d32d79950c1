//! Several gateways in front of the same pods, with a real Redis between them.

#[path = "../../../../kvroute-io/tests/shared/server.rs"]
pub(crate) mod server;

use std::time::Duration;

use tokio::time::sleep;

use self::server::Server;
use crate::client::{get, post};
use crate::pod::{Answer, Pod, completion, send, wait};
use crate::setup::{Running, quoted};

async fn start(pods: &[&Pod], redis: &Server, more: &str) -> Running {
    let urls: Vec<_> = pods.iter().map(|pod| pod.url()).collect();
    let document = format!(
        "shared: {{urls: ['{}'], {more}reports: {{statement_ms: 500}}}}\nfleet: {{pods: [{}]}}\ngateway: {{answer_headers: true}}\n",
        redis.url(),
        quoted(&urls)
    );
    Running::with_document(&document, urls.len()).await
}

/// `of` peers.
fn requests(running: &Running) -> u32 {
    running.gateway.router().pods().iter().map(|pod| pod.peer_bookings().requests).sum()
}

fn hears(running: &Running, peers: usize) -> bool {
    running.gateway.shared().is_some_and(|shared| shared.status().peers.len() == peers)
}

fn prompt(first: u32) -> String {
    let ids: Vec<_> = (first..first + 400).map(|id| id.to_string()).collect();
    format!(r#"{{"model":"m","prompt":[{}]}}"#, ids.join(","))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_one_gateway_has_in_flight_the_other_counts_and_says() {
    let redis = Server::start(&[]);
    let answer = || Answer::stream(vec![send("data: 1\n\n"), wait(3000), send("data: 2\n\n")]);
    let (a, b) = (Pod::answering(answer()).await, Pod::answering(answer()).await);
    let (one, two) = (start(&[&a, &b], &redis, "replica: one, ").await, start(&[&a, &b], &redis, "").await);
    one.until("each hears the other", |_| hears(&one, 1) && hears(&two, 1)).await;
    let first = tokio::spawn(post(one.address, "/v1/completions", "{\"prompt\":[1,2,3]}"));
    two.until("it is in flight there", |two| requests(two) == 1).await;
    assert_eq!(redis.ask(&["EXISTS", "{kvroute}:peers"]).await, ::redis::Value::Int(1));
    // Nothing else tells the pods apart.
    let second = tokio::spawn(post(two.address, "/v1/completions", "{\"prompt\":[7,8,9]}"));
    one.until("each pod has one", |_| a.seen().len() == 1 && b.seen().len() == 1).await;
    let status: serde_json::Value =
        serde_json::from_slice(&get(two.address, "/status.json").await.body).unwrap();
    assert_eq!(status["shared"]["peers"][0]["name"], "one");
    assert_eq!(status["shared"]["peers"][0]["in_flight"], 1);
    let metrics = get(two.address, "/metrics").await.body;
    let metrics = String::from_utf8(metrics.to_vec()).unwrap();
    for line in [
        "kvroute_shared_peers 1",
        "kvroute_shared_peer_requests 1",
        "kvroute_shared_connected{connection=\"writer\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(first.await.unwrap().is_whole && second.await.unwrap().is_whole);
    two.until("nothing is left", |two| requests(two) == 0 && requests(&one) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_gateway_that_joins_starts_with_what_the_others_know() {
    let redis = Server::start(&[]);
    let (a, b) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let more = "snapshots: {interval_ms: 300}, ";
    let (one, _two) = (start(&[&a, &b], &redis, more).await, start(&[&a, &b], &redis, more).await);
    let home = post(one.address, "/v1/completions", &prompt(0)).await;
    let home = home.header("x-kvroute-pod").unwrap().to_owned();
    let stored = |running: &Running| running.gateway.shared().unwrap().status().snapshots.stored;
    let before = stored(&one) + stored(&_two);
    one.until("it is stored", |one| stored(one) + stored(&_two) >= before + 2).await;

    let three = start(&[&a, &b], &redis, "peers: false, snapshots: {interval_ms: 60000}, ").await;
    let knows = |running: &Running| {
        let pods = running.gateway.router().status().pods;
        pods.iter().any(|pod| pod.name == home && pod.predicted.blocks > 0)
    };
    three.until("it knows where that went", knows).await;
    let again = post(three.address, "/v1/completions", &prompt(0)).await;
    assert_eq!(again.header("x-kvroute-pod"), Some(&*home));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn without_redis_requests_are_answered_all_the_same_and_the_status_says_so() {
    let mut redis = Server::start(&[]);
    let pod = Pod::answering(completion(0)).await;
    let (one, two) = (start(&[&pod], &redis, "").await, start(&[&pod], &redis, "").await);
    one.until("each hears the other", |_| hears(&one, 1) && hears(&two, 1)).await;
    redis.kill();
    for n in 0..50 {
        assert_eq!(post(one.address, "/v1/completions", &prompt(n)).await.status, 200);
    }
    let trust = async || {
        let body = get(one.address, "/status.json").await.body;
        let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
        status["shared"]["trust"].as_str().unwrap().to_owned()
    };
    while trust().await != "local" {
        sleep(Duration::from_millis(20)).await;
    }
    redis.run();
    while trust().await != "shared" {
        sleep(Duration::from_millis(20)).await;
    }
}
