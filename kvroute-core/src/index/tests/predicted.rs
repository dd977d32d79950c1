//! What is predicted, against a list of blocks in order of use.

use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::{apply, index, stored, translated as domain};
use crate::event::{BlockStored, GroupKind, KvEvent};
use crate::index::{BlockIndex, IndexOptions, MatchTable, PodId, PodOptions, Prediction};
use crate::{BlockHash, CacheDomain, HashContext};

/// The definition: blocks in order of use, the head of a prompt after its tail; the first ones go first.
#[derive(Default)]
struct Model {
    /// Block and the prediction that used it last.
    used: Vec<(BlockHash, usize)>,
    capacity: usize,
}

impl Model {
    fn record(&mut self, blocks: &[BlockHash], number: usize) -> Vec<BlockHash> {
        let blocks = &blocks[..blocks.len().min(self.capacity)];
        let new = blocks.iter().filter(|b| self.used.iter().all(|u| u.0 != **b)).copied().collect();
        self.used.retain(|used| !blocks.contains(&used.0));
        self.used.extend(blocks.iter().rev().map(|&block| (block, number)));
        let surplus = self.used.len().saturating_sub(self.capacity);
        self.used.drain(..surplus);
        new
    }

    fn revoke(&mut self, number: usize, new: &[BlockHash]) {
        self.used.retain(|used| used.1 != number || !new.contains(&used.0));
    }

    fn depth(&self, blocks: &[BlockHash]) -> usize {
        blocks.iter().take_while(|b| self.used.iter().any(|u| u.0 == **b)).count()
    }
}

/// A prompt of a small tree: each step takes one of a few ways on, so that prompts share and part.
fn prompt(ways: &[u8]) -> Vec<BlockHash> {
    let mut hash = 1_u64;
    let chained = ways.iter().map(|&way| {
        hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(way) + 1);
        BlockHash(hash)
    });
    chained.collect()
}

fn predicted(index: &BlockIndex, domain: &CacheDomain, pod: PodId, blocks: &[BlockHash]) -> usize {
    let mut table = MatchTable::default();
    index.lookup(domain, blocks, &mut table);
    table.matches().iter().find(|m| m.pod == pod).map_or(0, |m| m.predicted as usize)
}

#[derive(Clone, Debug)]
enum Act {
    Record {
        pod: usize,
        ways: Vec<u8>,
    },
    Revoke {
        which: usize,
    },
    /// The index goes on as another one, made of its snapshot.
    Carry,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // Long shared heads, so that prompts part in the middle of runs and cross them.
    let ways = (0..20_usize, prop::collection::vec(0..2_u8, 0..14)).prop_map(|(head, tail)| {
        let mut ways = alloc::vec![0; head];
        ways.extend(tail);
        ways
    });
    let record = (0..2_usize, ways).prop_map(|(pod, ways)| Act::Record { pod, ways });
    let revoke = (0..64_usize).prop_map(|which| Act::Revoke { which });
    prop::collection::vec(prop_oneof![8 => record, 2 => revoke, 1 => Just(Act::Carry)], 1..60)
}

proptest! {
    #[test]
    fn predictions_are_the_blocks_used_last_whatever_is_recorded_and_revoked(
        acts in acts(),
        capacity in 1..60_usize,
    ) {
        let options = IndexOptions { shards: 2, max_predicted: capacity, ..IndexOptions::default() };
        let (mut index, domain) = (BlockIndex::new(options), domain());
        let mut pods = [(); 2].map(|()| index.add_pod(domain.clone(), PodOptions::default()));
        let mut models = [(); 2].map(|()| Model { capacity, ..Model::default() });
        let mut recorded: Vec<(usize, Prediction, Vec<BlockHash>)> = Vec::new();
        let mut prompts = Vec::new();
        // Predictions of an index before cannot be taken back.
        let mut before = 0;
        for act in acts {
            match act {
                Act::Record { pod, ways } => {
                    let blocks = prompt(&ways);
                    let prediction = index.predict(pods[pod], &domain, &blocks).unwrap();
                    let new = models[pod].record(&blocks, recorded.len());
                    recorded.push((pod, prediction, new));
                    prompts.push(blocks);
                }
                Act::Revoke { which } => {
                    let which = before + which % (recorded.len() - before).max(1);
                    let Some((pod, prediction, new)) = recorded.get(which) else { continue };
                    index.revoke(pods[*pod], *prediction);
                    models[*pod].revoke(which, new);
                }
                Act::Carry => {
                    let other = BlockIndex::new(IndexOptions { shards: 4, ..options });
                    let new = [(); 2].map(|()| other.add_pod(domain.clone(), PodOptions::default()));
                    let counts = pods.map(|pod| index.predicted(pod).unwrap());
                    index.carry_over(&pods, &other, &new).unwrap();
                    prop_assert_eq!(new.map(|pod| other.predicted(pod).unwrap()), counts);
                    (index, pods, before) = (other, new, recorded.len());
                }
            }
            for (&pod, model) in pods.iter().zip(&models) {
                prop_assert_eq!(index.predicted(pod).unwrap().blocks, model.used.len());
                for blocks in &prompts {
                    prop_assert_eq!(predicted(&index, &domain, pod, blocks), model.depth(blocks));
                }
            }
            prop_assert_eq!(index.bytes(), index.recount());
        }
        pods.into_iter().for_each(|pod| index.remove_pod(pod).unwrap());
        prop_assert_eq!((index.blocks(), index.bytes()), (0, 0));
    }
}

#[test]
fn what_is_predicted_is_no_holding_and_what_is_held_no_prediction() {
    let (index, domain) = (index(2), domain());
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    let blocks = prompt(&[0; 20]);
    index.predict(pod, &domain, &blocks[..12]).unwrap();
    let mut table = MatchTable::default();
    index.lookup(&domain, &blocks, &mut table);
    assert_eq!(table.matches().len(), 1);
    assert_eq!((table.blocks(pod).total(), table.matches()[0].predicted), (0, 12));
}

#[test]
fn nothing_is_predicted_for_a_pod_that_is_gone_or_where_the_bound_is_zero() {
    let (index, domain) = (index(2), domain());
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    let found_before = index.pod(pod).unwrap();
    index.remove_pod(pod).unwrap();
    assert!(found_before.sent.lock().is_gone());
    assert!(index.predict(pod, &domain, &prompt(&[0; 4])).is_err());
    index.revoke(pod, Prediction::default());

    let index = BlockIndex::new(IndexOptions { max_predicted: 0, ..IndexOptions::default() });
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    index.predict(pod, &domain, &prompt(&[0; 4])).unwrap();
    assert_eq!((index.predicted(pod).unwrap().blocks, index.blocks()), (0, 0));
}

#[test]
fn pods_that_come_and_go_leave_no_lane_behind() {
    let (index, domain) = (index(2), domain());
    for _ in 0..10 {
        let pod = index.add_pod(domain.clone(), PodOptions::default());
        index.predict(pod, &domain, &prompt(&[0; 4])).unwrap();
        assert_eq!(index.fleet.load().uses().len(), 1);
        index.remove_pod(pod).unwrap();
        assert!(index.fleet.load().uses().is_empty());
    }
}

#[test]
fn at_the_memory_bound_predictions_drop_their_oldest_and_leave_room_to_events() {
    const BOUND: usize = 64 << 10;
    let domain = domain();
    let index = BlockIndex::new(IndexOptions { shards: 1, max_bytes: BOUND, ..IndexOptions::default() });
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    // Nothing in common with any other.
    let prompt_of = |number: u64, length: u64| -> Vec<BlockHash> {
        (0..length)
            .map(|at| BlockHash(((number << 32) + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect()
    };
    let mut missing = 0;
    for number in 0..400 {
        let blocks = prompt_of(number, 100);
        index.predict(pod, &domain, &blocks).unwrap();
        missing += 100 - predicted(&index, &domain, pod, &blocks);
    }
    // What is dropped is counted in blocks, and tables grow by leaps, so now and then it frees too little.
    assert!(missing < 400 * 100 / 20, "{missing} of the latest were refused");
    assert_eq!(predicted(&index, &domain, pod, &prompt_of(0, 100)), 0, "the first went");
    assert_eq!(index.predicted(pod).unwrap().refused, missing as u64);

    let free = BOUND - index.bytes();
    assert!(free > BOUND / 16, "about an eighth is free still, not {free} bytes");
    let announced: Vec<u64> = (1..=20).collect();
    apply(&index, pod, stored(None, &announced));
    assert_eq!(index.counters(pod).unwrap().blocks_refused, 0);

    // More than there is room for even without all others.
    let long = prompt_of(1000, 100_000);
    let before = index.predicted(pod).unwrap();
    index.predict(pod, &domain, &long).unwrap();
    let held = predicted(&index, &domain, pod, &long);
    let counts = index.predicted(pod).unwrap();
    let counted = IndexOptions::default().max_predicted;
    assert!(held < counted);
    assert_eq!((counts.blocks, counts.refused - before.refused), (held, (counted - held) as u64));
    assert_eq!(index.bytes(), index.recount());
}

#[test]
fn a_prompt_beyond_the_bound_is_predicted_by_its_beginning_and_costs_no_more_each_time() {
    let (domain, blocks) = (domain(), prompt(&[0; 10]));
    let index = BlockIndex::new(IndexOptions { max_predicted: 4, ..IndexOptions::default() });
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    index.predict(pod, &domain, &blocks).unwrap();
    assert_eq!(predicted(&index, &domain, pod, &blocks), 4);
    let bytes = (index.bytes(), index.view_bytes());
    for _ in 0..100 {
        index.predict(pod, &domain, &blocks).unwrap();
    }
    assert_eq!((index.bytes(), index.view_bytes()), bytes);
}

#[test]
fn what_was_revoked_leaves_no_word_behind() {
    let (index, domain) = (index(2), domain());
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    let once = |way| {
        let prediction = index.predict(pod, &domain, &prompt(&[way; 10])).unwrap();
        index.revoke(pod, prediction);
        (index.bytes(), index.view_bytes())
    };
    let first = once(0);
    assert!((1..=u8::MAX).all(|way| once(way) == first));
}

#[test]
fn each_pod_of_the_domain_has_one_row_whatever_is_held_and_predicted() {
    let (index, one) = (index(2), domain());
    let other = Arc::new(CacheDomain::new("other", one.hasher().clone()).unwrap());
    let tokens: Vec<u32> = (1..=10).collect();
    let blocks = one.hasher().hash(&tokens, &HashContext::default()).unwrap();
    let numbers: Vec<u64> = (1..=10).collect();
    let hybrid = |pod, held: usize| {
        for (group, kind) in [(0, GroupKind::FullAttention), (1, GroupKind::SlidingWindow { window: 3 })] {
            let KvEvent::Stored(event) = stored(None, &numbers[..held]) else { unreachable!() };
            apply(&index, pod, KvEvent::Stored(BlockStored { group, group_kind: Some(kind), ..event }));
        }
    };
    let pods = [(); 6].map(|()| index.add_pod(one.clone(), PodOptions::default()));
    let [both, other_way, sent, hybrid_both, hybrid_sent, _silent] = pods;
    apply(&index, both, stored(None, &numbers[..5]));
    apply(&index, other_way, stored(None, &numbers[..9]));
    hybrid(hybrid_both, 8);
    hybrid(hybrid_sent, 1);
    apply(&index, hybrid_sent, KvEvent::Cleared);
    for (pod, length) in [(both, 7), (other_way, 2), (sent, 2), (hybrid_both, 3), (hybrid_sent, 4)] {
        index.predict(pod, &one, &blocks[..length]).unwrap();
    }
    // Pods of another domain have none, whatever they hold.
    let strangers = [(); 2].map(|()| index.add_pod(other.clone(), PodOptions::default()));
    apply(&index, strangers[0], stored(None, &numbers));
    hybrid(strangers[1], 10);
    for pod in strangers {
        index.predict(pod, &other, &blocks).unwrap();
    }
    let mut table = MatchTable::default();
    index.lookup(&one, &blocks, &mut table);
    let mut rows: Vec<_> = table.matches().iter().map(|m| (m.pod, m.blocks.total(), m.predicted)).collect();
    rows.sort();
    let expected = [(both, 5, 7), (other_way, 9, 2), (sent, 0, 2), (hybrid_both, 8, 3), (hybrid_sent, 0, 4)];
    assert_eq!(rows, expected);
    // Not even to one who makes keys of this domain meet those of theirs.
    let made: Vec<_> = blocks.iter().map(|b| BlockHash(b.0 ^ one.salt() ^ other.salt())).collect();
    index.lookup(&one, &made, &mut table);
    assert_eq!(table.matches(), []);
}
