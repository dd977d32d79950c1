//! What the index must answer, one behaviour a test, by the public API alone.
//!
//! Each mistake that users of other indexes report is a test here. What the tests
//! share, events and how they are sent, is in this file; the rest is a file a subject.

mod adapters_and_salts;
mod clears_and_generations;
mod copies;
mod domains;
mod groups;
mod holes_and_parents;
mod memory;
mod ranks;
mod streams;
mod tiers;
mod unknown_parents;

use std::sync::Arc;

use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, EventLora, GroupKind, KvEvent};
use kvroute_core::hash::{
    BlockHasher, ExtraKey, HashContext, HashScheme, HashSeed, Lora, OwnScheme, VllmAlgorithm, VllmEra,
    VllmScheme,
};
use kvroute_core::index::{
    ApplyReport, BlockIndex, CopyPolicy, GapPolicy, IgnoreReason, IndexOptions, MatchTable, Outcome, PodId,
    PodOptions, ResyncReason, TierBlocks, TrustLevel,
};
use kvroute_core::{BlockHash, CacheDomain, EngineHash, ErrorKind, Tier};
use rmp::encode as write;

const BLOCK_SIZE: u32 = 4;

/// A domain whose engines publish the very hashes that requests have: blocks are plain numbers in most tests.
fn native(name: &str) -> Arc<CacheDomain> {
    let seed = HashSeed::Value("0".to_owned());
    let scheme = VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed).expect("a scheme");
    let hasher = BlockHasher::new(HashScheme::Vllm(scheme), BLOCK_SIZE).expect("a hasher");
    Arc::new(CacheDomain::new(name, hasher).expect("a domain"))
}

/// A domain whose engines' hashes are opaque.
fn translated(name: &str) -> Arc<CacheDomain> {
    let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE).expect("a hasher");
    Arc::new(CacheDomain::new(name, hasher).expect("a domain"))
}

/// Token ids of `blocks` blocks; `first` tells prompts apart.
fn tokens(first: u32, blocks: usize) -> Vec<u32> {
    (first..).take(blocks * BLOCK_SIZE as usize).collect()
}

fn hashes(blocks: &[u64]) -> Vec<EngineHash> {
    blocks.iter().copied().map(EngineHash).collect()
}

fn query(blocks: &[u64]) -> Vec<BlockHash> {
    blocks.iter().copied().map(BlockHash).collect()
}

/// A store on the device, group 0.
fn store(parent: Option<u64>, blocks: &[u64]) -> BlockStored {
    BlockStored {
        block_hashes: hashes(blocks),
        parent: parent.map(EngineHash),
        token_ids: tokens(0, blocks.len()),
        block_size: BLOCK_SIZE,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    }
}

/// A store whose tokens matter.
fn store_tokens(parent: Option<u64>, blocks: &[u64], token_ids: &[u32]) -> BlockStored {
    BlockStored { token_ids: token_ids.to_vec(), ..store(parent, blocks) }
}

/// An offload announcement: no tokens, no parent, no block size.
fn offload(tier: Tier, blocks: &[u64]) -> BlockStored {
    BlockStored { block_hashes: hashes(blocks), tier: Some(tier), ..BlockStored::default() }
}

fn in_group(group: u32, group_kind: Option<GroupKind>, stored: BlockStored) -> BlockStored {
    BlockStored { group, group_kind, ..stored }
}

fn remove(blocks: &[u64]) -> BlockRemoved {
    BlockRemoved { block_hashes: hashes(blocks), tier: Some(Tier::Gpu), group: 0 }
}

fn remove_from(tier: Option<Tier>, group: u32, blocks: &[u64]) -> BlockRemoved {
    BlockRemoved { block_hashes: hashes(blocks), tier, group }
}

/// What an event can be made of.
trait Event {
    fn event(self) -> KvEvent;
}

impl Event for BlockStored {
    fn event(self) -> KvEvent {
        KvEvent::Stored(self)
    }
}

impl Event for BlockRemoved {
    fn event(self) -> KvEvent {
        KvEvent::Removed(self)
    }
}

impl Event for KvEvent {
    fn event(self) -> KvEvent {
        self
    }
}

/// An index with one domain most tests use.
struct Setup {
    index: BlockIndex,
    domain: Arc<CacheDomain>,
}

impl Setup {
    fn native() -> Self {
        Self { index: BlockIndex::default(), domain: native("model") }
    }

    fn translated() -> Self {
        Self { index: BlockIndex::default(), domain: translated("model") }
    }

    fn bounded(domain: Arc<CacheDomain>, max_bytes: usize) -> Self {
        Self {
            index: BlockIndex::new(IndexOptions { shards: 1, max_bytes, ..IndexOptions::default() }),
            domain,
        }
    }

    fn pod(&self) -> PodId {
        self.index.add_pod(Arc::clone(&self.domain), PodOptions::default())
    }

    fn pod_with(&self, set: impl FnOnce(&mut PodOptions)) -> PodId {
        let mut options = PodOptions::default();
        set(&mut options);
        self.index.add_pod(Arc::clone(&self.domain), options)
    }

    fn apply(&self, pod: PodId, event: impl Event) -> ApplyReport {
        self.apply_all(pod, vec![event.event()])
    }

    fn apply_all(&self, pod: PodId, events: Vec<KvEvent>) -> ApplyReport {
        let batch = EventBatch { events, ..EventBatch::default() };
        self.index.apply_events(pod, &batch).expect("a known pod")
    }

    fn send(&self, pod: PodId, sequence: u64, events: &[KvEvent]) -> Outcome {
        self.index.apply_batch(pod, sequence, &payload(0.0, Some(0), events)).expect("a known pod").outcome
    }

    fn usable(&self, pod: PodId, blocks: &[BlockHash]) -> TierBlocks {
        let mut table = MatchTable::default();
        self.index.lookup(&self.domain, blocks, &mut table);
        table.blocks(pod)
    }

    /// Leading blocks `pod` can use of a query of plain numbers.
    fn depth(&self, pod: PodId, blocks: &[u64]) -> u32 {
        self.usable(pod, &query(blocks)).total()
    }

    /// The same by tier: device, host, disk, external.
    fn tiers(&self, pod: PodId, blocks: &[u64]) -> [u32; 4] {
        let usable = self.usable(pod, &query(blocks));
        Tier::ALL.map(|tier| usable.in_tier(tier))
    }

    fn hash(&self, token_ids: &[u32], context: &HashContext) -> Vec<BlockHash> {
        self.domain.hasher().hash(token_ids, context).expect("hashes")
    }

    fn depth_of_tokens(&self, pod: PodId, token_ids: &[u32]) -> u32 {
        self.usable(pod, &self.hash(token_ids, &HashContext::default())).total()
    }

    fn trust(&self, pod: PodId) -> TrustLevel {
        self.index.trust(pod).expect("a known pod")
    }

    fn ignored(&self, pod: PodId, reason: IgnoreReason) -> u64 {
        self.index.counters(pod).expect("a known pod").ignored_for(reason)
    }
}

/// A batch as an engine publishes it. Only what the tests that use it need is written.
fn payload(stamp: f64, rank: Option<u32>, events: &[KvEvent]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let out = &mut bytes;
    write::write_array_len(out, 3).expect("a vector takes all");
    write::write_f64(out, stamp).expect("a vector takes all");
    write::write_array_len(out, events.len() as u32).expect("a vector takes all");
    for event in events {
        match event {
            KvEvent::Stored(stored) => {
                // The array form of vLLM 0.22: no adapter, no medium, no extra keys, the group.
                write::write_array_len(out, 12).expect("a vector takes all");
                write::write_str(out, "BlockStored").expect("a vector takes all");
                write_hashes(out, &stored.block_hashes);
                match stored.parent {
                    Some(hash) => drop(write::write_uint(out, hash.0).expect("a vector takes all")),
                    None => write::write_nil(out).expect("a vector takes all"),
                }
                write::write_array_len(out, stored.token_ids.len() as u32).expect("a vector takes all");
                for &token in &stored.token_ids {
                    write::write_uint(out, u64::from(token)).expect("a vector takes all");
                }
                write::write_uint(out, u64::from(stored.block_size)).expect("a vector takes all");
                (0..4).for_each(|_| write::write_nil(out).expect("a vector takes all"));
                write::write_uint(out, u64::from(stored.group)).expect("a vector takes all");
                let (kind, window) = match stored.group_kind {
                    Some(GroupKind::FullAttention) => ("full_attention", 0),
                    Some(GroupKind::SlidingWindow { window }) => ("sliding_window", window),
                    _ => ("", 0),
                };
                match kind {
                    "" => write::write_nil(out).expect("a vector takes all"),
                    kind => write::write_str(out, kind).expect("a vector takes all"),
                }
                match window {
                    0 => write::write_nil(out).expect("a vector takes all"),
                    window => drop(write::write_uint(out, u64::from(window)).expect("a vector takes all")),
                }
            }
            KvEvent::Removed(removed) => {
                write::write_array_len(out, 2).expect("a vector takes all");
                write::write_str(out, "BlockRemoved").expect("a vector takes all");
                write_hashes(out, &removed.block_hashes);
            }
            KvEvent::Cleared => {
                write::write_array_len(out, 1).expect("a vector takes all");
                write::write_str(out, "AllBlocksCleared").expect("a vector takes all");
            }
        }
    }
    match rank {
        Some(rank) => drop(write::write_uint(out, u64::from(rank)).expect("a vector takes all")),
        None => write::write_nil(out).expect("a vector takes all"),
    }
    bytes
}

fn write_hashes(out: &mut Vec<u8>, hashes: &[EngineHash]) {
    write::write_array_len(out, hashes.len() as u32).expect("a vector takes all");
    for hash in hashes {
        write::write_uint(out, hash.0).expect("a vector takes all");
    }
}
