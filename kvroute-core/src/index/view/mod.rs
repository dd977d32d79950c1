//! One pod's stream of events, turned into changes of the index.
//!
//! A view is what only its own pod's events touch: where the stream stands, how the engine's names
//! translate, which blocks it holds more than once, what waits for a parent. One thread at a time
//! applies a pod's events; different pods proceed in parallel.
//!
//! This file follows the stream and knows what a view is made of; [`store`], [`placed`] and [`remove`] hold
//! what single events do; [`save`] and [`load`] are its part of a snapshot, [`held`] what it tells of its blocks.

mod held;
mod load;
mod numbered;
mod placed;
mod remove;
mod save;
mod store;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;
use core::ops::Range;

use hashbrown::{HashMap, HashTable};
use parking_lot::Mutex;

use self::placed::Lineage;
use self::store::Fresh;
use super::chains::LaneRuns;
use super::fleet::{Lane, MAX_GROUPS, PodId, kinds};
use super::held::Journal;
use super::outcome::{ApplyReport, Counters, IgnoreReason, Outcome, ResyncReason, TrustLevel};
use super::parked::Parked;
use super::run::{Place, RunId, Spot};
use super::sent::Sent;
use super::shard::{give_back, spread};
use super::translation::{Known, Translation};
use super::{BlockIndex, CopyPolicy, GapPolicy, PodOptions};
use crate::domain::CacheDomain;
use crate::event::{BlockStored, EventBatch, GroupKind, KvEvent, decode_batch};
use crate::sequence::{SequenceTracker, Verdict};
use crate::{EngineHash, Error, Tier};

/// The runs a lane holds a part of, so that a pod can be cleared without visiting the others.
#[derive(Debug)]
struct RunSet {
    runs: HashTable<u32>,
    /// The lane is of a native domain, where events name blocks by their keys.
    is_native: bool,
    /// Where the blocks lie that were stored since this was last cleared, in their order; of translated domains only.
    stored: Vec<(RunId, Range<usize>)>,
}

impl RunSet {
    fn new(is_native: bool) -> Self {
        Self { runs: HashTable::new(), is_native, stored: Vec::new() }
    }

    /// Bytes allocated.
    fn bytes(&self) -> usize {
        self.runs.allocation_size() + self.stored.capacity() * size_of::<(RunId, Range<usize>)>()
    }
}

/// The places of blocks that lie in these parts of runs.
fn places_of(parts: &[(RunId, Range<usize>)]) -> impl Iterator<Item = Place> {
    parts.iter().flat_map(|(run, part)| part.clone().map(|offset| Place { run: *run, offset }))
}

impl LaneRuns for RunSet {
    fn found_by_key(&self) -> bool {
        self.is_native
    }

    fn entered(&mut self, run: RunId) {
        self.runs.insert_unique(spread(u64::from(run.0)), run.0, |&run| spread(u64::from(run)));
    }

    fn left(&mut self, run: RunId) {
        if let Ok(entry) = self.runs.find_entry(spread(u64::from(run.0)), |&other| other == run.0) {
            entry.remove();
        }
        give_back(&mut self.runs, |&run| spread(u64::from(run)));
    }

    fn covered(&mut self, run: RunId, part: Range<usize>) {
        if !self.is_native {
            self.stored.push((run, part));
        }
    }
}

#[derive(Debug)]
struct ViewLane {
    lane: Lane,
    runs: RunSet,
}

#[derive(Debug)]
pub(super) struct View {
    id: PodId,
    domain: Arc<CacheDomain>,
    options: PodOptions,
    tracker: SequenceTracker,
    /// Number of the last event, where events are numbered.
    last_event: Option<u64>,
    /// The rank its batches carry, once one did.
    dp_rank: Option<u32>,
    lanes: Vec<ViewLane>,
    groups: Vec<(u32, GroupKind)>,
    /// (lane, key) -> copies beyond the first.
    more_copies: HashMap<(u32, u64), u32>,
    translation: Translation,
    parked: Parked,
    lineage: Lineage,
    offloads: bool,
    degraded: bool,
    gone: bool,
    counters: Counters,
    /// Keys that came to be held in the batch being applied.
    fresh: Fresh,
    /// Batches are missing, and nothing is applied before they come or are given up.
    awaiting: bool,
    /// Scratch: keys of the event being applied, and which of them were held already.
    keys: Vec<u64>,
    already: Vec<usize>,
    /// Scratch: names of the event being applied, those that are known, and their places.
    known: Vec<EngineHash>,
    places: Vec<Place>,
    /// What the router sent to the pod; void when the engine drops its cache.
    sent: Arc<Mutex<Sent>>,
    /// What came to be held and is held no more, where somebody asks for it.
    journal: Option<Box<Journal>>,
}

impl View {
    pub(super) fn new(
        id: PodId,
        domain: Arc<CacheDomain>,
        options: PodOptions,
        sent: Arc<Mutex<Sent>>,
    ) -> Self {
        Self {
            id,
            domain,
            tracker: SequenceTracker::default(),
            last_event: None,
            dp_rank: options.dp_rank,
            lanes: Vec::new(),
            groups: options.groups.clone(),
            more_copies: HashMap::new(),
            translation: Translation::new(options.max_retired),
            parked: Parked::new(
                options.max_parked,
                options.max_parked_bytes,
                options.copies != CopyPolicy::Set,
            ),
            lineage: Lineage::default(),
            offloads: false,
            degraded: false,
            gone: false,
            counters: Counters::default(),
            fresh: Fresh::default(),
            awaiting: false,
            keys: Vec::new(),
            already: Vec::new(),
            known: Vec::new(),
            places: Vec::new(),
            sent,
            journal: None,
            options,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn trust(&self) -> TrustLevel {
        let lanes = self.lanes.iter().map(|own| own.lane.group);
        if kinds(&self.groups, lanes).any(|(_, kind)| kind == GroupKind::Unknown) {
            TrustLevel::LoadOnly
        } else if self.counters.batches == 0 {
            TrustLevel::Approximate
        } else if self.degraded || self.awaiting {
            TrustLevel::Degraded
        } else {
            TrustLevel::Exact
        }
    }

    /// Bytes this view has allocated.
    pub(super) fn bytes(&self) -> usize {
        let copies = self.more_copies.allocation_size();
        let runs: usize = self.lanes.iter().map(|lane| lane.runs.bytes()).sum();
        let scratch = self.keys.capacity() + self.already.capacity() + self.known.capacity();
        let places = self.places.capacity() * size_of::<Place>();
        let journal = self.journal.as_ref().map_or(0, |journal| journal.bytes());
        let scratch = scratch * size_of::<u64>() + places + self.fresh.bytes() + journal;
        copies + runs + scratch + self.lineage.bytes() + self.translation.bytes() + self.parked.bytes()
    }

    /// Applies one published batch.
    pub(super) fn apply_batch(&mut self, index: &BlockIndex, sequence: u64, payload: &[u8]) -> ApplyReport {
        let verdict = self.tracker.judge(sequence, payload);
        if verdict == Verdict::Duplicate {
            let report = ApplyReport::only(Outcome::Ignored(IgnoreReason::Duplicate));
            self.counters.count_batch(&report);
            return report;
        }
        let batch = decode_batch(payload);
        if let Ok(batch) = &batch
            && !self.is_ours(batch)
        {
            // Before its number is believed: it belongs to another stream.
            return self.refuse_rank();
        }
        let report = match verdict {
            Verdict::Next | Verdict::Duplicate => self.take(index, sequence, payload, batch),
            Verdict::Gap { .. } if self.options.on_gap == GapPolicy::Replay => {
                self.counters.gaps += u64::from(!self.awaiting);
                self.awaiting = true;
                let from = self.tracker.replay_from();
                ApplyReport::only(Outcome::NeedsResync(ResyncReason::Gap { replay_from: from }))
            }
            Verdict::Gap { next } => {
                // Nothing was held before the first batch, so a late join loses nothing.
                if next > 0 {
                    self.lose_track(index);
                }
                self.degraded = true;
                self.counters.gaps += 1;
                self.take(index, sequence, payload, batch)
            }
            Verdict::Restarted => {
                self.note_restart(index);
                if sequence == 0 {
                    self.take(index, sequence, payload, batch)
                } else {
                    // Or it is a batch of before a gap, come late. What it stored may be gone by now, so it
                    // is not applied in either case.
                    self.await_or_skip(sequence.saturating_add(1));
                    ApplyReport::only(Outcome::NeedsResync(ResyncReason::Restarted))
                }
            }
        };
        self.counters.count_batch(&report);
        report
    }

    /// Where a replay should begin.
    pub(super) fn replay_from(&self) -> u64 {
        self.tracker.replay_from()
    }

    /// Forgets the engine that was: another one publishes from number 0.
    pub(super) fn note_restart(&mut self, index: &BlockIndex) {
        self.counters.restarts += 1;
        self.start_over(index);
    }

    /// Gives up on missing batches: what the pod holds is unknown, and its stream goes on at `sequence`.
    pub(super) fn abandon_gap(&mut self, index: &BlockIndex, sequence: u64) {
        self.counters.gaps += u64::from(!self.awaiting);
        self.lose_track(index);
        self.degraded = true;
        self.tracker.skip_to(sequence);
    }

    /// After a restart whose first batches were missed: waits for their replay, or goes on without them.
    fn await_or_skip(&mut self, next: u64) {
        match self.options.on_gap {
            GapPolicy::Replay => self.awaiting = true,
            GapPolicy::Clear => {
                self.degraded = true;
                self.tracker.skip_to(next);
            }
        }
    }

    /// Forgets the engine: the one that publishes now may have another model, other groups, another rank.
    fn start_over(&mut self, index: &BlockIndex) {
        self.lose_track(index);
        self.sent.lock().clear(&index.chains);
        self.lanes.clear();
        self.groups.clone_from(&self.options.groups);
        self.dp_rank = self.options.dp_rank;
        self.offloads = false;
        index.forget_lanes(self.id, &self.groups);
    }

    fn lose_track(&mut self, index: &BlockIndex) {
        self.clear(index);
        self.tracker.reset();
        self.degraded = false;
        self.awaiting = false;
    }

    /// Applies a batch whose turn it is.
    fn take(
        &mut self,
        index: &BlockIndex,
        sequence: u64,
        payload: &[u8],
        batch: Result<EventBatch, Error>,
    ) -> ApplyReport {
        self.awaiting = false;
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // What it said is lost, and that may have been removals.
                self.lose_track(index);
                self.degraded = true;
                self.tracker.applied(sequence, payload);
                let reason = ResyncReason::Undecodable;
                return ApplyReport { error: Some(error), ..ApplyReport::only(Outcome::NeedsResync(reason)) };
            }
        };
        self.tracker.applied(sequence, payload);
        self.apply_events(index, &batch)
    }

    /// Whether a batch is of this pod's rank, or does not say.
    fn is_ours(&self, batch: &EventBatch) -> bool {
        self.dp_rank.is_none() || batch.dp_rank.is_none() || self.dp_rank == batch.dp_rank
    }

    fn refuse_rank(&mut self) -> ApplyReport {
        let report = ApplyReport::only(Outcome::Ignored(IgnoreReason::OtherRank));
        self.counters.count_batch(&report);
        report
    }

    /// Applies events outside the numbered stream.
    pub(super) fn apply_unnumbered(&mut self, index: &BlockIndex, batch: &EventBatch) -> ApplyReport {
        if !self.is_ours(batch) {
            return self.refuse_rank();
        }
        let report = self.apply_events(index, batch);
        self.counters.count_batch(&report);
        report
    }

    /// Applies the events of a batch of this pod's rank, in their order.
    fn apply_events(&mut self, index: &BlockIndex, batch: &EventBatch) -> ApplyReport {
        self.dp_rank = self.dp_rank.or(batch.dp_rank);
        self.learn_groups(index, &batch.events);
        self.fresh.clear();
        let mut report = ApplyReport { skipped: batch.skipped.clone(), ..ApplyReport::default() };
        for skipped in &batch.skipped {
            report.add(Outcome::Ignored(skipped.reason.into()));
            // An unreadable event may have been a removal.
            self.degraded = true;
        }
        for event in &batch.events {
            let before = (self.counters.blocks_stored, self.counters.blocks_removed);
            let outcome = match event {
                KvEvent::Stored(stored) => self.store(index, stored),
                KvEvent::Removed(removed) => self.remove(index, removed),
                KvEvent::Cleared => {
                    self.clear(index);
                    self.sent.lock().clear(&index.chains);
                    // Nothing is held now, whatever was missed before.
                    self.degraded = false;
                    Outcome::Applied
                }
            };
            report.blocks_stored += self.counters.blocks_stored - before.0;
            report.blocks_removed += self.counters.blocks_removed - before.1;
            report.add(outcome);
        }
        report
    }

    /// Takes in what a batch says about groups before any of its events: a hybrid pod must not be
    /// credited for one group while the others are still to come.
    fn learn_groups(&mut self, index: &BlockIndex, events: &[KvEvent]) {
        let mut changed = false;
        for event in events {
            let KvEvent::Stored(BlockStored { group, group_kind: Some(kind), .. }) = event else { continue };
            let known = self.groups.iter().position(|known| known.0 == *group);
            let (at, described) = match known {
                Some(at) => (at, (*group, *kind)),
                None if self.groups.len() < MAX_GROUPS => (self.groups.len(), (*group, *kind)),
                // Whatever this is, it follows no rule of ours.
                None => (0, (self.groups[0].0, GroupKind::Unknown)),
            };
            if self.groups.get(at) != Some(&described) {
                self.groups.splice(at..(at + 1).min(self.groups.len()), [described]);
                changed = true;
            }
        }
        if changed {
            index.set_groups(self.id, &self.groups);
        }
    }

    /// Forgets everything for good: the pod is being removed.
    pub(super) fn leave(&mut self, index: &BlockIndex) {
        self.clear(index);
        self.sent.lock().leave(&index.chains);
        self.gone = true;
    }

    /// Whether the pod was removed.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Forgets everything the pod holds.
    pub(super) fn clear(&mut self, index: &BlockIndex) {
        for own in &mut self.lanes {
            for &run in &mem::take(&mut own.runs.runs) {
                self.counters.blocks_removed += index.chains.remove_run(own.lane.id, RunId(run)) as u64;
            }
        }
        self.more_copies = HashMap::new();
        self.translation.clear();
        self.parked.clear();
        self.lineage = Lineage::default();
        self.fresh.clear();
        if let Some(journal) = &mut self.journal {
            journal.clear();
        }
        self.counters.clears += 1;
    }

    /// The block that the engine names so; in a native domain every name is one's.
    fn spot_of(&mut self, index: &BlockIndex, hash: EngineHash) -> Option<Spot> {
        if self.domain.is_native() {
            return Some(Spot::by_key(hash.0 ^ self.domain.salt()));
        }
        match self.translation.find(hash)? {
            Known::Held(place) => Some(Spot { key: index.chains.key_at(place)?, place: Some(place) }),
            Known::Retired(spot) => Some(spot),
        }
    }

    /// Whether the pod has copies of other blocks than those of these keys under any of their names.
    fn contradicts(&self, index: &BlockIndex, hashes: &[EngineHash], keys: &[u64]) -> bool {
        let mut named = hashes.iter().zip(keys).peekable();
        while let Some((&hash, &key)) = named.next() {
            let Some(place) = self.translation.place(hash) else { continue };
            // Those that follow mostly lie in the same run: one look serves them all.
            let is_so = index.chains.look_at(place.run, |run| {
                let is_at = |offset: usize, key| run.keys().get(offset) == Some(&key);
                let mut next_in_run = || {
                    let (&&hash, &&key) = named.peek().map(|(hash, key)| (hash, key))?;
                    let next = self.translation.place(hash).filter(|next| next.run == place.run)?;
                    named.next();
                    Some((next.offset, key))
                };
                is_at(place.offset, key)
                    && core::iter::from_fn(&mut next_in_run).all(|(offset, key)| is_at(offset, key))
            });
            if is_so != Some(true) {
                return true;
            }
        }
        false
    }

    /// Position of the lane for a group and tier, made if it is new; `None` if the pod has too many.
    fn lane(&mut self, index: &BlockIndex, group: u32, tier: Tier) -> Option<usize> {
        let known = self.lanes.iter().position(|own| own.lane.group == group && own.lane.tier == tier);
        if known.is_some() {
            return known;
        }
        if self.lanes.len() == MAX_GROUPS * Tier::ALL.len() {
            return None;
        }
        let lane = index.add_lane(self.id, group, tier)?;
        self.offloads |= tier != Tier::Gpu;
        self.lanes.push(ViewLane { lane, runs: RunSet::new(self.domain.is_native()) });
        Some(self.lanes.len() - 1)
    }

    pub(super) fn parked_blocks(&self) -> usize {
        self.parked.len()
    }
}
