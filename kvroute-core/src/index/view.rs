//! One pod's stream of events, turned into changes of the index.
//!
//! A view is what only its own pod's events touch: where the stream stands, how the engine's names
//! translate, which blocks it holds more than once, what waits for a parent. One thread at a time
//! applies a pod's events; different pods proceed in parallel.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashTable};

use super::chains::{LaneRuns, Stop};
use super::fleet::{Lane, PodId, kinds};
use super::outcome::{ApplyReport, Counters, IgnoreReason, Outcome, ResyncReason, TrustLevel};
use super::parked::{Parked, ParkedBlock};
use super::run::RunId;
use super::shard::{give_back, spread};
use super::translation::Translation;
use super::{BlockIndex, CopyPolicy, GapPolicy, PodOptions};
use crate::domain::CacheDomain;
use crate::event::{BlockRemoved, BlockStored, EventBatch, GroupKind, KvEvent, decode_batch};
use crate::hash::{ExtraKey, HashScheme};
use crate::sequence::{SequenceTracker, Verdict};
use crate::{EngineHash, Error, Tier};

/// The runs a lane holds a part of, so that a pod can be cleared without visiting the others.
#[derive(Debug, Default)]
struct RunSet(HashTable<u32>);

impl LaneRuns for RunSet {
    fn entered(&mut self, run: RunId) {
        self.0.insert_unique(spread(u64::from(run.0)), run.0, |&run| spread(u64::from(run)));
    }

    fn left(&mut self, run: RunId) {
        if let Ok(entry) = self.0.find_entry(spread(u64::from(run.0)), |&other| other == run.0) {
            entry.remove();
        }
        give_back(&mut self.0, |&run| spread(u64::from(run)));
    }
}

#[derive(Debug)]
struct ViewLane {
    lane: Lane,
    runs: RunSet,
}

/// Parents of blocks that went away lately, so that an offload announcement, which names no parent, can
/// still be placed. Kept only for pods that announce offloads.
#[derive(Debug, Default)]
struct Lineage {
    parents: HashMap<u64, Option<u64>>,
    order: VecDeque<u64>,
}

#[derive(Debug)]
pub(super) struct View {
    id: PodId,
    domain: Arc<CacheDomain>,
    options: PodOptions,
    tracker: SequenceTracker,
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
    counters: Counters,
    /// Keys that came to be held in the batch being applied.
    fresh: Vec<u64>,
    /// Scratch: keys of the event being applied, and which of them were held already.
    keys: Vec<u64>,
    already: Vec<usize>,
}

impl View {
    pub(super) fn new(id: PodId, domain: Arc<CacheDomain>, options: PodOptions) -> Self {
        Self {
            id,
            domain,
            tracker: SequenceTracker::default(),
            dp_rank: options.dp_rank,
            lanes: Vec::new(),
            groups: options.groups.clone(),
            more_copies: HashMap::new(),
            translation: Translation::new(options.max_retired),
            parked: Parked::new(options.max_parked, options.copies != CopyPolicy::Set),
            lineage: Lineage::default(),
            offloads: false,
            degraded: false,
            counters: Counters::default(),
            fresh: Vec::new(),
            keys: Vec::new(),
            already: Vec::new(),
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
        } else if self.degraded {
            TrustLevel::Degraded
        } else {
            TrustLevel::Exact
        }
    }

    /// Bytes this view has allocated.
    pub(super) fn bytes(&self) -> usize {
        let copies = self.more_copies.allocation_size();
        let runs: usize = self.lanes.iter().map(|lane| lane.runs.0.allocation_size()).sum();
        let lineage = self.lineage.parents.allocation_size() + self.lineage.order.capacity() * 8;
        let scratch = (self.fresh.capacity() + self.keys.capacity() + self.already.capacity()) * 8;
        copies + runs + lineage + scratch + self.translation.bytes() + self.parked.bytes()
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
                self.counters.restarts += 1;
                self.lose_track(index);
                if sequence > 0 && self.options.on_gap == GapPolicy::Replay {
                    ApplyReport::only(Outcome::NeedsResync(ResyncReason::Restarted))
                } else {
                    self.degraded = sequence > 0;
                    self.take(index, sequence, payload, batch)
                }
            }
        };
        self.counters.count_batch(&report);
        report
    }

    /// Gives up on missing batches: what the pod holds is unknown, and its stream goes on at `sequence`.
    pub(super) fn abandon_gap(&mut self, index: &BlockIndex, sequence: u64) {
        self.lose_track(index);
        self.degraded = true;
        self.counters.gaps += 1;
        self.tracker.skip_to(sequence);
    }

    fn lose_track(&mut self, index: &BlockIndex) {
        self.clear(index);
        self.tracker.reset();
        self.degraded = false;
    }

    /// Applies a batch whose turn it is.
    fn take(
        &mut self,
        index: &BlockIndex,
        sequence: u64,
        payload: &[u8],
        batch: Result<EventBatch, Error>,
    ) -> ApplyReport {
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
        let mut report = ApplyReport::default();
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

    /// Takes in what a batch says about groups before any of its events: a hybrid pod must not be credited for
    /// one group while the others are still to come.
    fn learn_groups(&mut self, index: &BlockIndex, events: &[KvEvent]) {
        let mut changed = false;
        for event in events {
            let KvEvent::Stored(BlockStored { group, group_kind: Some(kind), .. }) = event else { continue };
            match self.groups.iter_mut().find(|known| known.0 == *group) {
                Some(known) if known.1 == *kind => {}
                Some(known) => {
                    known.1 = *kind;
                    changed = true;
                }
                None => {
                    self.groups.push((*group, *kind));
                    changed = true;
                }
            }
        }
        if changed {
            index.set_groups(self.id, &self.groups);
        }
    }

    fn store(&mut self, index: &BlockIndex, event: &BlockStored) -> Outcome {
        let Some(tier) = event.tier else { return Outcome::Ignored(IgnoreReason::UnknownTier) };
        if event.block_hashes.is_empty() {
            return Outcome::Applied;
        }
        if event.bigrams {
            self.degraded = true;
            return Outcome::Ignored(IgnoreReason::Bigrams);
        }
        let Some(lane) = self.lane(index, event.group, tier) else {
            return Outcome::Ignored(IgnoreReason::Memory);
        };
        let tokens = event.block_hashes.len().saturating_mul(self.domain.block_size() as usize);
        if event.token_ids.is_empty() {
            return self.store_placed(index, lane, &event.block_hashes, IgnoreReason::UnknownBlock);
        }
        if event.block_size != self.domain.block_size() {
            self.degraded = true;
            return Outcome::Ignored(IgnoreReason::BlockSize);
        }
        if event.token_ids.len() != tokens {
            // Masked blocks are left out, so neither parents nor tokens can be told apart by counting.
            return self.store_placed(index, lane, &event.block_hashes, IgnoreReason::Sparse);
        }
        match self.keys_of(event) {
            Ok(Some(parent)) => self.store_chain(index, lane, event, parent),
            Ok(None) => self.park(lane, event),
            Err(reason) => {
                self.degraded = true;
                Outcome::Ignored(reason)
            }
        }
    }

    /// Fills `self.keys`; answers the parent's key, `Ok(None)` if the parent has no translation.
    #[expect(clippy::option_option, reason = "outer: is the parent known; inner: is there one")]
    fn keys_of(&mut self, event: &BlockStored) -> Result<Option<Option<u64>>, IgnoreReason> {
        let salt = self.domain.salt();
        self.keys.clear();
        let HashScheme::Own(scheme) = self.domain.hasher().scheme() else {
            self.keys.extend(event.block_hashes.iter().map(|hash| hash.0 ^ salt));
            return Ok(Some(event.parent.map(|hash| hash.0 ^ salt)));
        };
        let adapter = adapter_of(event, &self.options.adapters)?;
        let parent = match event.parent {
            None => None,
            Some(hash) => match self.translation.key(hash) {
                Some(key) => Some(key),
                None => return Ok(None),
            },
        };
        let size = self.domain.block_size() as usize;
        let mut before = parent.map(|key| crate::BlockHash(key ^ salt));
        for (i, tokens) in event.token_ids.chunks_exact(size).enumerate() {
            let extra_keys = extra_keys_of(event, i, adapter);
            let hash = scheme.hash_block(before, tokens, adapter, &extra_keys);
            // A name for two blocks: the removal of one could not be told from that of the other.
            if self.translation.contradicts(event.block_hashes[i], hash.0 ^ salt) {
                return Err(IgnoreReason::Contradiction);
            }
            self.keys.push(hash.0 ^ salt);
            before = Some(hash);
        }
        Ok(Some(parent))
    }

    fn store_chain(
        &mut self,
        index: &BlockIndex,
        lane: usize,
        event: &BlockStored,
        parent: Option<u64>,
    ) -> Outcome {
        let own = &mut self.lanes[lane];
        self.already.clear();
        let already = &mut self.already;
        let stored = index.chains.store(own.lane.id, parent, &self.keys, &mut own.runs, |i| already.push(i));
        if stored.stopped == Some(Stop::UnknownParent) && stored.held == 0 {
            return self.park(lane, event);
        }
        self.count_copies(lane, event, stored.held);
        self.counters.blocks_stored += stored.held as u64;
        if !self.parked.is_empty() {
            self.unpark(index, &event.block_hashes[..stored.held]);
        }
        match stored.stopped {
            None => Outcome::Applied,
            Some(stop) => {
                self.degraded = true;
                self.counters.blocks_refused += (event.block_hashes.len() - stored.held) as u64;
                Outcome::Ignored(match stop {
                    Stop::Memory => IgnoreReason::Memory,
                    Stop::UnknownParent | Stop::Contradiction => IgnoreReason::Contradiction,
                })
            }
        }
    }

    /// Notes which of the first `held` blocks of an event are further copies, and their names.
    fn count_copies(&mut self, lane: usize, event: &BlockStored, held: usize) {
        let lane = self.lanes[lane].lane.id;
        let mut again = self.already.iter().copied().peekable();
        // With `kv_cache_report_mode=full` vLLM (0.26 and later) announces blocks it reuses once more,
        // from block 0, without a new copy. A request that really computes held blocks again does
        // so from its first miss or, by the last-token rule, for one last block; never from block 0 through
        // several blocks it held before this step. (Not so where a window miss makes a hybrid model start over.)
        let mut announced = self.options.copies == CopyPolicy::Infer
            && event.parent.is_none()
            && event.block_hashes.len() > 1
            && self.groups.iter().all(|(_, kind)| *kind == GroupKind::FullAttention);
        let translated = !self.domain.is_native();
        for (i, &key) in self.keys[..held].iter().enumerate() {
            let new = again.next_if_eq(&i).is_none();
            // A view that lost events may lack any part of what is reported, so there new blocks prove nothing.
            announced = announced && (!new || self.degraded) && !self.fresh.contains(&key);
            if new {
                self.fresh.push(key);
            } else if announced || self.options.copies == CopyPolicy::Set {
                continue;
            } else {
                *self.more_copies.entry((lane, key)).or_insert(0) += 1;
            }
            if translated {
                self.translation.add_copy(event.block_hashes[i], key);
            }
        }
    }

    /// Stores blocks that are named without their tokens: each must have a known place.
    fn store_placed(
        &mut self,
        index: &BlockIndex,
        lane: usize,
        hashes: &[EngineHash],
        unknown: IgnoreReason,
    ) -> Outcome {
        self.offloads |= self.lanes[lane].lane.tier != Tier::Gpu;
        let mut outcome = Outcome::Applied;
        for &hash in hashes {
            let key = self.key_of(hash);
            let placed = key.is_some_and(|key| self.store_one(index, lane, hash, key));
            if !placed && !self.parked.park_again(hash, self.lanes[lane].lane.id) {
                self.counters.blocks_refused += 1;
                self.degraded = true;
                outcome = Outcome::Ignored(unknown);
            }
        }
        outcome
    }

    fn store_one(&mut self, index: &BlockIndex, lane: usize, hash: EngineHash, key: u64) -> bool {
        let Some(ancestors) = self.ancestors(index, key) else { return false };
        let own = &mut self.lanes[lane];
        // What stands only as a step to the block is not held: no lookup reads the lane that keeps it, and
        // once the block has its place, that keeps it.
        let (step_lane, mut step_runs) = (self.id.step_lane(), RunSet::default());
        let (steps, mut parent, mut held) = (&ancestors.keys[1..], ancestors.root, false);
        let stepped = steps.iter().rev().all(|&step| {
            let stored = index.chains.store(step_lane, parent, &[step], &mut step_runs, |_| ());
            parent = Some(step);
            stored.held == 1
        });
        let stored = stepped
            && index.chains.store(own.lane.id, parent, &[key], &mut own.runs, |_| held = true).held == 1;
        for &step in steps {
            index.chains.remove(step_lane, step, &mut step_runs);
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
        if !self.domain.is_native() {
            self.translation.add_copy(hash, key);
        }
        self.counters.blocks_stored += 1;
        true
    }

    /// The chain to store so that `key` gets its place again: `key` first, then as many blocks before it as the
    /// index has forgotten.
    fn ancestors(&self, index: &BlockIndex, key: u64) -> Option<Ancestors> {
        let mut keys = alloc::vec![key];
        let mut block = key;
        loop {
            let parent = match index.chains.parent_of(block) {
                Some(parent) => return Some(Ancestors { keys, root: parent }),
                None => *self.lineage.parents.get(&block)?,
            };
            match parent {
                Some(parent) if keys.len() <= self.options.max_retired => {
                    if index.chains.find(parent).is_some() {
                        return Some(Ancestors { keys, root: Some(parent) });
                    }
                    keys.push(parent);
                    block = parent;
                }
                Some(_) => return None,
                None => return Some(Ancestors { keys, root: None }),
            }
        }
    }

    fn park(&mut self, lane: usize, event: &BlockStored) -> Outcome {
        let Some(mut parent) = event.parent else { return Outcome::Ignored(IgnoreReason::UnknownBlock) };
        let translated = !self.domain.is_native();
        let size = self.domain.block_size() as usize;
        let lane = self.lanes[lane].lane.id;
        for (i, &hash) in event.block_hashes.iter().enumerate() {
            let (mut token_ids, mut extra_keys) = (Vec::new(), Vec::new());
            if translated {
                let Ok(adapter) = adapter_of(event, &self.options.adapters) else { break };
                token_ids = event.token_ids[i * size..(i + 1) * size].to_vec();
                extra_keys = extra_keys_of(event, i, adapter);
            }
            let block = ParkedBlock { hash, lane, copies: 1, token_ids, extra_keys };
            if !self.parked.park(parent, block) {
                self.degraded = true;
                self.counters.blocks_refused += (event.block_hashes.len() - i) as u64;
                return Outcome::Ignored(IgnoreReason::ParkedFull);
            }
            parent = hash;
        }
        Outcome::Parked
    }

    /// Places what waited for any of `known`, and what waited for that.
    fn unpark(&mut self, index: &BlockIndex, known: &[EngineHash]) {
        let mut known = known.to_vec();
        while let Some(parent) = known.pop() {
            for block in self.parked.take(parent) {
                let Some(parent_key) = self.key_of(parent) else { continue };
                let Some(lane) = self.lanes.iter_mut().find(|own| own.lane.id == block.lane) else {
                    continue;
                };
                let key = match self.domain.hasher().scheme() {
                    HashScheme::Own(scheme) => {
                        let before = crate::BlockHash(parent_key ^ self.domain.salt());
                        scheme.hash_block(Some(before), &block.token_ids, None, &block.extra_keys).0
                            ^ self.domain.salt()
                    }
                    _ => block.hash.0 ^ self.domain.salt(),
                };
                if self.translation.contradicts(block.hash, key) {
                    self.degraded = true;
                    self.counters.blocks_refused += 1;
                    continue;
                }
                let mut held = false;
                let stored =
                    index
                        .chains
                        .store(lane.lane.id, Some(parent_key), &[key], &mut lane.runs, |_| held = true);
                if stored.held == 0 {
                    self.degraded = true;
                    self.counters.blocks_refused += 1;
                    continue;
                }
                let new = u32::from(!held);
                // Where events were lost, what brought the parent may be a report that told of this copy too.
                let told = u32::from(self.degraded && self.options.copies == CopyPolicy::Infer);
                let more =
                    if self.options.copies == CopyPolicy::Set { 0 } else { block.copies - new.max(told) };
                if more > 0 {
                    *self.more_copies.entry((block.lane, key)).or_insert(0) += more;
                }
                if !self.domain.is_native() {
                    (0..new + more).for_each(|_| self.translation.add_copy(block.hash, key));
                }
                self.counters.blocks_stored += 1;
                known.push(block.hash);
            }
        }
    }

    fn remove(&mut self, index: &BlockIndex, event: &BlockRemoved) -> Outcome {
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

    /// Forgets everything the pod holds.
    pub(super) fn clear(&mut self, index: &BlockIndex) {
        for own in &mut self.lanes {
            for &run in &core::mem::take(&mut own.runs).0 {
                self.counters.blocks_removed += index.chains.remove_run(own.lane.id, RunId(run)) as u64;
            }
        }
        self.more_copies = HashMap::new();
        self.translation.clear();
        self.parked.clear();
        self.lineage = Lineage::default();
        self.fresh.clear();
        self.counters.clears += 1;
    }

    fn key_of(&self, hash: EngineHash) -> Option<u64> {
        if self.domain.is_native() { Some(hash.0 ^ self.domain.salt()) } else { self.translation.key(hash) }
    }

    /// Position of the lane for a group and tier, made if it is new; `None` once the pod is gone.
    fn lane(&mut self, index: &BlockIndex, group: u32, tier: Tier) -> Option<usize> {
        let known = self.lanes.iter().position(|own| own.lane.group == group && own.lane.tier == tier);
        if known.is_some() {
            return known;
        }
        let lane = index.add_lane(self.id, group, tier)?;
        self.offloads |= tier != Tier::Gpu;
        self.lanes.push(ViewLane { lane, runs: RunSet::default() });
        Some(self.lanes.len() - 1)
    }

    pub(super) fn parked_blocks(&self) -> usize {
        self.parked.len()
    }
}

struct Ancestors {
    /// The block itself, then the missing ones before it, nearest first.
    keys: Vec<u64>,
    /// The known block before them all; `None` at the start of a prompt.
    root: Option<u64>,
}

impl Lineage {
    fn remember(&mut self, key: u64, parent: Option<u64>, most: usize) {
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

/// The adapter's name, which enters the own scheme's hashes.
fn adapter_of<'a>(
    event: &'a BlockStored,
    adapters: &'a [(i64, String)],
) -> Result<Option<&'a str>, IgnoreReason> {
    let Some(lora) = &event.lora else { return Ok(None) };
    match (&lora.name, lora.id) {
        (Some(name), _) => Ok(Some(name)),
        (None, Some(id)) => match adapters.iter().find(|known| known.0 == id) {
            Some((_, name)) => Ok(Some(name)),
            None => Err(IgnoreReason::UnknownAdapter),
        },
        (None, None) => Ok(None),
    }
}

/// Extra keys of block `i` of an event as the own scheme takes them: without the adapter's name, which
/// stands first where it is present, and with SGLang's salt where vLLM would have put it.
fn extra_keys_of(event: &BlockStored, i: usize, adapter: Option<&str>) -> Vec<ExtraKey> {
    let mut keys = event.extra_keys.get(i).cloned().unwrap_or_default();
    if let (Some(ExtraKey::Text(first)), Some(name)) = (keys.first(), adapter)
        && first == name
    {
        keys.remove(0);
    }
    if i == 0
        && event.parent.is_none()
        && let Some(salt) = &event.cache_salt
    {
        keys.push(ExtraKey::Text(salt.clone()));
    }
    keys
}
