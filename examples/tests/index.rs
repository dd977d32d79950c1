//! Index bugs that captures found, each cut down to the events that show it.

use std::sync::Arc;

use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, GroupKind, KvEvent};
use kvroute_core::hash::{BlockHasher, HashSeed, OwnScheme, VllmAlgorithm, VllmScheme};
use kvroute_core::index::{BlockIndex, MatchTable, PodId, PodOptions};
use kvroute_core::{BlockHash, CacheDomain, EngineHash, Tier};

/// Tokens a block.
const SIZE: u32 = 4;

/// An index over one domain, and what the blocks of one prompt are called in it.
struct Bench {
    index: BlockIndex,
    domain: Arc<CacheDomain>,
    blocks: Vec<BlockHash>,
}

impl Bench {
    /// By the engine's hashes and by our own; in both the engine calls block `i` of the prompt `name(i)`.
    fn both() -> [Self; 2] {
        let seed = HashSeed::Value("42".to_owned());
        let native = VllmScheme::for_version(VllmAlgorithm::Sha256Cbor, "0.32.0", &seed).unwrap();
        [BlockHasher::new(native, SIZE).unwrap(), BlockHasher::new(OwnScheme::default(), SIZE).unwrap()].map(
            |hasher| {
                let mut blocks = Vec::new();
                hasher.hash_into(&tokens(0, 8), &Default::default(), &mut blocks).unwrap();
                let domain = Arc::new(CacheDomain::new("tests", hasher).unwrap());
                Self { index: BlockIndex::default(), domain, blocks }
            },
        )
    }

    fn add_pod(&self) -> PodId {
        self.index.add_pod(Arc::clone(&self.domain), PodOptions::default())
    }

    /// Blocks `first..end` of the prompt are announced.
    fn stored(&self, first: usize, end: usize) -> BlockStored {
        let name = |i: usize| EngineHash(self.blocks[i].0);
        BlockStored {
            block_hashes: (first..end).map(name).collect(),
            parent: first.checked_sub(1).map(name),
            token_ids: tokens(first as u32, end as u32),
            block_size: SIZE,
            tier: Some(Tier::Gpu),
            ..BlockStored::default()
        }
    }

    fn removed(&self, block: usize) -> KvEvent {
        let block_hashes = vec![EngineHash(self.blocks[block].0)];
        KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(Tier::Gpu), group: 0 })
    }

    fn apply(&self, pod: PodId, events: Vec<KvEvent>) {
        self.index.apply_events(pod, &EventBatch { events, ..EventBatch::default() }).unwrap();
    }

    fn usable(&self, pod: PodId) -> u32 {
        let mut table = MatchTable::default();
        self.index.lookup(&self.domain, &self.blocks, &mut table);
        table.blocks(pod).total()
    }
}

fn tokens(first: u32, end: u32) -> Vec<u32> {
    (first * SIZE..end * SIZE).collect()
}

/// Found by a generated capture of hybrid pods: a query before a pod's first batch.
#[test]
fn a_pod_that_said_nothing_yet_is_not_credited_beside_a_hybrid_pod() {
    for bench in Bench::both() {
        let (hybrid, silent) = (bench.add_pod(), bench.add_pod());
        let groups = [GroupKind::FullAttention, GroupKind::SlidingWindow { window: 8 }];
        let events = groups.into_iter().zip(0..).map(|(kind, group)| {
            KvEvent::Stored(BlockStored { group, group_kind: Some(kind), ..bench.stored(0, 3) })
        });
        bench.apply(hybrid, events.collect());
        assert_eq!((bench.usable(hybrid), bench.usable(silent)), (3, 0));
    }
}

/// Found by losing batches of a capture with `kv_cache_report_mode=full`. The view knows of a block and
/// not of the ones before it, so the report that tells of all of them mixes news and repetitions.
#[test]
fn a_report_after_a_loss_is_no_second_copy() {
    for bench in Bench::both() {
        let pod = bench.add_pod();
        // The batch that stored blocks 0 to 2 was lost. Block 3 waits for its parent.
        bench.index.abandon_gap(pod, 1).unwrap();
        bench.apply(pod, vec![KvEvent::Stored(bench.stored(3, 4))]);
        // The report of blocks 0 to 3, which the engine holds once each.
        bench.apply(pod, vec![KvEvent::Stored(bench.stored(0, 4))]);
        assert_eq!(bench.usable(pod), 4);
        bench.apply(pod, vec![bench.removed(3)]);
        assert_eq!(bench.usable(pod), 3);
    }
}

/// The same where another pod's blocks give the orphan its place at once.
#[test]
fn a_report_after_a_loss_is_no_second_copy_beside_a_pod_that_has_all() {
    for bench in Bench::both() {
        let (other, pod) = (bench.add_pod(), bench.add_pod());
        bench.apply(other, vec![KvEvent::Stored(bench.stored(0, 4))]);
        bench.index.abandon_gap(pod, 1).unwrap();
        bench.apply(pod, vec![KvEvent::Stored(bench.stored(3, 4))]);
        bench.apply(pod, vec![KvEvent::Stored(bench.stored(0, 4))]);
        bench.apply(pod, vec![bench.removed(3)]);
        assert_eq!(bench.usable(pod), 3);
    }
}
