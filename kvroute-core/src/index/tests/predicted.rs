//! What is predicted, against a list of blocks in order of use.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{index, translated as domain};
use crate::index::{BlockIndex, IndexOptions, MatchTable, PodId, PodOptions, Prediction};
use crate::{BlockHash, CacheDomain};

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
    Record { pod: usize, ways: Vec<u8> },
    Revoke { which: usize },
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
    prop::collection::vec(prop_oneof![4 => record, 1 => revoke], 1..60)
}

proptest! {
    #[test]
    fn predictions_are_the_blocks_used_last_whatever_is_recorded_and_revoked(
        acts in acts(),
        capacity in 1..60_usize,
    ) {
        let options = IndexOptions { shards: 2, max_predicted: capacity, ..IndexOptions::default() };
        let (index, domain) = (BlockIndex::new(options), domain());
        let pods = [(); 2].map(|()| index.add_pod(domain.clone(), PodOptions::default()));
        let mut models = [(); 2].map(|()| Model { capacity, ..Model::default() });
        let mut recorded: Vec<(usize, Prediction, Vec<BlockHash>)> = Vec::new();
        let mut prompts = Vec::new();
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
                    let Some((pod, prediction, new)) = recorded.get(which % recorded.len().max(1)) else { continue };
                    index.revoke(pods[*pod], *prediction);
                    models[*pod].revoke(which % recorded.len(), new);
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
    index.remove_pod(pod).unwrap();
    assert!(index.predict(pod, &domain, &prompt(&[0; 4])).is_err());
    index.revoke(pod, Prediction::default());

    let index = BlockIndex::new(IndexOptions { max_predicted: 0, ..IndexOptions::default() });
    let pod = index.add_pod(domain.clone(), PodOptions::default());
    index.predict(pod, &domain, &prompt(&[0; 4])).unwrap();
    assert_eq!((index.predicted(pod).unwrap().blocks, index.blocks()), (0, 0));
}
