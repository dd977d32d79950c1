//! What the index must answer, one behaviour a test, by the public API alone.
//!
//! Each mistake that users of other indexes report is a test here. One file though it is long: every
//! section leans on the few helpers at its top, and is read as a list.

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
        Self { index: BlockIndex::new(IndexOptions { shards: 1, max_bytes }), domain }
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

mod holes_and_parents {
    use super::*;

    #[test]
    fn nothing_is_credited_past_a_hole() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1, 2, 3, 4, 5]));
        setup.apply(pod, remove(&[3]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 2);
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 0);
    }

    #[test]
    fn a_query_that_leaves_the_chain_is_credited_up_to_there() {
        let setup = Setup::native();
        let pod = setup.pod();
        let chain: Vec<u64> = (1..=3000).collect();
        setup.apply(pod, store(None, &chain));
        for leaves_at in [0, 1, 2, 1022, 1023, 1024, 1025, 2047, 2048, 2999] {
            let mut blocks = chain.clone();
            blocks[leaves_at..].iter_mut().for_each(|block| *block += 1_000_000);
            assert_eq!(setup.depth(pod, &blocks), leaves_at as u32, "leaves at {leaves_at}");
            assert_eq!(setup.depth(pod, &chain[..leaves_at]), leaves_at as u32, "ends at {leaves_at}");
        }
        assert_eq!(setup.depth(pod, &chain), 3000);
    }

    #[test]
    fn a_chain_may_be_announced_in_pieces_of_any_size() {
        let setup = Setup::native();
        let pod = setup.pod();
        let chain: Vec<u64> = (1..=2500).collect();
        let (mut done, mut piece) = (0, 1);
        while done < chain.len() {
            let end = (done + piece).min(chain.len());
            setup.apply(pod, store(done.checked_sub(1).map(|i| chain[i]), &chain[done..end]));
            (done, piece) = (end, piece * 2 % 701);
        }
        assert_eq!(setup.depth(pod, &chain), 2500);
        assert_eq!(setup.index.blocks(), 2500);
    }

    #[test]
    fn a_removed_parent_keeps_the_children_of_other_pods() {
        let setup = Setup::native();
        let (gone, stays) = (setup.pod(), setup.pod());
        for pod in [gone, stays] {
            setup.apply(pod, store(None, &[1, 2, 3]));
        }
        setup.apply(gone, remove(&[1]));
        assert_eq!(setup.depth(stays, &[1, 2, 3]), 3);
        assert_eq!(setup.depth(gone, &[1, 2, 3]), 0);
    }

    #[test]
    fn children_are_credited_again_when_their_parent_returns() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, store(Some(1), &[20, 30]));
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.depth(pod, &[1, 20, 30]), 0);
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
        assert_eq!(setup.depth(pod, &[1, 20, 30]), 3);
    }

    #[test]
    fn a_parent_removed_by_its_only_holder_is_still_a_place_for_its_children() {
        let setup = Setup::native();
        let (pod, late) = (setup.pod(), setup.pod());
        setup.apply(pod, store(None, &[1, 2]));
        setup.apply(pod, store(Some(1), &[20]));
        setup.apply(pod, remove(&[1]));
        // Nobody holds block 1, yet a pod may announce what follows it, and hold it later.
        assert_eq!(setup.apply(late, store(Some(1), &[2])).outcome, Outcome::Applied);
        assert_eq!(setup.depth(late, &[1, 2]), 0);
        setup.apply(late, store(None, &[1]));
        assert_eq!(setup.depth(late, &[1, 2]), 2);
    }

    #[test]
    fn a_chain_that_leaves_a_long_run_in_the_middle_is_credited_through_both() {
        let setup = Setup::native();
        let (long, fork) = (setup.pod(), setup.pod());
        let chain: Vec<u64> = (1..=50).collect();
        setup.apply(long, store(None, &chain));
        let forked: Vec<u64> = (1..=20).chain(1020..1040).collect();
        setup.apply(fork, store(None, &forked));
        assert_eq!(setup.depth(fork, &forked), 40);
        assert_eq!(setup.depth(fork, &chain), 20);
        assert_eq!(setup.depth(long, &forked), 20);
        assert_eq!(setup.index.blocks(), 70, "what both hold is kept once");
    }

    #[test]
    fn one_pods_eviction_leaves_the_others() {
        let setup = Setup::native();
        let pods: Vec<_> = (0..5).map(|_| setup.pod()).collect();
        for &pod in &pods {
            setup.apply(pod, store(None, &[1, 2, 3, 4]));
        }
        setup.apply(pods[2], remove(&[4, 3, 2, 1]));
        for (i, &pod) in pods.iter().enumerate() {
            assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), if i == 2 { 0 } else { 4 }, "pod {i}");
        }
    }

    #[test]
    fn two_hundred_holders_of_one_block_are_all_found() {
        let setup = Setup::native();
        let pods: Vec<_> = (0..200).map(|_| setup.pod()).collect();
        for &pod in &pods {
            setup.apply(pod, store(None, &[7]));
        }
        let mut table = MatchTable::default();
        setup.index.lookup(&setup.domain, &query(&[7]), &mut table);
        assert_eq!(table.matches().len(), 200);
        assert!(pods.iter().all(|&pod| table.blocks(pod).total() == 1));
    }

    #[test]
    fn two_thousand_pods_have_each_their_own_answer() {
        let setup = Setup::native();
        let chain: Vec<u64> = (1..=2000).collect();
        let pods: Vec<_> = (0..2000).map(|_| setup.pod()).collect();
        for (i, &pod) in pods.iter().enumerate() {
            setup.apply(pod, store(None, &chain[..=i]));
        }
        let mut table = MatchTable::default();
        setup.index.lookup(&setup.domain, &query(&chain), &mut table);
        assert_eq!(table.matches().len(), 2000);
        for found in table.matches() {
            let i = pods.iter().position(|&pod| pod == found.pod).expect("a pod of this index");
            assert_eq!(found.blocks.total(), i as u32 + 1, "pod {i}");
        }
    }

    #[test]
    fn an_empty_query_matches_nobody() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.depth(pod, &[]), 0);
    }

    #[test]
    fn a_table_keeps_nothing_of_the_query_before() {
        let setup = Setup::native();
        let (first, second) = (setup.pod(), setup.pod());
        setup.apply(first, store(None, &[1, 2]));
        setup.apply(second, store(None, &[3]));
        let mut table = MatchTable::default();
        setup.index.lookup(&setup.domain, &query(&[1, 2]), &mut table);
        setup.index.lookup(&setup.domain, &query(&[3]), &mut table);
        assert_eq!((table.blocks(first).total(), table.blocks(second).total()), (0, 1));
        assert_eq!(table.matches().len(), 1);
    }

    #[test]
    fn the_last_token_is_never_searched_for() {
        let domain = native("model");
        for (prompt, blocks) in [(0, 0), (1, 0), (4, 0), (5, 1), (8, 1), (9, 2), (4001, 1000)] {
            assert_eq!(domain.searchable_blocks(prompt), blocks, "{prompt} tokens");
        }
    }
}

mod unknown_parents {
    use super::*;

    #[test]
    fn a_block_with_an_unknown_parent_is_parked_and_never_rooted() {
        for setup in [Setup::native(), Setup::translated()] {
            let pod = setup.pod();
            assert_eq!(setup.apply(pod, store(Some(1), &[2, 3])).outcome, Outcome::Parked);
            assert_eq!(setup.index.parked_blocks(pod), Ok(2));
            assert_eq!(setup.depth(pod, &[2, 3]), 0);
            assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 2)), 0);
            assert_eq!(setup.index.blocks(), 0);
            assert_eq!(setup.index.counters(pod).expect("a known pod").parked, 1);
        }
    }

    #[test]
    fn parked_chains_are_placed_when_their_parent_arrives() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(Some(4), &[5]));
        setup.apply(pod, store(Some(2), &[3, 4]));
        setup.apply(pod, store(Some(2), &[30]));
        assert_eq!(setup.index.parked_blocks(pod), Ok(4));
        assert_eq!(setup.apply(pod, store(None, &[1, 2])).outcome, Outcome::Applied);
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 5);
        assert_eq!(setup.depth(pod, &[1, 2, 30]), 3);
        assert_eq!(setup.index.parked_blocks(pod), Ok(0));
    }

    #[test]
    fn parked_blocks_of_opaque_engines_are_hashed_when_placed() {
        let setup = Setup::translated();
        let pod = setup.pod();
        let prompt = tokens(100, 4);
        setup.apply(pod, store_tokens(Some(1), &[2, 3, 4], &prompt[4..]));
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
        setup.apply(pod, store_tokens(None, &[1], &prompt[..4]));
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 4);
    }

    #[test]
    fn a_block_removed_while_parked_is_not_placed() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(Some(1), &[2, 3]));
        assert_eq!(setup.apply(pod, remove(&[2])).outcome, Outcome::Applied);
        assert_eq!(setup.index.parked_blocks(pod), Ok(1));
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 1);
    }

    #[test]
    fn copies_of_a_parked_block_are_counted() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, remove(&[2]));
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.depth(pod, &[1, 2]), 2, "one of the two copies is left");
        setup.apply(pod, remove(&[2]));
        assert_eq!(setup.depth(pod, &[1, 2]), 1);
    }

    #[test]
    fn copies_gathered_while_parked_count_once_the_block_is_placed() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, remove(&[2]));
        assert_eq!(setup.depth(pod, &[1, 2]), 2);
        setup.apply(pod, remove(&[2]));
        assert_eq!(setup.depth(pod, &[1, 2]), 1);
    }

    #[test]
    fn parking_is_bounded_and_what_does_not_fit_is_counted() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.max_parked = 10);
        let report = setup.apply(pod, store(Some(1), &(2..=16).collect::<Vec<_>>()));
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::ParkedFull));
        assert_eq!(setup.index.parked_blocks(pod), Ok(10));
        assert_eq!(setup.index.counters(pod).expect("a known pod").blocks_refused, 5);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.depth(pod, &(1..=16).collect::<Vec<_>>()), 11);
    }

    #[test]
    fn a_clear_forgets_what_was_parked() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, KvEvent::Cleared);
        assert_eq!(setup.index.parked_blocks(pod), Ok(0));
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.depth(pod, &[1, 2]), 1);
    }

    #[test]
    fn a_parent_known_from_another_pod_is_a_place_where_hashes_are_shared() {
        let setup = Setup::native();
        let (first, late) = (setup.pod(), setup.pod());
        setup.apply(first, store(None, &[1, 2]));
        assert_eq!(setup.apply(late, store(Some(2), &[3])).outcome, Outcome::Applied);
        assert_eq!(setup.depth(late, &[1, 2, 3]), 0, "a late joiner may undercount, never overcount");
        assert_eq!(setup.depth(first, &[1, 2, 3]), 2);
    }

    #[test]
    fn opaque_hashes_of_one_pod_are_no_parents_for_another() {
        let setup = Setup::translated();
        let (first, other) = (setup.pod(), setup.pod());
        setup.apply(first, store_tokens(None, &[1], &tokens(0, 1)));
        assert_eq!(setup.apply(other, store_tokens(Some(1), &[2], &tokens(4, 1))).outcome, Outcome::Parked);
    }

    #[test]
    fn parked_bytes_are_reported_and_bounded() {
        let setup = Setup::translated();
        let pod = setup.pod_with(|options| options.max_parked_bytes = 10_000);
        let orphan = |hash: u64| BlockStored {
            extra_keys: vec![vec![ExtraKey::Text("k".repeat(3000))]],
            ..store(Some(999), &[hash])
        };
        for hash in 1..=3 {
            assert_eq!(setup.apply(pod, orphan(hash)).outcome, Outcome::Parked);
        }
        assert!(setup.index.view_bytes() > 9000, "{}", setup.index.view_bytes());
        assert_eq!(setup.apply(pod, orphan(4)).outcome, Outcome::Ignored(IgnoreReason::ParkedFull));
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.apply(pod, orphan(4)).outcome, Outcome::Parked, "room that was given back");
    }

    #[test]
    fn an_offload_announcement_places_what_waited_for_its_block() {
        let setup = Setup::native();
        let (other, pod) = (setup.pod(), setup.pod());
        let child = BlockStored { tier: Some(Tier::Cpu), ..store(Some(1), &[2]) };
        assert_eq!(setup.apply(pod, child).outcome, Outcome::Parked);
        setup.apply(other, store(None, &[1]));
        setup.apply(pod, offload(Tier::Cpu, &[1]));
        assert_eq!(setup.depth(pod, &[1, 2]), 2);
    }
}

mod copies {
    use super::*;

    #[test]
    fn a_block_goes_with_its_last_copy() {
        for setup in [Setup::native(), Setup::translated()] {
            let pod = setup.pod();
            let prompt = tokens(0, 2);
            let held = setup.hash(&prompt, &HashContext::default());
            let names: Vec<u64> = held.iter().map(|block| block.0).collect();
            setup.apply(pod, store_tokens(None, &names, &prompt));
            // The last-token rule: the last block is computed, and stored, once more.
            setup.apply(pod, store_tokens(Some(names[0]), &names[1..], &prompt[4..]));
            setup.apply(pod, remove(&names[1..]));
            assert_eq!(setup.depth_of_tokens(pod, &prompt), 2);
            setup.apply(pod, remove(&names[1..]));
            assert_eq!(setup.depth_of_tokens(pod, &prompt), 1);
        }
    }

    #[test]
    fn copies_are_counted_apart_in_every_tier() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, offload(Tier::Cpu, &[1]));
        setup.apply(pod, remove_from(Some(Tier::Cpu), 0, &[1]));
        assert_eq!(setup.tiers(pod, &[1]), [1, 0, 0, 0]);
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.tiers(pod, &[1]), [1, 0, 0, 0]);
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.tiers(pod, &[1]), [0; 4]);
    }

    #[test]
    fn copies_are_counted_apart_in_every_group() {
        let setup = Setup::native();
        let full = GroupKind::FullAttention;
        let pod = setup.pod_with(|options| options.groups = vec![(0, full), (1, full)]);
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, in_group(1, None, store(None, &[1])));
        assert_eq!(setup.depth(pod, &[1]), 1);
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.depth(pod, &[1]), 1, "group 0 has a second copy");
        setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1]));
        assert_eq!(setup.depth(pod, &[1]), 0, "group 1 had only one");
    }

    #[test]
    fn copies_of_one_pod_are_not_those_of_another() {
        let setup = Setup::native();
        let (first, second) = (setup.pod(), setup.pod());
        setup.apply(first, store(None, &[1]));
        setup.apply(second, store(None, &[1]));
        setup.apply(second, store(None, &[1]));
        setup.apply(first, remove(&[1]));
        assert_eq!((setup.depth(first, &[1]), setup.depth(second, &[1])), (0, 1));
    }

    #[test]
    fn blocks_announced_again_from_block_0_are_inferred_to_be_no_copies() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, store(None, &[1, 2, 3, 4]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 4);
        setup.apply(pod, remove(&[4, 3, 2, 1]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 0);
        assert_eq!(setup.index.blocks(), 0);
    }

    #[test]
    fn two_identical_prompts_in_one_batch_are_inferred_to_be_copies() {
        let setup = Setup::native();
        let pod = setup.pod();
        let twice = vec![store(None, &[1, 2]).event(), store(None, &[1, 2]).event()];
        setup.apply_all(pod, twice);
        setup.apply(pod, remove(&[2, 1]));
        assert_eq!(setup.depth(pod, &[1, 2]), 2);
    }

    #[test]
    fn blocks_announced_again_are_copies_when_told_to_count() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.copies = CopyPolicy::Count);
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, remove(&[3, 2, 1]));
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
        setup.apply(pod, remove(&[3, 2, 1]));
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 0);
    }

    #[test]
    fn the_first_removal_takes_the_block_when_told_to_keep_a_set() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.copies = CopyPolicy::Set);
        for _ in 0..3 {
            setup.apply(pod, store(None, &[1]));
            setup.apply(pod, offload(Tier::Cpu, &[1]));
        }
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.tiers(pod, &[1]), [0, 1, 0, 0]);
        setup.apply(pod, remove_from(Some(Tier::Cpu), 0, &[1]));
        assert_eq!(setup.tiers(pod, &[1]), [0; 4]);
    }

    #[test]
    fn a_set_keeps_no_copies_of_parked_blocks_either() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.copies = CopyPolicy::Set);
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, store(Some(1), &[2]));
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, remove(&[2]));
        assert_eq!(setup.depth(pod, &[1, 2]), 1);
    }

    #[test]
    fn a_hash_listed_twice_in_one_removal_takes_two_copies() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.apply(pod, remove(&[1, 1])).outcome, Outcome::Applied);
        assert_eq!(setup.depth(pod, &[1]), 0);
    }

    #[test]
    fn a_removal_of_an_unknown_block_is_counted_and_harmless() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.apply(pod, remove(&[9])).outcome, Outcome::Ignored(IgnoreReason::UnknownBlock));
        assert_eq!(setup.index.counters(pod).expect("a known pod").unknown_removals, 1);
        assert_eq!(setup.depth(pod, &[1]), 1);
    }
}

mod clears_and_generations {
    use super::*;

    #[test]
    fn a_clear_empties_only_its_pod() {
        let setup = Setup::native();
        let (cleared, other) = (setup.pod(), setup.pod());
        for pod in [cleared, other] {
            setup.apply(pod, store(None, &[1, 2, 3]));
            setup.apply(pod, store(Some(1), &[20 + u64::from(pod == other)]));
            setup.apply(pod, offload(Tier::Cpu, &[1]));
        }
        setup.apply(cleared, KvEvent::Cleared);
        assert_eq!(setup.tiers(cleared, &[1, 2, 3]), [0; 4]);
        assert_eq!(setup.tiers(other, &[1, 2, 3]), [3, 0, 0, 0]);
        assert_eq!(setup.depth(other, &[1, 21]), 2);
        assert_eq!(setup.index.blocks(), 4, "block 20 was only the cleared pod's");
    }

    #[test]
    fn a_clear_gives_memory_back() {
        let setup = Setup::translated();
        let pod = setup.pod();
        for prompt in 0..50 {
            let names: Vec<u64> = (prompt * 1000..prompt * 1000 + 200).collect();
            setup.apply(pod, store_tokens(None, &names, &tokens(prompt as u32 * 10_000, 200)));
        }
        let (bytes, view_bytes) = (setup.index.bytes(), setup.index.view_bytes());
        assert!(bytes > 10_000 * 8 && view_bytes > 10_000 * 8, "{bytes} and {view_bytes} bytes");
        setup.apply(pod, KvEvent::Cleared);
        assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
        let left = setup.index.view_bytes();
        assert!(left < 16 * 1024, "{left} bytes of the view are left");
    }

    #[test]
    fn a_pod_holds_again_after_a_clear() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply_all(pod, vec![store(None, &[1, 2]).event(), KvEvent::Cleared, store(None, &[1]).event()]);
        assert_eq!(setup.depth(pod, &[1, 2]), 1);
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.depth(pod, &[1, 2]), 0, "the clear dropped the old copy's count");
    }

    #[test]
    fn memory_is_given_back_when_blocks_go_one_by_one() {
        let setup = Setup::translated();
        let pod = setup.pod_with(|options| {
            options.copies = CopyPolicy::Count;
            options.max_retired = 10;
        });
        let (names, prompt) = ((1..=20_000).collect::<Vec<u64>>(), tokens(0, 20_000));
        for _ in 0..2 {
            for (piece, part) in names.chunks(100).zip(prompt.chunks(400)) {
                setup.apply(pod, store_tokens((piece[0] > 1).then(|| piece[0] - 1), piece, part));
            }
        }
        let view_bytes = setup.index.view_bytes();
        assert!(view_bytes > 20_000 * 2 * 16, "{view_bytes} bytes: names and copies");
        for &name in names.iter().rev() {
            setup.apply(pod, remove(&[name, name]));
        }
        assert_eq!(setup.index.counters(pod).expect("a known pod").unknown_removals, 0);
        assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
        let left = setup.index.view_bytes();
        assert!(left < 16 * 1024, "{left} bytes of the view are left");
    }

    #[test]
    fn a_view_keeps_nothing_of_chains_that_went() {
        let setup = Setup::native();
        let pod = setup.pod();
        for block in 1..3000 {
            setup.apply(pod, store(None, &[block]));
            setup.apply(pod, remove(&[block]));
        }
        let left = setup.index.view_bytes();
        assert!(left < 1024, "{left} bytes of the view are left");
    }

    #[test]
    fn a_clear_forgets_copies() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, KvEvent::Cleared);
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.depth(pod, &[1]), 0);
    }

    #[test]
    fn a_pod_that_comes_back_is_a_new_one_and_the_old_id_errors() {
        let setup = Setup::native();
        let old = setup.pod();
        setup.apply(old, store(None, &[1]));
        setup.index.remove_pod(old).expect("a known pod");
        let new = setup.pod();
        assert_eq!(new.slot(), old.slot(), "the slot is used again");
        assert_ne!(new, old);
        assert_eq!(setup.depth(new, &[1]), 0);
        setup.apply(new, store(None, &[1]));
        assert_eq!((setup.depth(new, &[1]), setup.depth(old, &[1])), (1, 0));

        let batch = EventBatch::default();
        let errors = [
            setup.index.apply_events(old, &batch).err(),
            setup.index.apply_batch(old, 0, &payload(0.0, None, &[])).err(),
            setup.index.abandon_gap(old, 0).err(),
            setup.index.trust(old).err(),
            setup.index.counters(old).err(),
            setup.index.parked_blocks(old).err(),
            setup.index.remove_pod(old).err(),
        ];
        for error in errors {
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::UnknownPod));
        }
        assert_eq!(setup.depth(new, &[1]), 1, "nothing of it reached the new pod");
    }

    #[test]
    fn everything_is_given_back_when_all_pods_are_gone() {
        for setup in [Setup::native(), Setup::translated()] {
            let pods: Vec<_> = (0..20).map(|_| setup.pod()).collect();
            for (i, &pod) in pods.iter().enumerate() {
                let chain: Vec<u64> = (1..=300).collect();
                let keep = 10 * (i + 1);
                setup.apply(pod, store_tokens(None, &chain, &tokens(0, 300)));
                setup.apply(pod, store_tokens(Some(keep as u64), &[1000 + i as u64], &tokens(5000, 1)));
                setup.apply(pod, offload(Tier::Disk, &chain[..keep]));
                setup.apply(pod, remove(&chain[keep..]));
                setup.apply(pod, store_tokens(Some(77_777), &[5, 6], &tokens(9000, 2)));
            }
            assert!(setup.index.bytes() > 0);
            for pod in pods {
                setup.index.remove_pod(pod).expect("a known pod");
            }
            assert_eq!((setup.index.blocks(), setup.index.bytes(), setup.index.view_bytes()), (0, 0, 0));
        }
    }

    #[test]
    fn removing_a_pod_leaves_the_others_whose_places_it_made() {
        let setup = Setup::native();
        let (maker, user) = (setup.pod(), setup.pod());
        setup.apply(maker, store(None, &[1, 2, 3]));
        setup.apply(user, store(None, &[1, 2]));
        setup.apply(user, store(Some(2), &[30]));
        setup.index.remove_pod(maker).expect("a known pod");
        assert_eq!(setup.depth(user, &[1, 2, 30]), 3);
        assert_eq!(setup.index.blocks(), 3);
    }
}

mod ranks {
    use super::*;

    #[test]
    fn ranks_are_pods_of_their_own() {
        let setup = Setup::native();
        let pods = [0, 1].map(|rank| setup.pod_with(|options| options.dp_rank = Some(rank)));
        for (rank, &pod) in pods.iter().enumerate() {
            let batch = payload(0.0, Some(rank as u32), &[store(None, &[10 + rank as u64]).event()]);
            assert_eq!(setup.index.apply_batch(pod, 0, &batch).map(|r| r.outcome), Ok(Outcome::Applied));
        }
        assert_eq!((setup.depth(pods[0], &[10]), setup.depth(pods[0], &[11])), (1, 0));
        assert_eq!((setup.depth(pods[1], &[10]), setup.depth(pods[1], &[11])), (0, 1));
    }

    #[test]
    fn a_batch_of_another_rank_is_refused_and_counted() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.dp_rank = Some(0));
        let batch = payload(0.0, Some(1), &[store(None, &[1]).event()]);
        let refused = Outcome::Ignored(IgnoreReason::OtherRank);
        assert_eq!(setup.index.apply_batch(pod, 0, &batch).map(|report| report.outcome), Ok(refused));
        assert_eq!(setup.depth(pod, &[1]), 0);
        assert_eq!(setup.ignored(pod, IgnoreReason::OtherRank), 1);
    }

    #[test]
    fn batches_of_another_rank_do_not_disturb_the_stream() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.dp_rank = Some(0));
        setup.send(pod, 0, &[store(None, &[1]).event()]);
        setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
        // Another rank counts its own batches: older, next and far ahead.
        for sequence in [0, 2, 50] {
            let batch = payload(0.0, Some(1), &[remove(&[1]).event()]);
            let refused = Outcome::Ignored(IgnoreReason::OtherRank);
            assert_eq!(setup.index.apply_batch(pod, sequence, &batch).map(|r| r.outcome), Ok(refused));
        }
        assert_eq!(setup.send(pod, 2, &[store(Some(2), &[3]).event()]), Outcome::Applied);
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
    }

    #[test]
    fn polled_events_of_another_rank_are_refused_too() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.dp_rank = Some(0));
        let events = vec![store(None, &[1]).event()];
        let batch = EventBatch { dp_rank: Some(3), events, ..EventBatch::default() };
        let report = setup.index.apply_events(pod, &batch).expect("a known pod");
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::OtherRank));
        assert_eq!(setup.depth(pod, &[1]), 0);
    }

    #[test]
    fn the_first_rank_seen_is_the_pods() {
        let setup = Setup::native();
        let pod = setup.pod();
        let batch = |rank, block| payload(0.0, rank, &[store(None, &[block]).event()]);
        let outcome = |sequence, bytes: &[u8]| {
            setup.index.apply_batch(pod, sequence, bytes).expect("a known pod").outcome
        };
        assert_eq!(outcome(0, &batch(None, 1)), Outcome::Applied);
        assert_eq!(outcome(1, &batch(Some(5), 2)), Outcome::Applied);
        assert_eq!(outcome(2, &batch(Some(6), 3)), Outcome::Ignored(IgnoreReason::OtherRank));
        assert_eq!(outcome(2, &batch(None, 4)), Outcome::Applied, "a batch without a rank is ours");
        assert_eq!(setup.depth(pod, &[3]), 0);
    }
}

mod groups {
    use super::*;

    const FULL: GroupKind = GroupKind::FullAttention;
    /// Two blocks before the position: `ceil((9 - 1) / 4)`.
    const SLIDING: GroupKind = GroupKind::SlidingWindow { window: 9 };

    fn hybrid(setup: &Setup) -> PodId {
        setup.pod_with(|options| options.groups = vec![(0, FULL), (1, SLIDING)])
    }

    #[test]
    fn a_window_needs_only_the_blocks_before_the_cut() {
        let setup = Setup::native();
        let pod = hybrid(&setup);
        setup.apply(pod, store(None, &[1, 2, 3, 4, 5, 6]));
        setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4, 5, 6])));
        setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1, 2, 3, 4]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5, 6]), 6);
    }

    #[test]
    fn a_window_one_block_later_may_be_whole_where_the_cut_one_is_not() {
        let setup = Setup::native();
        let pod = hybrid(&setup);
        setup.apply(pod, store(None, &[1, 2, 3, 4, 5, 6]));
        setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4, 5, 6])));
        setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1, 2, 3, 4]));
        // At the cut before block 6 the window is blocks 4 and 5, and 4 is gone. Cutting the answer for
        // six blocks would have credited five.
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5]), 0);
    }

    #[test]
    fn the_largest_position_with_a_whole_window_counts() {
        let setup = Setup::native();
        let pod = hybrid(&setup);
        setup.apply(pod, store(None, &[1, 2, 3, 4, 5, 6]));
        setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4, 5, 6])));
        setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[5]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4, 5, 6]), 4);
    }

    #[test]
    fn a_window_reaching_before_block_0_needs_what_there_is() {
        let setup = Setup::native();
        let pod = hybrid(&setup);
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1])));
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 1);
    }

    #[test]
    fn windows_of_whole_and_broken_block_sizes_need_the_right_number_of_blocks() {
        for (window, needed) in [(1, 0), (2, 1), (5, 1), (6, 2), (9, 2), (10, 3)] {
            let setup = Setup::native();
            let sliding = GroupKind::SlidingWindow { window };
            let pod = setup.pod_with(|options| options.groups = vec![(0, FULL), (1, sliding)]);
            let chain: Vec<u64> = (1..=8).collect();
            for kept in (0..=8).rev() {
                setup.apply(pod, KvEvent::Cleared);
                setup.apply(pod, store(None, &chain));
                setup.apply(pod, in_group(1, None, store(None, &chain)));
                setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &chain[..8 - kept]));
                let expected = if kept >= needed { 8 } else { 0 };
                assert_eq!(setup.depth(pod, &chain), expected, "window {window}, {kept} blocks kept");
            }
        }
    }

    #[test]
    fn all_groups_must_agree() {
        let setup = Setup::native();
        let pod = hybrid(&setup);
        setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2, 3, 4])));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 0, "nothing in the full-attention group");
        setup.apply(pod, store(None, &[1, 2, 3]));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 3);
    }

    #[test]
    fn windows_of_different_groups_must_be_whole_at_one_position() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.groups = vec![(0, FULL), (1, SLIDING), (2, SLIDING)]);
        let chain = [1, 2, 3, 4, 5, 6];
        for group in 0..3 {
            setup.apply(pod, in_group(group, None, store(None, &chain)));
        }
        // Whole after 3 and 6 blocks in group 1; after 3, 4 and 5 in group 2.
        setup.apply(pod, remove_from(Some(Tier::Gpu), 1, &[1, 4]));
        setup.apply(pod, remove_from(Some(Tier::Gpu), 2, &[1, 6]));
        assert_eq!(setup.depth(pod, &chain), 3);
    }

    #[test]
    fn a_window_on_the_device_serves_a_continuation_in_host_memory() {
        let setup = Setup::native();
        let pod = hybrid(&setup);
        setup.apply(pod, store(None, &[1, 2, 3, 4]));
        setup.apply(pod, in_group(1, None, store(None, &[1, 2, 3, 4])));
        setup.apply(pod, offload(Tier::Cpu, &[3, 4]));
        setup.apply(pod, remove(&[3, 4]));
        assert_eq!(setup.tiers(pod, &[1, 2, 3, 4]), [2, 2, 0, 0]);
    }

    #[test]
    fn two_full_attention_groups_credit_what_both_hold() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.groups = vec![(0, FULL), (3, FULL)]);
        setup.apply(pod, store(None, &[1, 2, 3, 4]));
        setup.apply(pod, in_group(3, None, store(None, &[1, 2])));
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 2);
    }

    #[test]
    fn a_group_kind_we_do_not_know_is_never_credited() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1, 2]));
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
        setup.apply(pod, in_group(1, Some(GroupKind::Unknown), store(None, &[1, 2])));
        assert_eq!(setup.depth(pod, &[1, 2]), 0);
        assert_eq!(setup.trust(pod), TrustLevel::LoadOnly);
    }

    #[test]
    fn a_further_group_that_nobody_describes_is_never_credited() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, in_group(2, None, store(None, &[1])));
        assert_eq!(setup.depth(pod, &[1]), 0);
        assert_eq!(setup.trust(pod), TrustLevel::LoadOnly);
    }

    #[test]
    fn groups_described_later_in_a_batch_count_before_any_credit() {
        let setup = Setup::native();
        let pod = setup.pod();
        let first = in_group(0, Some(FULL), store(None, &[1, 2, 3])).event();
        let second = in_group(1, Some(SLIDING), store(None, &[1])).event();
        setup.apply_all(pod, vec![first, second]);
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 1);
    }

    #[test]
    fn one_described_full_attention_group_reads_like_none() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, in_group(0, Some(FULL), store(None, &[1, 2, 3])));
        assert_eq!(setup.depth(pod, &[1, 2, 3]), 3);
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
    }

    #[test]
    fn an_empty_pod_is_not_credited_beside_a_hybrid_one() {
        let setup = Setup::native();
        let (pod, empty) = (hybrid(&setup), setup.pod());
        setup.apply(pod, store(None, &[1, 2]));
        setup.apply(pod, in_group(1, Some(SLIDING), store(None, &[1, 2])));
        assert_eq!(setup.depth(pod, &[1, 2]), 2);
        assert_eq!(setup.depth(empty, &[1, 2]), 0);
    }

    #[test]
    fn pods_with_and_without_groups_are_answered_side_by_side() {
        let setup = Setup::native();
        let (plain, pod, tiered) = (setup.pod(), hybrid(&setup), setup.pod());
        let chain: Vec<u64> = (1..=6).collect();
        setup.apply(plain, store(None, &chain[..2]));
        setup.apply(pod, store(None, &chain));
        setup.apply(pod, in_group(1, None, store(None, &chain[..5])));
        setup.apply(tiered, store(None, &chain[..4]));
        setup.apply(tiered, offload(Tier::Cpu, &chain[2..4]));
        setup.apply(tiered, remove(&chain[2..4]));
        assert_eq!(setup.depth(plain, &chain), 2);
        assert_eq!(setup.depth(pod, &chain), 5);
        assert_eq!(setup.tiers(tiered, &chain), [2, 2, 0, 0]);
    }

    #[test]
    fn a_pod_that_names_thousands_of_groups_stays_small_and_is_not_credited() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        for group in 0..2000 {
            let report = setup.apply(pod, in_group(group, None, store(None, &[1])));
            if group >= 256 {
                assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::TooManyGroups));
            }
            setup.apply(pod, in_group(group, Some(GroupKind::FullAttention), offload(Tier::Gpu, &[7])));
        }
        assert_eq!(setup.depth(pod, &[1]), 0);
        assert_eq!(setup.trust(pod), TrustLevel::LoadOnly);
        assert!(setup.index.view_bytes() < 100_000, "{}", setup.index.view_bytes());
    }

    #[test]
    fn what_is_refused_leaves_no_trace_of_its_group() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        let refused = BlockStored { block_size: 999, ..store(None, &[1]) };
        setup.apply(pod, in_group(5, None, refused));
        assert_eq!(setup.depth(pod, &[1]), 1);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    }
}

mod tiers {
    use super::*;

    #[test]
    fn the_device_prefix_is_continued_once_in_every_lower_tier() {
        let setup = Setup::native();
        let pod = setup.pod();
        let chain: Vec<u64> = (1..=8).collect();
        setup.apply(pod, store(None, &chain));
        setup.apply(pod, offload(Tier::Cpu, &chain[1..5]));
        setup.apply(pod, offload(Tier::Disk, &chain[4..6]));
        setup.apply(pod, offload(Tier::External, &chain[6..8]));
        setup.apply(pod, remove(&chain[2..]));
        assert_eq!(setup.tiers(pod, &chain), [2, 3, 1, 2]);
    }

    #[test]
    fn a_tier_does_not_continue_past_its_own_hole() {
        let setup = Setup::native();
        let pod = setup.pod();
        let chain: Vec<u64> = (1..=6).collect();
        setup.apply(pod, store(None, &chain));
        setup.apply(pod, offload(Tier::Cpu, &[2, 3, 5, 6]));
        setup.apply(pod, remove(&chain[1..]));
        assert_eq!(setup.tiers(pod, &chain), [1, 2, 0, 0]);
    }

    #[test]
    fn the_device_does_not_continue_what_a_lower_tier_holds() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1, 2, 3]));
        setup.apply(pod, offload(Tier::Cpu, &[1, 2]));
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.tiers(pod, &[1, 2, 3]), [0, 2, 0, 0], "one continuation a tier, nearest first");
    }

    #[test]
    fn an_offload_without_tokens_is_placed_while_the_device_copy_is_there() {
        for setup in [Setup::native(), Setup::translated()] {
            let pod = setup.pod();
            let prompt = tokens(0, 3);
            let held = setup.hash(&prompt, &HashContext::default());
            let names: Vec<u64> = held.iter().map(|block| block.0 ^ 0xabcd).collect();
            let names = if setup.domain.is_native() { held.iter().map(|b| b.0).collect() } else { names };
            setup.apply(pod, store_tokens(None, &names, &prompt));
            assert_eq!(setup.apply(pod, offload(Tier::Cpu, &names[1..])).outcome, Outcome::Applied);
            setup.apply(pod, remove(&names[1..]));
            let usable = setup.usable(pod, &held);
            assert_eq!((usable.in_tier(Tier::Gpu), usable.in_tier(Tier::Cpu)), (1, 2));
        }
    }

    #[test]
    fn an_offload_is_placed_after_the_device_copies_are_gone() {
        for setup in [Setup::native(), Setup::translated()] {
            let pod = setup.pod();
            let prompt = tokens(0, 4);
            let held = setup.hash(&prompt, &HashContext::default());
            let names: Vec<u64> = held.iter().map(|block| block.0).collect();
            setup.apply(pod, store_tokens(None, &names, &prompt));
            setup.apply(pod, offload(Tier::Cpu, &names[..1]));
            // All blocks after the first leave the device, the last first, as engines evict.
            for name in names[1..].iter().rev() {
                setup.apply(pod, remove(&[*name]));
            }
            assert_eq!(setup.index.blocks(), 1);
            assert_eq!(setup.apply(pod, offload(Tier::Cpu, &names[3..])).outcome, Outcome::Applied);
            let usable = setup.usable(pod, &held);
            assert_eq!(usable.total(), 1, "blocks 1 and 2 are steps to block 3, not held");
            assert_eq!(setup.apply(pod, offload(Tier::Cpu, &names[1..3])).outcome, Outcome::Applied);
            let usable = setup.usable(pod, &held);
            assert_eq!((usable.in_tier(Tier::Gpu), usable.in_tier(Tier::Cpu)), (1, 3));
            assert_eq!(setup.trust(pod), TrustLevel::Exact);
            setup.index.remove_pod(pod).expect("a known pod");
            assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
        }
    }

    #[test]
    fn a_pod_with_any_lower_tier_has_its_parents_remembered() {
        let setup = Setup::native();
        let pod = setup.pod();
        // Announced with its tokens, so that nothing had to be looked up yet.
        setup.apply(pod, BlockStored { tier: Some(Tier::Cpu), ..store(None, &[50]) });
        setup.apply(pod, store(None, &[1, 2]));
        setup.apply(pod, remove(&[2]));
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[2])).outcome, Outcome::Applied);
        assert_eq!(setup.tiers(pod, &[1, 2]), [1, 1, 0, 0]);
    }

    #[test]
    fn an_offload_of_a_block_never_seen_is_counted_and_degrades() {
        let setup = Setup::native();
        let pod = setup.pod();
        let report = setup.apply(pod, offload(Tier::Cpu, &[1]));
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownBlock));
        assert_eq!(setup.index.counters(pod).expect("a known pod").blocks_refused, 1);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        assert_eq!(setup.depth(pod, &[1]), 0);
    }

    #[test]
    fn names_without_a_copy_are_kept_within_their_bound() {
        let setup = Setup::translated();
        let pod = setup.pod_with(|options| options.max_retired = 2);
        let prompt = tokens(0, 5);
        setup.apply(pod, store_tokens(None, &[1, 2, 3, 4, 5], &prompt));
        setup.apply(pod, offload(Tier::Cpu, &[1, 2]));
        setup.apply(pod, remove(&[5, 4, 3]));
        let unknown = Outcome::Ignored(IgnoreReason::UnknownBlock);
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[5])).outcome, unknown, "the oldest is forgotten");
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[3])).outcome, Outcome::Applied);
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 3);
    }

    #[test]
    fn an_offload_of_a_parked_block_waits_with_it() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(Some(1), &[2]));
        assert_eq!(setup.apply(pod, offload(Tier::Cpu, &[2])).outcome, Outcome::Applied);
        setup.apply(pod, remove(&[2]));
        setup.apply(pod, store(None, &[1]));
        assert_eq!(setup.tiers(pod, &[1, 2]), [1, 1, 0, 0]);
    }

    #[test]
    fn a_store_into_an_unknown_tier_is_dropped_and_counted() {
        let setup = Setup::native();
        let pod = setup.pod();
        let report = setup.apply(pod, BlockStored { tier: None, ..store(None, &[1]) });
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownTier));
        assert_eq!(setup.ignored(pod, IgnoreReason::UnknownTier), 1);
        assert_eq!((setup.depth(pod, &[1]), setup.index.blocks()), (0, 0));
        assert_eq!(setup.trust(pod), TrustLevel::Exact, "what we cannot credit is no loss");
    }

    #[test]
    fn a_removal_from_an_unknown_tier_takes_every_copy_everywhere() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, store(None, &[1]));
        setup.apply(pod, offload(Tier::Cpu, &[1]));
        setup.apply(pod, offload(Tier::Disk, &[1]));
        setup.apply(pod, store(Some(9), &[1]));
        setup.apply(pod, remove_from(None, 0, &[1]));
        assert_eq!(setup.tiers(pod, &[1]), [0; 4]);
        assert_eq!(setup.index.blocks(), 0);
    }

    #[test]
    fn steps_to_an_offloaded_block_are_never_held_at_the_memory_bound() {
        // Whatever the bound refuses on the way to block 4, blocks 1 to 3 are not in host memory.
        for spare in (0..2000).step_by(8) {
            let setup = Setup::bounded(native("model"), 1200 + spare);
            let (pod, filler) = (setup.pod(), setup.pod());
            let chain = [1, 2, 3, 4];
            setup.apply(pod, offload(Tier::Cpu, &[77]));
            setup.apply(pod, store(None, &chain));
            setup.apply(pod, remove(&[4, 3, 2, 1]));
            let full = |next: &u64| setup.apply(filler, store(None, &[*next])).outcome != Outcome::Applied;
            let next = (1000..2000).find(full).expect("the bound is reached");
            // A little room again.
            (1000..next).take(spare / 100).for_each(|block| drop(setup.apply(filler, remove(&[block]))));
            setup.apply(pod, offload(Tier::Cpu, &[4]));
            assert_eq!(setup.tiers(pod, &chain), [0; 4], "{spare} bytes spare");
        }
    }
}

mod adapters_and_salts {
    use super::*;

    fn with_adapter(name: &str) -> HashContext {
        HashContext {
            lora: Some(Lora { name: name.to_owned(), ..Lora::default() }),
            ..HashContext::default()
        }
    }

    fn adapter_event(name: Option<&str>, id: Option<i64>, prompt: &[u32]) -> BlockStored {
        let lora = Some(EventLora { name: name.map(str::to_owned), id });
        BlockStored { lora, ..store_tokens(None, &[1, 2], prompt) }
    }

    #[test]
    fn adapters_never_match_one_another_nor_the_base_model() {
        let setup = Setup::translated();
        let (red, blue, base) = (setup.pod(), setup.pod(), setup.pod());
        let prompt = tokens(0, 2);
        setup.apply(red, adapter_event(Some("red"), None, &prompt));
        setup.apply(blue, adapter_event(Some("blue"), None, &prompt));
        setup.apply(base, store_tokens(None, &[1, 2], &prompt));
        let contexts = [with_adapter("red"), with_adapter("blue"), HashContext::default()];
        for (i, context) in contexts.iter().enumerate() {
            let blocks = setup.hash(&prompt, context);
            for (j, &pod) in [red, blue, base].iter().enumerate() {
                let expected = if i == j { 2 } else { 0 };
                assert_eq!(setup.usable(pod, &blocks).total(), expected, "request {i}, pod {j}");
            }
        }
    }

    #[test]
    fn an_adapter_listed_among_the_extra_keys_too_matches_all_the_same() {
        let setup = Setup::translated();
        let pod = setup.pod();
        let prompt = tokens(0, 2);
        let key = vec![ExtraKey::Text("red".to_owned())];
        let event = BlockStored {
            extra_keys: vec![key.clone(), key],
            ..adapter_event(Some("red"), Some(1), &prompt)
        };
        setup.apply(pod, event);
        assert_eq!(setup.usable(pod, &setup.hash(&prompt, &with_adapter("red"))).total(), 2);
    }

    #[test]
    fn an_adapter_named_by_a_listed_number_matches() {
        let setup = Setup::translated();
        let pod = setup.pod_with(|options| options.adapters = vec![(7, "red".to_owned())]);
        let prompt = tokens(0, 2);
        setup.apply(pod, adapter_event(None, Some(7), &prompt));
        assert_eq!(setup.usable(pod, &setup.hash(&prompt, &with_adapter("red"))).total(), 2);
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
    }

    #[test]
    fn an_adapter_named_by_an_unlisted_number_is_refused_and_counted() {
        let setup = Setup::translated();
        let pod = setup.pod();
        let prompt = tokens(0, 2);
        let report = setup.apply(pod, adapter_event(None, Some(8), &prompt));
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownAdapter));
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        assert_eq!(setup.ignored(pod, IgnoreReason::UnknownAdapter), 1);
    }

    #[test]
    fn salts_never_match_one_another_nor_the_unsalted() {
        let setup = Setup::translated();
        let salted = |salt: &str| HashContext { cache_salt: Some(salt.to_owned()), ..HashContext::default() };
        let prompt = tokens(0, 2);
        // vLLM puts the salt among the first block's extra keys, SGLang into a field of its own.
        let vllm = setup.pod();
        let extra_keys = vec![vec![ExtraKey::Text("a".to_owned())], vec![]];
        setup.apply(vllm, BlockStored { extra_keys, ..store_tokens(None, &[1, 2], &prompt) });
        let sglang = setup.pod();
        let cache_salt = Some("a".to_owned());
        setup.apply(sglang, BlockStored { cache_salt, ..store_tokens(None, &[1, 2], &prompt) });
        let plain = setup.pod();
        setup.apply(plain, store_tokens(None, &[1, 2], &prompt));
        for (context, expected) in
            [(salted("a"), [2, 2, 0]), (salted("b"), [0, 0, 0]), (HashContext::default(), [0, 0, 2])]
        {
            let blocks = setup.hash(&prompt, &context);
            let found = [vllm, sglang, plain].map(|pod| setup.usable(pod, &blocks).total());
            assert_eq!(found, expected, "{:?}", context.cache_salt);
        }
    }

    #[test]
    fn a_salted_block_that_was_parked_keeps_its_keys() {
        let setup = Setup::translated();
        let pod = setup.pod();
        let prompt = tokens(0, 3);
        let key = |text: &str| vec![ExtraKey::Bytes(text.as_bytes().to_vec())];
        let extra_keys = vec![key("b"), key("c")];
        setup.apply(pod, BlockStored { extra_keys, ..store_tokens(Some(1), &[2, 3], &prompt[4..]) });
        setup
            .apply(pod, BlockStored { extra_keys: vec![key("a")], ..store_tokens(None, &[1], &prompt[..4]) });
        let prompt_embeds = vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()];
        let context = HashContext { prompt_embeds, ..HashContext::default() };
        assert_eq!(setup.usable(pod, &setup.hash(&prompt, &context)).total(), 3);
        assert_eq!(setup.depth_of_tokens(pod, &prompt), 0);
    }
}

mod domains {
    use super::*;

    #[test]
    fn domains_never_leak_into_one_another_even_with_equal_native_hashes() {
        let index = BlockIndex::default();
        let domains = [native("llama"), native("qwen"), native("")];
        let pods = domains.clone().map(|domain| index.add_pod(domain, PodOptions::default()));
        let apply = |pod, event: KvEvent| {
            let batch = EventBatch { events: vec![event], ..EventBatch::default() };
            index.apply_events(pod, &batch).expect("a known pod").outcome
        };
        for (i, &pod) in pods.iter().enumerate() {
            assert_eq!(apply(pod, store(None, &[1, 2, 3][..=i]).event()), Outcome::Applied);
        }
        let mut table = MatchTable::default();
        for (i, domain) in domains.iter().enumerate() {
            index.lookup(domain, &query(&[1, 2, 3]), &mut table);
            assert_eq!(table.matches().len(), 1, "only the domain's own pod");
            assert_eq!(table.blocks(pods[i]).total(), i as u32 + 1);
        }
        assert_eq!(apply(pods[0], store(Some(3), &[4]).event()), Outcome::Parked, "block 3 is another's");
        assert_eq!(apply(pods[2], remove(&[1]).event()), Outcome::Applied);
        index.lookup(&domains[0], &query(&[1]), &mut table);
        assert_eq!(table.blocks(pods[0]).total(), 1);
    }

    #[test]
    fn hybrid_pods_of_another_domain_do_not_answer() {
        let index = BlockIndex::default();
        let (here, there) = (native("here"), native("there"));
        let options = PodOptions {
            groups: vec![(0, GroupKind::FullAttention), (1, GroupKind::SlidingWindow { window: 5 })],
            ..PodOptions::default()
        };
        let pods = [&here, &there].map(|domain| index.add_pod(Arc::clone(domain), options.clone()));
        for pod in pods {
            let events = vec![store(None, &[1]).event(), in_group(1, None, store(None, &[1])).event()];
            let batch = EventBatch { events, ..EventBatch::default() };
            index.apply_events(pod, &batch).expect("a known pod");
        }
        let mut table = MatchTable::default();
        index.lookup(&here, &query(&[1]), &mut table);
        assert_eq!(table.matches().iter().map(|found| found.pod).collect::<Vec<_>>(), [pods[0]]);
    }

    #[test]
    fn a_wrong_block_size_is_ignored_counted_and_degrades() {
        let setup = Setup::translated();
        let pod = setup.pod();
        // 8 tokens a block: fewer blocks than the tokens would make of ours.
        let event = BlockStored { block_size: 8, ..store_tokens(None, &[1], &tokens(0, 2)) };
        assert_eq!(setup.apply(pod, event).outcome, Outcome::Ignored(IgnoreReason::BlockSize));
        assert_eq!(setup.ignored(pod, IgnoreReason::BlockSize), 1);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 2)), 0, "never over-credited");
    }

    #[test]
    fn eagle_pairs_are_refused() {
        let setup = Setup::translated();
        let pod = setup.pod();
        let event = BlockStored { bigrams: true, ..store_tokens(None, &[1], &tokens(0, 1)) };
        assert_eq!(setup.apply(pod, event).outcome, Outcome::Ignored(IgnoreReason::Bigrams));
        assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 1)), 0);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
    }

    #[test]
    fn an_engine_hash_announced_with_other_tokens_while_held_is_refused() {
        let setup = Setup::translated();
        let pod = setup.pod();
        setup.apply(pod, store_tokens(None, &[1], &tokens(0, 1)));
        let report = setup.apply(pod, store_tokens(None, &[1], &tokens(100, 1)));
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::Contradiction));
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        // The name stays the first block's, so that its removal takes the first block away.
        assert_eq!(setup.depth_of_tokens(pod, &tokens(100, 1)), 0);
        setup.apply(pod, remove(&[1]));
        assert_eq!(setup.depth_of_tokens(pod, &tokens(0, 1)), 0);
        // Without a copy the name is free again.
        assert_eq!(setup.apply(pod, store_tokens(None, &[1], &tokens(100, 1))).outcome, Outcome::Applied);
        assert_eq!(setup.depth_of_tokens(pod, &tokens(100, 1)), 1);
    }

    #[test]
    fn an_engine_that_lies_about_parents_spoils_no_other_pods_matches() {
        let setup = Setup::native();
        let (liar, honest) = (setup.pod(), setup.pod());
        setup.apply(liar, store(None, &[7]));
        // The liar is first with every block, each after a wrong one.
        setup.apply(liar, store(Some(7), &[2]));
        setup.apply(liar, store(None, &[3]));
        setup.apply(liar, store(Some(2), &[1]));
        assert_eq!(setup.apply(honest, store(None, &[1, 2])).outcome, Outcome::Applied);
        assert_eq!(setup.apply(honest, store(Some(2), &[3])).outcome, Outcome::Applied);
        assert_eq!(setup.depth(honest, &[1, 2, 3]), 3);
        assert_eq!(setup.depth(liar, &[1, 2, 3]), 0);
        assert_eq!(setup.trust(honest), TrustLevel::Exact);
        setup.apply(honest, remove(&[2]));
        assert_eq!(setup.depth(honest, &[1, 2, 3]), 1);
        assert_eq!(setup.depth(liar, &[7, 2, 1]), 3, "as it said");
    }

    #[test]
    fn a_wrong_block_in_the_middle_of_a_chain_leads_no_other_pods_match_astray() {
        let setup = Setup::native();
        let (liar, honest) = (setup.pod(), setup.pod());
        setup.apply(liar, store(None, &[1, 77, 3]));
        setup.apply(honest, store(None, &[1, 2, 3]));
        assert_eq!(setup.depth(honest, &[1, 2, 3]), 3);
        assert_eq!(setup.depth(liar, &[1, 2, 3]), 1);
    }

    #[test]
    fn sparse_events_name_blocks_whose_place_is_known() {
        let setup = Setup::native();
        let sliding = GroupKind::SlidingWindow { window: 5 };
        let pod = setup.pod_with(|o| o.groups = vec![(0, GroupKind::FullAttention), (1, sliding)]);
        setup.apply(pod, store(None, &[1, 2, 3, 4]));
        let sparse = BlockStored { token_ids: tokens(0, 4), ..store(None, &[4]) };
        assert_eq!(setup.apply(pod, in_group(1, None, sparse)).outcome, Outcome::Applied);
        assert_eq!(setup.depth(pod, &[1, 2, 3, 4]), 4);
        let unknown = BlockStored { token_ids: tokens(0, 4), ..store(None, &[40]) };
        let outcome = setup.apply(pod, in_group(1, None, unknown)).outcome;
        assert_eq!(outcome, Outcome::Ignored(IgnoreReason::Sparse));
    }
}

mod memory {
    use super::*;

    #[test]
    fn at_the_bound_new_blocks_are_refused_and_known_ones_stay() {
        let bound = 4_000;
        let setup = Setup::bounded(native("model"), bound);
        let pod = setup.pod();
        let chain: Vec<u64> = (1..=5000).collect();
        let mut held = 0;
        for piece in chain.chunks(10) {
            let parent = (piece[0] > 1).then(|| piece[0] - 1);
            let report = setup.apply(pod, store(parent, piece));
            held += report.blocks_stored as u32;
            if report.outcome != Outcome::Applied {
                assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::Memory));
                break;
            }
        }
        assert!((50..1000).contains(&held), "{held} blocks in {bound} bytes");
        let bytes = setup.index.bytes();
        assert!(bytes < 3 * bound, "{bytes} bytes with a bound of {bound}");
        assert_eq!(setup.depth(pod, &chain), held, "matches undercount by what was refused");
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        let counters = setup.index.counters(pod).expect("a known pod");
        assert_eq!(counters.ignored_for(IgnoreReason::Memory), 1);
        assert!(counters.blocks_refused > 0);
        let known = setup.apply(pod, remove(&[2]));
        assert_eq!(known.outcome, Outcome::Applied, "what is known can still go");
        assert_eq!(setup.apply(pod, store(Some(1), &[2])).outcome, Outcome::Applied, "and come back");

        setup.index.remove_pod(pod).expect("a known pod");
        assert_eq!((setup.index.blocks(), setup.index.bytes()), (0, 0));
        let next = setup.pod();
        assert_eq!(setup.apply(next, store(None, &[1])).outcome, Outcome::Applied, "there is room again");
    }

    #[test]
    fn further_holders_count_against_the_bound_too() {
        let bound = 20_000;
        let setup = Setup::bounded(native("model"), bound);
        let chains: Vec<[u64; 2]> = (0..40).map(|i| [i * 10 + 1, i * 10 + 2]).collect();
        let mut refused = 0;
        for _ in 0..60 {
            let pod = setup.pod();
            for chain in &chains {
                // From the start of a run, and from its middle.
                for event in [store(None, chain), store(Some(chain[0]), &chain[1..])] {
                    let pod = if event.parent.is_none() { pod } else { setup.pod() };
                    let report = setup.apply(pod, event);
                    refused += u32::from(report.outcome == Outcome::Ignored(IgnoreReason::Memory));
                }
            }
        }
        let bytes = setup.index.bytes();
        assert!(bytes < 2 * bound, "{bytes} bytes with a bound of {bound}");
        assert!(refused > 0);
    }

    #[test]
    fn the_bound_leaves_other_pods_as_they_are() {
        let setup = Setup::bounded(native("model"), 10_000);
        let (first, greedy) = (setup.pod(), setup.pod());
        setup.apply(first, store(None, &[1, 2, 3]));
        for chain in 1..200 {
            setup.apply(greedy, store(None, &[chain * 10, chain * 10 + 1]));
        }
        assert_eq!(setup.trust(greedy), TrustLevel::Degraded);
        assert_eq!((setup.depth(first, &[1, 2, 3]), setup.trust(first)), (3, TrustLevel::Exact));
    }
}

mod streams {
    use super::*;

    #[test]
    fn a_batch_applied_twice_counts_once() {
        let setup = Setup::native();
        let pod = setup.pod();
        let batch = [store(None, &[1]).event()];
        assert_eq!(setup.send(pod, 0, &batch), Outcome::Applied);
        assert_eq!(setup.send(pod, 0, &batch), Outcome::Ignored(IgnoreReason::Duplicate));
        assert_eq!(setup.ignored(pod, IgnoreReason::Duplicate), 1);
        setup.send(pod, 1, &[remove(&[1]).event()]);
        assert_eq!(setup.depth(pod, &[1]), 0);
    }

    #[test]
    fn a_gap_clears_the_view_unless_told_to_replay() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.send(pod, 0, &[store(None, &[1, 2]).event()]);
        assert_eq!(setup.send(pod, 2, &[store(None, &[5]).event()]), Outcome::Applied);
        assert_eq!(setup.depth(pod, &[1, 2]), 0, "removals may have been lost");
        assert_eq!(setup.depth(pod, &[5]), 1);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        assert_eq!(setup.index.counters(pod).expect("a known pod").gaps, 1);
        assert_eq!(setup.send(pod, 3, &[KvEvent::Cleared]), Outcome::Applied);
        assert_eq!(setup.trust(pod), TrustLevel::Exact, "an engine's own clear heals");
    }

    #[test]
    fn a_late_joiner_is_degraded_and_keeps_what_it_hears() {
        let setup = Setup::native();
        let pod = setup.pod();
        assert_eq!(setup.send(pod, 700, &[store(None, &[1]).event()]), Outcome::Applied);
        assert_eq!((setup.depth(pod, &[1]), setup.trust(pod)), (1, TrustLevel::Degraded));
    }

    #[test]
    fn a_gap_is_replayed_from_the_last_applied_batch() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
        let batches: Vec<[KvEvent; 1]> = [
            store(None, &[1]).event(),
            store(Some(1), &[2]).event(),
            remove(&[2]).event(),
            store(Some(1), &[3]).event(),
        ]
        .map(|event| [event])
        .to_vec();
        setup.send(pod, 0, &batches[0]);
        setup.send(pod, 1, &batches[1]);
        let missing = Outcome::NeedsResync(ResyncReason::Gap { replay_from: 1 });
        assert_eq!(setup.send(pod, 3, &batches[3]), missing);
        assert_eq!(setup.depth(pod, &[1, 2]), 2, "nothing was applied, nothing dropped");
        for sequence in 1..4 {
            setup.send(pod, sequence, &batches[sequence as usize]);
        }
        assert_eq!((setup.depth(pod, &[1, 2]), setup.depth(pod, &[1, 3])), (1, 2));
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
        assert_eq!(setup.index.counters(pod).expect("a known pod").resyncs, 1);
    }

    #[test]
    fn a_gap_given_up_clears_the_view_and_goes_on() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
        setup.send(pod, 0, &[store(None, &[1]).event()]);
        setup.index.abandon_gap(pod, 9).expect("a known pod");
        assert_eq!((setup.depth(pod, &[1]), setup.trust(pod)), (0, TrustLevel::Degraded));
        assert_eq!(setup.send(pod, 9, &[store(None, &[2]).event()]), Outcome::Applied);
        assert_eq!(setup.depth(pod, &[2]), 1);
    }

    #[test]
    fn a_replay_with_other_bytes_is_a_restart() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
        setup.send(pod, 0, &[store(None, &[1]).event()]);
        setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
        setup.send(pod, 4, &[store(None, &[50]).event()]);
        let restarted = Outcome::NeedsResync(ResyncReason::Restarted);
        assert_eq!(setup.send(pod, 1, &[store(None, &[60]).event()]), restarted);
        assert_eq!(setup.depth(pod, &[1, 2]), 0, "the old view is dropped");
        assert_eq!(setup.send(pod, 0, &[store(None, &[70]).event()]), Outcome::Applied);
        assert_eq!(setup.index.counters(pod).expect("a known pod").restarts, 1);
    }

    #[test]
    fn an_engine_that_starts_again_at_zero_is_a_new_view() {
        for on_gap in [GapPolicy::Clear, GapPolicy::Replay] {
            let setup = Setup::native();
            let pod = setup.pod_with(|options| options.on_gap = on_gap);
            setup.send(pod, 0, &[store(None, &[1]).event()]);
            setup.send(pod, 1, &[store(Some(1), &[2]).event()]);
            assert_eq!(setup.send(pod, 0, &[store(None, &[9]).event()]), Outcome::Applied);
            assert_eq!((setup.depth(pod, &[1, 2]), setup.depth(pod, &[9])), (0, 1));
            assert_eq!(setup.trust(pod), TrustLevel::Exact, "the whole new stream is known");
        }
    }

    #[test]
    fn an_undecodable_batch_drops_the_view_and_asks_for_a_replay() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.send(pod, 0, &[store(None, &[1]).event()]);
        let report = setup.index.apply_batch(pod, 1, b"\xc1 is no msgpack").expect("a known pod");
        assert_eq!(report.outcome, Outcome::NeedsResync(ResyncReason::Undecodable));
        assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::Decode));
        assert_eq!((setup.depth(pod, &[1]), setup.trust(pod)), (0, TrustLevel::Degraded));
        assert_eq!(setup.send(pod, 2, &[store(None, &[2]).event()]), Outcome::Applied);
    }

    #[test]
    fn a_bad_event_does_not_cost_the_rest_of_its_batch() {
        let setup = Setup::native();
        let pod = setup.pod();
        // The second of three events is cut down to a tag of no known engine.
        let good = |block| store(None, &[block]).event();
        let bytes = payload(0.0, Some(0), &[good(1), KvEvent::Cleared, good(2)]);
        let at = bytes.windows(16).position(|part| part == b"AllBlocksCleared").expect("the tag");
        let mut bytes = bytes;
        bytes[at..at + 16].copy_from_slice(b"SomethingUnknown");
        let report = setup.index.apply_batch(pod, 0, &bytes).expect("a known pod");
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownTag));
        assert_eq!((setup.depth(pod, &[1]), setup.depth(pod, &[2])), (1, 1));
        assert_eq!(setup.ignored(pod, IgnoreReason::UnknownTag), 1);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded, "it may have been a removal");
    }

    #[test]
    fn the_largest_sequence_number_is_survived() {
        let setup = Setup::native();
        let pod = setup.pod();
        assert_eq!(setup.send(pod, u64::MAX, &[store(None, &[1]).event()]), Outcome::Applied);
        setup.send(pod, u64::MAX, &[store(None, &[2]).event()]);
        setup.send(pod, u64::MAX - 1, &[store(None, &[3]).event()]);
        setup.index.abandon_gap(pod, u64::MAX).expect("a known pod");
        assert_eq!(setup.send(pod, 0, &[store(None, &[4]).event()]), Outcome::Applied);
        assert_eq!(setup.depth(pod, &[4]), 1);
    }

    #[test]
    fn what_a_report_counts_is_what_happened() {
        let setup = Setup::native();
        let pod = setup.pod();
        let events = vec![
            store(None, &[1, 2, 3]).event(),
            remove(&[3]).event(),
            remove(&[9]).event(),
            store(Some(50), &[51]).event(),
        ];
        let report = setup.apply_all(pod, events);
        assert_eq!((report.events, report.blocks_stored, report.blocks_removed), (4, 3, 1));
        assert_eq!(report.outcome, Outcome::Ignored(IgnoreReason::UnknownBlock), "the gravest of them");
        let counters = setup.index.counters(pod).expect("a known pod");
        assert_eq!((counters.batches, counters.events, counters.parked), (1, 4, 1));
    }

    #[test]
    fn an_open_gap_shows_in_the_trust_level_until_it_is_filled() {
        let setup = Setup::native();
        let pod = setup.pod_with(|options| options.on_gap = GapPolicy::Replay);
        let batches = [[store(None, &[1]).event()], [remove(&[1]).event()], [store(None, &[2]).event()]];
        setup.send(pod, 0, &batches[0]);
        setup.send(pod, 2, &batches[2]);
        setup.send(pod, 2, &batches[2]);
        assert_eq!(setup.trust(pod), TrustLevel::Degraded, "a removal may be among what is missing");
        assert_eq!(
            setup.index.counters(pod).expect("a known pod").gaps,
            1,
            "one gap, however often it shows"
        );
        setup.send(pod, 1, &batches[1]);
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
        assert_eq!(setup.depth(pod, &[1]), 0);
    }

    #[test]
    fn a_restarted_engine_is_forgotten_whole_with_its_groups_and_rank() {
        let setup = Setup::native();
        let pod = setup.pod();
        let sliding = Some(GroupKind::SlidingWindow { window: 5 });
        let full = Some(GroupKind::FullAttention);
        setup.send(
            pod,
            0,
            &[
                in_group(0, full, store(None, &[1, 2])).event(),
                in_group(1, sliding, store(None, &[1])).event(),
            ],
        );
        assert_eq!(setup.depth(pod, &[1, 2]), 1, "the window ends the match");
        setup.send(pod, 0, &[in_group(0, full, store(None, &[1, 2])).event()]);
        assert_eq!(setup.depth(pod, &[1, 2]), 2, "the engine of now has no window");
        assert_eq!(setup.trust(pod), TrustLevel::Exact);
    }

    #[test]
    fn a_batch_of_before_a_gap_that_comes_late_is_not_applied() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.send(pod, 0, &[store(None, &[9]).event()]);
        setup.send(pod, 2, &[remove(&[1, 2]).event()]);
        let late = setup.send(pod, 1, &[store(None, &[1, 2]).event()]);
        assert_eq!(late, Outcome::NeedsResync(ResyncReason::Restarted));
        assert_eq!(setup.depth(pod, &[1, 2]), 0, "the engine has removed them since");
        assert_eq!(setup.trust(pod), TrustLevel::Degraded);
        setup.send(pod, 3, &[store(None, &[5]).event()]);
        assert_eq!(setup.depth(pod, &[5]), 1, "the stream goes on");
    }

    #[test]
    fn an_unreadable_batch_sent_again_is_a_duplicate() {
        let setup = Setup::native();
        let pod = setup.pod();
        setup.send(pod, 0, &[store(None, &[1]).event()]);
        let apply = |sequence| setup.index.apply_batch(pod, sequence, &[0xc1]).expect("a known pod").outcome;
        assert_eq!(apply(1), Outcome::NeedsResync(ResyncReason::Undecodable));
        assert_eq!(apply(1), Outcome::Ignored(IgnoreReason::Duplicate));
        assert_eq!(setup.send(pod, 2, &[store(None, &[2]).event()]), Outcome::Applied);
        assert_eq!((setup.depth(pod, &[1]), setup.depth(pod, &[2])), (0, 1));
    }

    #[test]
    fn the_report_tells_what_could_not_be_read_and_where() {
        let setup = Setup::native();
        let pod = setup.pod();
        // [0.0, [["BlockStored"], ["AllBlocksCleared"]], 0]
        let mut payload = vec![0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0x92, 0x91, 0xab];
        payload.extend(b"BlockStored");
        payload.extend([0x91, 0xb0]);
        payload.extend(b"AllBlocksCleared");
        payload.push(0);
        let report = setup.index.apply_batch(pod, 0, &payload).expect("a known pod");
        assert_eq!((report.events, report.ignored_for(IgnoreReason::Malformed)), (2, 1));
        assert_eq!(report.skipped[0].position, 0);
        assert!(report.skipped[0].detail.contains("block_hashes"), "{}", report.skipped[0].detail);
    }
}
