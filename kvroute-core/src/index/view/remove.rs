//! Removals: one copy of each block, in one tier or in all.

use super::View;
use crate::EngineHash;
use crate::event::BlockRemoved;
use crate::index::BlockIndex;
use crate::index::outcome::{IgnoreReason, Outcome};

impl View {
    pub(super) fn remove(&mut self, index: &BlockIndex, event: &BlockRemoved) -> Outcome {
        if let Some(lane) = self.plain_lane(event)
            && let Some(outcome) = self.remove_plain(index, lane, &event.block_hashes)
        {
            return outcome;
        }
        let mut outcome = Outcome::Applied;
        for &hash in &event.block_hashes {
            let mut found = false;
            if let Some(key) = self.key_of(hash) {
                for at in 0..self.lanes.len() {
                    let lane = self.lanes[at].lane;
                    if lane.group != event.group || event.tier.is_some_and(|tier| tier != lane.tier) {
                        continue;
                    }
                    found |= self.remove_from(index, at, hash, key, event.tier.is_none());
                }
            }
            if (!found || event.tier.is_none()) && !self.parked.is_empty() {
                let lanes = &self.lanes;
                let concerns = |id| {
                    lanes.iter().any(|own| {
                        own.lane.id == id
                            && own.lane.group == event.group
                            && event.tier.is_none_or(|tier| tier == own.lane.tier)
                    })
                };
                found |= self.parked.remove(hash, concerns, event.tier.is_none());
            }
            if found {
                self.counters.blocks_removed += 1;
            } else {
                self.counters.unknown_removals += 1;
                outcome = Outcome::Ignored(IgnoreReason::UnknownBlock);
            }
        }
        outcome
    }

    /// The lane that an event is about, if there is one and nothing else is to be thought of: no blocks that wait, no
    /// offloads.
    fn plain_lane(&self, event: &BlockRemoved) -> Option<usize> {
        let tier = event.tier.filter(|_| self.parked.is_empty() && !self.offloads)?;
        self.lanes.iter().position(|own| own.lane.group == event.group && own.lane.tier == tier)
    }

    /// Takes blocks out of a lane; `None`, and nothing happened, if it has further copies of any.
    fn remove_plain(&mut self, index: &BlockIndex, lane: usize, hashes: &[EngineHash]) -> Option<Outcome> {
        let (mut keys, mut known) = (core::mem::take(&mut self.keys), core::mem::take(&mut self.known));
        keys.clear();
        known.clear();
        // All names first: none waits for another's, so the processor looks several up at a time.
        for &hash in hashes {
            if let Some(key) = self.key_of(hash) {
                keys.push(key);
                known.push(hash);
            }
        }
        let (own, mut at, mut removed) = (&mut self.lanes[lane], 0, 0);
        let has_more = |key: &u64| self.more_copies.contains_key(&(own.lane.id, *key));
        if !self.more_copies.is_empty() && keys.iter().any(has_more) {
            (self.keys, self.known) = (keys, known);
            return None;
        }
        while at < keys.len() {
            let taken = index.chains.remove_tail(own.lane.id, &keys[at..], &mut own.runs);
            if !self.domain.is_native() {
                known[at..at + taken].iter().for_each(|&hash| self.translation.drop_copies(hash, 1));
            }
            removed += taken;
            at += taken.max(1);
        }
        (self.keys, self.known) = (keys, known);
        self.counters.blocks_removed += removed as u64;
        self.counters.unknown_removals += (hashes.len() - removed) as u64;
        let all = removed == hashes.len();
        Some(if all { Outcome::Applied } else { Outcome::Ignored(IgnoreReason::UnknownBlock) })
    }

    /// Takes one copy of a block (every copy with `all`) out of a lane; false if the lane has none.
    fn remove_from(&mut self, index: &BlockIndex, at: usize, hash: EngineHash, key: u64, all: bool) -> bool {
        let own = &mut self.lanes[at];
        let mut dropped = 0;
        if let Some(more) = self.more_copies.get_mut(&(own.lane.id, key)) {
            let taken = if all { *more } else { 1 };
            *more -= taken;
            dropped = taken;
            if *more == 0 {
                self.more_copies.remove(&(own.lane.id, key));
                if self.more_copies.len() * 8 < self.more_copies.capacity() {
                    self.more_copies.shrink_to(self.more_copies.len() * 2);
                }
            }
        }
        if all || dropped == 0 {
            if self.offloads
                && let Some(parent) = index.chains.parent_of(key)
            {
                self.lineage.remember(key, parent, self.options.max_retired);
            }
            if index.chains.remove(own.lane.id, key, &mut own.runs) {
                dropped += 1;
            }
        }
        if dropped > 0 && !self.domain.is_native() {
            self.translation.drop_copies(hash, dropped);
        }
        dropped > 0
    }
}
