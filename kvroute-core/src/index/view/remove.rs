//! Removals: one copy of each block, in one tier or in all.

use super::View;
use crate::event::BlockRemoved;
use crate::index::BlockIndex;
use crate::index::outcome::{IgnoreReason, Outcome};
use crate::index::run::Spot;
use crate::{BlockHash, EngineHash};

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
            if let Some(spot) = self.spot_of(index, hash) {
                for at in 0..self.lanes.len() {
                    let lane = self.lanes[at].lane;
                    if lane.group != event.group || event.tier.is_some_and(|tier| tier != lane.tier) {
                        continue;
                    }
                    found |= self.remove_from(index, at, hash, spot, event.tier.is_none());
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
        let removed = if self.domain.is_native() {
            self.remove_named(index, lane, hashes)
        } else {
            self.remove_placed(index, lane, hashes)
        }?;
        self.counters.blocks_removed += removed as u64;
        self.counters.unknown_removals += (hashes.len() - removed) as u64;
        let all = removed == hashes.len();
        Some(if all { Outcome::Applied } else { Outcome::Ignored(IgnoreReason::UnknownBlock) })
    }

    /// The same in a native domain; answers how many were taken.
    fn remove_named(&mut self, index: &BlockIndex, lane: usize, hashes: &[EngineHash]) -> Option<usize> {
        let own = &mut self.lanes[lane];
        self.keys.clear();
        self.keys.extend(hashes.iter().map(|hash| hash.0 ^ self.domain.salt()));
        let has_more = |key: &u64| self.more_copies.contains_key(&(own.lane.id, *key));
        if !self.more_copies.is_empty() && self.keys.iter().any(has_more) {
            return None;
        }
        let (mut at, mut removed) = (0, 0);
        while at < self.keys.len() {
            let taken = index.chains.remove_tail(own.lane.id, &self.keys[at..], &mut own.runs);
            if let Some(journal) = &mut self.journal {
                let gone = self.keys[at..at + taken].iter();
                journal.record(own.lane, false, gone.map(|key| BlockHash(key ^ self.domain.salt())));
            }
            removed += taken;
            at += taken.max(1);
        }
        Some(removed)
    }

    /// The same in a translated one.
    fn remove_placed(&mut self, index: &BlockIndex, lane: usize, hashes: &[EngineHash]) -> Option<usize> {
        self.known.clear();
        self.places.clear();
        self.translation.fetch(hashes);
        for &hash in hashes {
            if let Some(place) = self.translation.place(hash) {
                self.known.push(hash);
                self.places.push(place);
            }
        }
        if self.known.iter().any(|&hash| self.translation.has_more(hash)) {
            return None;
        }
        let own = &mut self.lanes[lane];
        let (mut at, mut removed) = (0, 0);
        while at < self.places.len() {
            self.keys.clear();
            let gone = |key| self.keys.push(key);
            let taken = index.chains.remove_tail_at(own.lane.id, &self.places[at..], &mut own.runs, gone);
            if let Some(journal) = &mut self.journal {
                let gone = self.keys.iter();
                journal.record(own.lane, false, gone.map(|key| BlockHash(key ^ self.domain.salt())));
            }
            for (&name, &key) in self.known[at..].iter().zip(&self.keys) {
                self.translation.drop_copies(name, 1, key);
            }
            removed += taken;
            at += taken.max(1);
        }
        Some(removed)
    }

    /// Takes one copy of a block (every copy with `all`) out of a lane; false if the lane has none.
    fn remove_from(
        &mut self,
        index: &BlockIndex,
        at: usize,
        hash: EngineHash,
        spot: Spot,
        all: bool,
    ) -> bool {
        let (own, key) = (&mut self.lanes[at], spot.key);
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
                && let Some(parent) = index.chains.parent_of(spot)
            {
                self.lineage.remember(key, parent, self.options.max_retired);
            }
            if index.chains.remove(own.lane.id, spot, &mut own.runs) {
                dropped += 1;
                self.journal_one(at, false, key);
            }
        }
        if dropped > 0 && !self.domain.is_native() {
            self.translation.drop_copies(hash, dropped, key);
        }
        dropped > 0
    }
}
