//! Deciding allocates nothing once its workspace is warm, and decoding allocates in proportion to its input.

use std::sync::Arc;
use std::time::Duration;

use kvroute_core::event::{BlockStored, EventBatch, KvEvent, decode_batch};
use kvroute_core::hash::{BlockHasher, HashContext, OwnScheme};
use kvroute_core::{CacheDomain, EngineHash, LoadReport, PodSpec, Request, Router, Tier, Workspace};

#[test]
fn a_warm_decision_allocates_nothing() {
    let domain = CacheDomain::new("model", BlockHasher::new(OwnScheme::default(), 16).unwrap()).unwrap();
    let domain = Arc::new(domain);
    let router = Router::default();
    let token_ids: Vec<u32> = (0..32_768).collect();
    for pod in 0..64 {
        let id = router.add_pod(PodSpec::new(format!("pod-{pod}"), Arc::clone(&domain))).unwrap();
        router.report_load(id, LoadReport { running: pod % 7, waiting: 0, kv_usage: 0.5 }).unwrap();
        let blocks = 1 + 30 * pod as usize;
        let event = BlockStored {
            block_hashes: (0..blocks as u64).map(EngineHash).collect(),
            token_ids: token_ids[..blocks * 16].to_vec(),
            block_size: 16,
            tier: Some(Tier::Gpu),
            ..BlockStored::default()
        };
        let batch = EventBatch { events: vec![KvEvent::Stored(event)], ..EventBatch::default() };
        router.index().apply_events(id, &batch).unwrap();
    }
    let context = HashContext { cache_salt: None, ..HashContext::default() };
    let mut workspace = Workspace::default();
    let request = Request::new(&token_ids, &context);
    let first = router.decide(&request, Duration::ZERO, &mut workspace).unwrap();
    assert_eq!(first.matched.total(), 1 + 30 * 63, "it finds the longest of 64 different prefixes");
    let used = allocation_counter::measure(|| {
        for _ in 0..100 {
            assert_eq!(router.decide(&request, Duration::ZERO, &mut workspace).unwrap(), first);
        }
    });
    assert_eq!(used.count_total, 0);
}

#[test]
fn a_header_that_claims_billions_of_entries_allocates_next_to_nothing() {
    // [0.0, array of 2^32 - 1 events ...]
    let claims = [0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff];
    let used = allocation_counter::measure(|| assert!(decode_batch(&claims).is_err()));
    assert!(used.bytes_max < 1024, "{} bytes for {} of input", used.bytes_max, claims.len());
}
