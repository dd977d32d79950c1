//! An index that llm-d wrote: its layout, written here as llm-d writes it.

use std::sync::Arc;

use kvroute_core::{HashContext, KnownPrefix, Tier};
use kvroute_io::shared::index::{IndexReader, LlmdAlgorithm, LlmdSource};

use super::super::server::Server;
use super::support::{Side, connect, domain, patient};

const PODS: [&str; 3] = ["10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"];

/// What Go's `encoding/json` makes of llm-d's `PodEntry`.
fn entry(pod: &str, tier: &str, is_speculative: bool, group: Option<u32>) -> String {
    let (has_group, group) = (group.is_some(), group.unwrap_or(0));
    format!(
        "{{\"PodIdentifier\":\"{pod}\",\"DeviceTier\":\"{tier}\",\"Speculative\":{is_speculative},\
         \"HasGroup\":{has_group},\"GroupIdx\":{group}}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn what_llm_d_wrote_is_read_as_it_means_it() {
    let server = Server::start(&[]);
    let side = Side::new(&domain("model"), &PODS);
    let router = Arc::clone(&side.router);
    let find = move |name: &str, rank: Option<u32>| {
        assert_eq!(rank, None, "llm-d knows no ranks");
        router.pod(name, 0).map(|pod| pod.id())
    };
    for algorithm in [LlmdAlgorithm::CborFnv, LlmdAlgorithm::Xxh64] {
        server.ask(&["FLUSHALL"]).await;
        let source = LlmdSource::new(algorithm, "seed", 16).unwrap();
        let token_ids: Vec<u32> = (0..16 * 200 + 5).collect();
        let keys = source.keys("model", &token_ids, &HashContext::default()).unwrap();
        assert_eq!(keys.len(), 200);
        let write = async |blocks: std::ops::Range<usize>, entry: String| {
            for key in &keys[blocks] {
                server.ask(&["HSET", &key.0.to_string(), &entry, ""]).await;
            }
        };
        write(0..150, entry(PODS[0], "gpu", false, None)).await;
        write(100..180, entry(PODS[0], "cpu", false, None)).await;
        // A hole, and what is only expected for a moment.
        write(0..40, entry(PODS[1], "gpu", false, None)).await;
        write(41..200, entry(PODS[1], "gpu", false, None)).await;
        write(40..41, entry(PODS[1], "", true, None)).await;
        // Groups have to agree.
        write(0..90, entry(PODS[2], "gpu", false, Some(0))).await;
        write(0..70, entry(PODS[2], "gpu", false, Some(1))).await;
        write(0..200, entry("10.9.9.9:1", "gpu", false, None)).await;
        write(0..200, "no entry".to_owned()).await;
        write(0..200, entry(PODS[1], "somewhere", false, None)).await;
        server.ask(&["ZADD", "engine:17", "0", &keys[0].0.to_string()]).await;

        let reader = IndexReader::of_llmd(connect(&server), source, find.clone(), patient());
        let mut known = loop {
            // Connecting takes a moment.
            match reader.known(0, keys.clone()).await {
                Ok(known) => break known,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        known.sort_unstable();
        let of = |pod, tier, blocks| KnownPrefix { pod: side.id(PODS[pod]), tier, blocks };
        let expected =
            [of(0, Tier::Gpu, 150), of(0, Tier::Cpu, 180), of(1, Tier::Gpu, 40), of(2, Tier::Gpu, 70)];
        assert_eq!(known, expected, "{algorithm:?}");
    }
}
