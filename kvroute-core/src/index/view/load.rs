//! A view from the records of a snapshot.

use alloc::vec::Vec;

use hashbrown::HashMap;

use super::View;
use crate::EngineHash;
use crate::index::parked::ParkedBlock;
use crate::index::run::{Place, RunId, Spot};
use crate::index::snapshot::{Placed, RestoredBlocks, StagedBlock, StagedPod};
use crate::index::{BlockIndex, CopyPolicy};
use crate::sequence::SequenceTracker;

impl View {
    /// Whether nothing came from the engine so far.
    fn is_untouched(&self) -> bool {
        self.counters.batches == 0
            && self.counters.clears == 0
            && self.lanes.is_empty()
            && self.tracker == SequenceTracker::default()
    }

    /// Goes on where the view of the snapshot was; `None`, and nothing changes, if events came already.
    pub(in crate::index) fn load(
        &mut self,
        index: &BlockIndex,
        mut staged: StagedPod,
        placed: &Placed,
    ) -> Option<RestoredBlocks> {
        let stream = staged.stream.take_if(|_| self.is_untouched())?;
        let mut restored = RestoredBlocks::default();
        self.tracker = stream.tracker;
        self.last_event = stream.last_event;
        self.dp_rank = self.dp_rank.or(stream.dp_rank);
        (self.offloads, self.degraded, self.awaiting) = (stream.offloads, stream.degraded, stream.awaiting);
        self.counters = stream.counters;
        // Before there are lanes: no pod may be credited for one group while others are still to come.
        if self.groups != stream.groups {
            self.groups = stream.groups;
            index.set_groups(self.id, &self.groups);
        }
        for lane in &staged.lanes {
            self.lane(index, lane.group, lane.tier);
        }
        self.load_held(index, &staged, placed, &mut restored);
        if let Some(journal) = &mut self.journal {
            journal.lose();
        }
        for (lane, key, copies) in staged.copies {
            if let Some(own) = self.lanes.get(lane).filter(|_| self.options.copies != CopyPolicy::Set) {
                self.more_copies.insert((own.lane.id, key), copies);
            }
        }
        for (key, parent) in staged.lineage {
            let parent = parent.map(|key| self.remembered(placed, key));
            self.lineage.remember(key, parent, self.options.max_retired);
        }
        self.load_parked(staged.parked, &mut restored);
        self.load_predicted(index, &staged.uses, staged.predictions_refused, placed, &mut restored);
        if restored.refused > 0 {
            self.counters.blocks_refused += restored.refused;
            self.degraded = true;
        }
        Some(restored)
    }

    /// What its lanes hold, and the engine's names for that and for what it held lately.
    fn load_held(
        &mut self,
        index: &BlockIndex,
        staged: &StagedPod,
        placed: &Placed,
        restored: &mut RestoredBlocks,
    ) {
        let is_translated = !self.domain.is_native();
        if is_translated {
            self.translation.reserve(staged.names.len() + staged.other_names.len());
        }
        // Blocks with further names.
        let mut renamed: HashMap<u64, Option<Place>> =
            staged.other_names.iter().map(|&(_, key, _)| (key, None)).collect();
        let mut blocks = Vec::new();
        let mut names = staged.names.iter();
        let mut same_copies = staged.same_copies.iter().copied();
        let mut same = (0, 0);
        for (own, lane) in self.lanes.iter_mut().zip(&staged.lanes) {
            for &part in &lane.parts {
                // The first that there is no room for ends it, so that what is held comes first.
                let mut has_room = true;
                blocks.clear();
                placed.split(part.piece, part.offsets(), |run, offsets| {
                    let places = offsets.clone().map(|offset| Place { run, offset });
                    has_room = has_room && index.chains.cover_part(own.lane.id, run, offsets, &mut own.runs);
                    blocks.extend(places.filter(|_| has_room));
                });
                restored.held += blocks.len() as u64;
                restored.refused += (part.offsets().len() - blocks.len()) as u64;
                if !is_translated {
                    continue;
                }
                for (at, &key) in placed.keys(part).iter().enumerate() {
                    let place = blocks.get(at).copied();
                    if !renamed.is_empty() && place.is_some() {
                        renamed.entry(key).and_modify(|known| *known = place);
                    }
                    while same.0 == 0 {
                        // Behind the last there are no names.
                        same = same_copies.next().unwrap_or((u32::MAX, 0));
                    }
                    same.0 -= 1;
                    let name = if same.1 > 0 { names.next() } else { None };
                    if let Some((&name, place)) = name.zip(place) {
                        self.translation.restore(name, place, same.1);
                    }
                }
            }
        }
        for &(name, key, copies) in &staged.other_names {
            if let Some(&Some(place)) = renamed.get(&key) {
                self.translation.restore(name, place, copies);
            }
        }
        for &(name, key) in &staged.retired {
            match key {
                Some(key) => self.translation.restore_retired(name, self.remembered(placed, key)),
                // Held again by now: the place it has in the queue is all that counts of it.
                None if self.translation.place(EngineHash(name)).is_some() => {
                    self.translation.restore_retired(name, Spot::by_key(0));
                }
                None => {}
            }
        }
    }

    /// A block that was held or gone past before.
    fn remembered(&self, placed: &Placed, key: u64) -> Spot {
        Spot { key, place: placed.remembered(key).filter(|_| !self.domain.is_native()) }
    }

    fn load_parked(&mut self, parked: Vec<StagedBlock>, restored: &mut RestoredBlocks) {
        let is_native = self.domain.is_native();
        let tokens = if is_native { 0 } else { self.domain.block_size() as usize };
        for StagedBlock { parent, hash, lane, copies, is_found, token_ids, extra_keys } in parked {
            let own = self.lanes.get(lane).filter(|_| token_ids.len() == tokens);
            let has_room = own.is_some_and(|own| {
                let (hash, lane) = (EngineHash(hash), own.lane.id);
                let block = ParkedBlock { hash, lane, copies, token_ids, extra_keys };
                self.parked.restore(EngineHash(parent), block, is_found)
            });
            restored.refused += u64::from(!has_room);
        }
    }

    fn load_predicted(
        &self,
        index: &BlockIndex,
        uses: &[(u32, u16)],
        refused: u64,
        placed: &Placed,
        restored: &mut RestoredBlocks,
    ) {
        let predictions = &mut self.sent.lock().predicted;
        // What was sent there since is later than anything in the snapshot.
        if !predictions.is_untouched() {
            return;
        }
        predictions.note_refused(refused);
        if uses.is_empty() {
            return;
        }
        let Ok(lane) = index.sent_lane(self.id, &mut predictions.lane, false) else { return };
        let mut parts: Vec<(RunId, usize)> = Vec::new();
        for &(piece, end) in uses {
            placed.split(piece, 0..usize::from(end), |run, offsets| parts.push((run, offsets.end)));
            for (run, end) in parts.drain(..).rev() {
                predictions.restore(&index.chains, lane, run, end);
            }
        }
        predictions.keep_bound(&index.chains, lane);
        restored.predicted = predictions.counts().blocks;
    }
}
