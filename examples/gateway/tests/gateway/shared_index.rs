//! Gateways that follow no events, and route by what others wrote into Redis.

use kvroute_core::event::{BlockStored, EventBatch, KvEvent};
use kvroute_core::{EngineHash, HashContext, Tier};
use kvroute_io::shared::index::{LlmdAlgorithm, LlmdSource};

use super::shared::server::Server;
use crate::client::{get, post};
use crate::pod::{Pod, completion};
use crate::setup::{Running, quoted};

async fn start(pods: &[&Pod], redis: &Server, index: &str) -> Running {
    let urls: Vec<_> = pods.iter().map(|pod| pod.url()).collect();
    let document = format!(
        "shared: {{urls: ['{}'], peers: false, index: {{{index}}}}}\nfleet: {{pods: [{}]}}\n\
         gateway: {{answer_headers: true}}\n",
        redis.url(),
        quoted(&urls)
    );
    Running::with_document(&document, urls.len()).await
}

fn request(token_ids: &[u32]) -> String {
    let ids: Vec<_> = token_ids.iter().map(u32::to_string).collect();
    format!(r#"{{"model":"m","prompt":[{}]}}"#, ids.join(","))
}

/// What an engine would publish that stored all full blocks of a prompt.
fn store(running: &Running, pod: &str, token_ids: &[u32]) {
    let router = running.gateway.router();
    let pod = router.pod(pod, 0).expect("it is there");
    let size = pod.domain().block_size();
    let whole = token_ids.len() / size as usize;
    let event = BlockStored {
        block_hashes: (1..=whole as u64).map(|n| EngineHash(n << 32 | u64::from(token_ids[0]))).collect(),
        token_ids: token_ids[..whole * size as usize].to_vec(),
        block_size: size,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    };
    let batch = EventBatch { events: vec![KvEvent::Stored(event)], ..EventBatch::default() };
    router.apply_events(pod.id(), &batch).expect("it is there");
}

async fn page(running: &Running, path: &str) -> String {
    String::from_utf8(get(running.address, path).await.body.to_vec()).expect("it is text")
}

fn names(running: &Running) -> Vec<String> {
    running.gateway.router().pods().iter().map(|pod| pod.name().to_owned()).collect()
}

/// Asks until the prompt goes to the pod because of what is held there.
async fn goes_to(running: &Running, pod: &str, token_ids: &[u32], known: u64) {
    let body = request(token_ids);
    loop {
        let explained = post(
            running.address,
            "/explain",
            &format!(r#"{{"endpoint":"/v1/completions","request":{body}}}"#),
        )
        .await;
        let explained: serde_json::Value = serde_json::from_slice(&explained.body).expect("it is JSON");
        let pods = explained["explanation"]["pods"].as_array().cloned().unwrap_or_default();
        let told = pods.iter().find(|told| told["pod"] == pod).map(|told| told["known_blocks"].clone());
        if told.as_ref().and_then(serde_json::Value::as_u64) == Some(known) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let answer = post(running.address, "/v1/completions", &body).await;
    assert_eq!(answer.header("x-kvroute-pod"), Some(pod));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_gateway_without_events_routes_by_what_another_wrote() {
    let redis = Server::start(&[]);
    let (a, b) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let one = start(&[&a, &b], &redis, "write: true").await;
    let two = start(&[&a, &b], &redis, "read: true, budget_ms: 1000").await;
    let names = names(&one);
    for (seed, pod) in names.iter().chain(&names).enumerate() {
        let first = 1 + seed as u32 * 10_000;
        let token_ids: Vec<u32> = (first..first + 1600).collect();
        store(&one, pod, &token_ids);
        let searchable = one.gateway.router().pods()[0].domain().searchable_blocks(token_ids.len());
        goes_to(&two, pod, &token_ids, searchable as u64).await;
    }
    let metrics = page(&two, "/metrics").await;
    for line in [
        "kvroute_shared_index_answering 1",
        "kvroute_shared_index_seconds_count",
        "kvroute_shared_index_hits_total",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let written = page(&one, "/metrics").await;
    assert!(written.contains("kvroute_shared_index_pods{state=\"written\"} 2"), "{written}");
    let status: serde_json::Value =
        serde_json::from_str(&page(&two, "/status.json").await).expect("it is JSON");
    assert_eq!(
        (&status["index"]["reader"]["answering"], &status["index"]["writer"]),
        (&true.into(), &serde_json::Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_gateway_beside_llm_d_routes_by_its_index() {
    let redis = Server::start(&[]);
    let (a, b) = (Pod::answering(completion(0)).await, Pod::answering(completion(0)).await);
    let index = "read: true, budget_ms: 1000, layout: llm-d, llmd: {hash_seed: s, block_size_tokens: 64}";
    let running = start(&[&a, &b], &redis, index).await;
    let source = LlmdSource::new(LlmdAlgorithm::CborFnv, "s", 64).expect("a source");
    for (seed, pod) in names(&running).iter().enumerate() {
        let first = 1 + seed as u32 * 10_000;
        let token_ids: Vec<u32> = (first..first + 641).collect();
        let entry = format!(
            "{{\"PodIdentifier\":\"{pod}\",\"DeviceTier\":\"gpu\",\"Speculative\":false,\"HasGroup\":false,\"GroupIdx\":0}}"
        );
        for key in source.keys("m", &token_ids, &HashContext::default()).expect("keys") {
            redis.ask(&["HSET", &key.0.to_string(), &entry, ""]).await;
        }
        let size = running.gateway.router().pods()[0].domain().block_size();
        goes_to(&running, pod, &token_ids, u64::from(640 / size)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn without_redis_a_gateway_answers_as_fast_as_it_can_and_says_so() {
    let redis = Server::start(&[]);
    let pod = Pod::answering(completion(0)).await;
    let running = start(&[&pod], &redis, "read: true, budget_ms: 5").await;
    redis.stop();
    let begun = std::time::Instant::now();
    for n in 1..100 {
        assert_eq!(post(running.address, "/v1/completions", &request(&[n; 100])).await.status, 200);
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(page(&running, "/metrics").await.contains("kvroute_shared_index_answering 0"));
}
