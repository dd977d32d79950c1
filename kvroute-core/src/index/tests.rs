//! The index against the oracle; events no sane engine sends; writers that race; small tests for Miri.

mod adversarial;
mod predicted;
mod races;
mod small;
mod speculative;

use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::{BlockIndex, IndexOptions, MatchTable, PodId, PodOptions};
use crate::event::{BlockRemoved, BlockStored, EventBatch, KvEvent};
use crate::hash::{BlockHasher, HashScheme, HashSeed, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme};
use crate::oracle::history::{Setting, run};
use crate::{BlockHash, CacheDomain, EngineHash, Tier};
use alloc::string::String;
use alloc::sync::Arc;

/// One token a block keeps the events of these tests short.
fn native() -> Arc<CacheDomain> {
    let seed = HashSeed::Value(String::from("0"));
    let scheme = VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed).unwrap();
    domain(HashScheme::Vllm(scheme))
}

fn translated() -> Arc<CacheDomain> {
    domain(HashScheme::Own(OwnScheme::default()))
}

fn domain(scheme: HashScheme) -> Arc<CacheDomain> {
    Arc::new(CacheDomain::new("model", BlockHasher::new(scheme, 1).unwrap()).unwrap())
}

fn index(shards: usize) -> BlockIndex {
    BlockIndex::new(IndexOptions { shards, max_bytes: usize::MAX, ..IndexOptions::default() })
}

/// A store on the device; the token of a block is its number, so opaque engines agree where the numbers do.
fn stored(parent: Option<u64>, blocks: &[u64]) -> KvEvent {
    KvEvent::Stored(BlockStored {
        block_hashes: blocks.iter().copied().map(EngineHash).collect(),
        parent: parent.map(EngineHash),
        token_ids: blocks.iter().map(|&block| block as u32).collect(),
        block_size: 1,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    })
}

fn offloaded(blocks: &[u64]) -> KvEvent {
    KvEvent::Stored(BlockStored {
        block_hashes: blocks.iter().copied().map(EngineHash).collect(),
        tier: Some(Tier::Cpu),
        ..BlockStored::default()
    })
}

fn removed(tier: Tier, blocks: &[u64]) -> KvEvent {
    let block_hashes = blocks.iter().copied().map(EngineHash).collect();
    KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(tier), group: 0 })
}

fn apply(index: &BlockIndex, pod: PodId, event: KvEvent) {
    let batch = EventBatch { events: std::vec![event], ..EventBatch::default() };
    index.apply_events(pod, &batch).unwrap();
}

fn depth(index: &BlockIndex, domain: &CacheDomain, pod: PodId, query: &[u64]) -> u32 {
    let query: Vec<_> = query.iter().copied().map(BlockHash).collect();
    let mut table = MatchTable::default();
    index.lookup(domain, &query, &mut table);
    table.blocks(pod).total()
}

/// Every pod goes; nothing may be left.
fn assert_all_is_given_back(index: &BlockIndex, pods: &[PodId]) {
    pods.iter().for_each(|&pod| index.remove_pod(pod).unwrap());
    assert_eq!((index.blocks(), index.bytes(), index.recount()), (0, 0, 0));
}

fn histories(setting: Setting) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let bytes = prop::collection::vec(any::<u8>(), 0..480);
    let result = runner.run(&bytes, |bytes: Vec<u8>| {
        run(setting, &bytes).map_err(|difference| TestCaseError::fail(difference.to_string()))
    });
    if let Err(error) = result {
        let text = error.to_string().replace("\n", " ").replace("    ", "");
        panic!("{setting:?}: {text}");
    }
}

#[test]
fn native_histories_equal_the_oracle() {
    histories(Setting { translated: false, hybrid: false, replay: false, guarded: false });
}

#[test]
fn native_histories_with_replay_equal_the_oracle() {
    histories(Setting { translated: false, hybrid: false, replay: true, guarded: false });
}

#[test]
fn native_hybrid_histories_equal_the_oracle() {
    histories(Setting { translated: false, hybrid: true, replay: true, guarded: false });
}

#[test]
fn translated_histories_equal_the_oracle() {
    histories(Setting { translated: true, hybrid: false, replay: false, guarded: false });
}

#[test]
fn translated_histories_with_replay_equal_the_oracle() {
    histories(Setting { translated: true, hybrid: false, replay: true, guarded: false });
}

#[test]
fn translated_hybrid_histories_equal_the_oracle() {
    histories(Setting { translated: true, hybrid: true, replay: false, guarded: false });
}

#[test]
fn guarded_native_histories_never_exceed_the_oracle() {
    histories(Setting { translated: false, hybrid: false, replay: true, guarded: true });
}

#[test]
fn guarded_translated_hybrid_histories_never_exceed_the_oracle() {
    histories(Setting { translated: true, hybrid: true, replay: false, guarded: true });
}
