//! Stores without token ids: blocks that are named alone, because the pod is known to know them.
//!
//! Engines announce offloaded blocks so, and what is left of a range of which some blocks are masked.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::{RunSet, View, places_of};
use crate::frame::FrameWriter;
use crate::index::outcome::{IgnoreReason, Outcome};
use crate::index::run::Spot;
use crate::index::{BlockIndex, CopyPolicy};
use crate::{EngineHash, Tier};

/// Parents of blocks that went away lately, so that an offload announcement, which names no parent, can
/// still be placed. Kept only for pods that announce offloads.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    parents: HashMap<u64, Option<Spot>>,
    order: VecDeque<u64>,
}

struct Ancestors {
    /// The block itself, then the missing ones before it, nearest first.
    keys: Vec<u64>,
    /// The known block before them all; `None` at the start of a prompt.
    root: Option<Spot>,
}

impl View {
    /// Stores blocks that are named without their tokens: each must have a known place.
    pub(super) fn store_placed(
        &mut self,
        index: &BlockIndex,
        lane: usize,
        hashes: &[EngineHash],
        unknown: IgnoreReason,
    ) -> Outcome {
        self.offloads |= self.lanes[lane].lane.tier != Tier::Gpu;
        let mut outcome = Outcome::Applied;
        for &hash in hashes {
            let spot = self.spot_of(index, hash);
            let placed = spot.is_some_and(|spot| self.store_one(index, lane, hash, spot));
            if !placed && !self.parked.park_again(hash, self.lanes[lane].lane.id) {
                self.counters.blocks_refused += 1;
                self.degraded = true;
                outcome = Outcome::Ignored(unknown);
            }
        }
        outcome
    }

    fn store_one(&mut self, index: &BlockIndex, lane: usize, hash: EngineHash, spot: Spot) -> bool {
        let Some(ancestors) = self.ancestors(index, spot) else { return false };
        let (own, key) = (&mut self.lanes[lane], spot.key);
        // What stands only as a step to the block is not held: no lookup reads the lane that keeps it, and
        // once the block has its place, that keeps it.
        let (step_lane, mut step_runs) = (self.id.step_lane(), RunSet::new(self.domain.is_native()));
        let (steps, mut parent, mut held) = (&ancestors.keys[1..], ancestors.root, false);
        let mut stepped_on = Vec::new();
        let stepped = steps.iter().rev().all(|&step| {
            step_runs.stored.clear();
            let stored = index.chains.store(step_lane, parent, &[step], &mut step_runs, |_| ());
            parent = Some(Spot { key: step, place: places_of(&step_runs.stored).next() });
            stepped_on.extend(parent.filter(|_| stored.held == 1));
            stored.held == 1
        });
        own.runs.stored.clear();
        let stored = stepped
            && index.chains.store(own.lane.id, parent, &[key], &mut own.runs, |_| held = true).held == 1;
        for spot in stepped_on.into_iter().rev() {
            index.chains.remove(step_lane, spot, &mut step_runs);
        }
        if !stored {
            return false;
        }
        if held && self.options.copies == CopyPolicy::Set {
            return true;
        }
        if held {
            *self.more_copies.entry((own.lane.id, key)).or_insert(0) += 1;
        }
        if let Some(place) = places_of(&own.runs.stored).next() {
            _ = self.translation.add_copy(hash, place);
        }
        if !held {
            self.journal_one(lane, true, key);
        }
        self.counters.blocks_stored += 1;
        if !self.parked.is_empty() {
            self.unpark(index, &[hash]);
        }
        true
    }

    /// The chain to store so that a block gets its place again: itself first, then as many blocks before it
    /// as the index has forgotten.
    fn ancestors(&self, index: &BlockIndex, spot: Spot) -> Option<Ancestors> {
        let mut keys = alloc::vec![spot.key];
        let mut block = spot;
        // Longer than all that is remembered is a circle.
        let most = self.options.max_retired.min(self.lineage.parents.len());
        loop {
            let parent = match index.chains.parent_of(block) {
                Some(parent) => return Some(Ancestors { keys, root: parent }),
                None => *self.lineage.parents.get(&block.key)?,
            };
            match parent {
                Some(parent) if keys.len() <= most => {
                    if index.chains.find(parent).is_some() {
                        return Some(Ancestors { keys, root: Some(parent) });
                    }
                    keys.push(parent.key);
                    block = parent;
                }
                Some(_) => return None,
                None => return Some(Ancestors { keys, root: None }),
            }
        }
    }
}

impl Lineage {
    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.parents.allocation_size() + self.order.capacity() * size_of::<u64>()
    }

    /// Writes it, oldest first.
    pub(super) fn save(&self, frames: &mut FrameWriter) {
        for key in &self.order {
            frames.hash_and_option(*key, self.parents.get(key).copied().flatten().map(|parent| parent.key));
        }
    }

    /// Keeps the `most` latest.
    pub(super) fn remember(&mut self, key: u64, parent: Option<Spot>, most: usize) {
        if self.parents.insert(key, parent).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.parents.remove(&oldest);
        }
    }
}
