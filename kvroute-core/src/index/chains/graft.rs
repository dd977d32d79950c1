//! Putting back what a snapshot holds: pieces of chains, each once, and then who holds which part of them.
//!
//! A piece is put in its place by a lane of its own, the *scaffold*, which no lookup reads. It keeps all pieces
//! while pods come to hold parts of them one after the other, whatever pods that live already do to the same
//! chains meanwhile; then it is taken down, and what no pod holds goes with it.

use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;

use super::{Chains, LaneRuns};
use crate::index::run::{Place, Run, RunId, Spot};
use crate::index::shard::entry_of;

/// Number of the scaffold's lane: beyond those of pods' lanes, before those of their steps
/// ([`PodId::step_lane`](crate::index::PodId)).
const LANE: u32 = 1 << 31;

/// The pieces put in place so far. One at a time in one index.
#[derive(Debug, Default)]
pub(in crate::index) struct Scaffold {
    /// Runs it holds a part of.
    runs: Vec<RunId>,
    /// Where the piece that is being placed lies: parts of runs, in its order.
    parts: Vec<(RunId, Range<usize>)>,
    /// Runs with blocks that are to be found by their keys and are not yet, and up to which offset; how many blocks
    /// that is, and how many it may be.
    unnamed: HashMap<u32, usize>,
    waiting: usize,
    batch: usize,
}

/// Blocks that wait for their names at most: where there is room for all, and where there may not be.
const MANY_NAMES: usize = 1 << 21;
const FEW_NAMES: usize = 1 << 12;

impl LaneRuns for Scaffold {
    const ANNOUNCED: bool = false;

    fn entered(&mut self, run: RunId) {
        self.runs.push(run);
    }

    fn left(&mut self, _run: RunId) {}

    fn covered(&mut self, run: RunId, part: Range<usize>) {
        match self.parts.last_mut() {
            Some(last) if last.0 == run && last.1.end == part.start => last.1.end = part.end,
            _ => self.parts.push((run, part)),
        }
    }
}

impl Chains {
    /// A scaffold for pieces of which so many blocks will be found by their keys, with room for those names, unless that
    /// alone would reach the memory bound.
    pub(in crate::index) fn put_up(&self, names: usize) -> Scaffold {
        // An entry, its control byte and what is free in a table: 18 bytes at most.
        let fits = names.saturating_mul(18) <= self.max_bytes.saturating_sub(self.bytes());
        for directory in self.directories.iter().filter(|_| fits) {
            let mut directory = directory.0.lock();
            let before = directory.bytes();
            directory.reserve(names / self.directories.len());
            self.account(before, directory.bytes());
        }
        // What waits for its name is not counted yet.
        Scaffold { batch: if fits { MANY_NAMES } else { FEW_NAMES }, ..Scaffold::default() }
    }

    /// Puts a piece in its place after `parent`, where the scaffold holds it. Its first `announced` blocks count as
    /// announced; the first `named` will be found by their keys, once [`name`](Self::name) was called. Answers where its
    /// blocks lie now; fewer of them than there are keys if the index is at its memory bound.
    pub(in crate::index) fn graft<'a>(
        &self,
        scaffold: &'a mut Scaffold,
        parent: Option<Spot>,
        keys: &[u64],
        announced: usize,
        named: usize,
    ) -> &'a [(RunId, Range<usize>)] {
        if scaffold.waiting >= scaffold.batch {
            self.name(scaffold);
        }
        scaffold.parts.clear();
        self.store(LANE, parent, keys, scaffold, |_| ());
        let (mut unannounced, mut unnamed) = (announced, named);
        for (run, part) in &scaffold.parts {
            let count = part.len().min(unannounced);
            unannounced -= count;
            if count > 0 {
                let (guarded, slot) = self.locate(*run);
                guarded.shard.write().change(slot, |run| run.announce_up_to(part.start + count));
            }
            let count = part.len().min(unnamed);
            unnamed -= count;
            if count > 0 {
                let end = scaffold.unnamed.entry(run.0).or_insert(0);
                *end = (*end).max(part.start + count);
                scaffold.waiting += count;
            }
        }
        &scaffold.parts
    }

    /// Lets all blocks be found by their keys that are to be.
    ///
    /// A directory takes its entries one after the other while it is in the processor's cache, which takes a quarter of the
    /// time of entering run by run. So for a while blocks have entries that do not count as named yet. Others who
    /// name such a block meanwhile enter it once more, and then the entry from here goes.
    pub(in crate::index) fn name(&self, scaffold: &mut Scaffold) {
        let mut entries: Vec<Vec<u64>> = self.directories.iter().map(|_| Vec::new()).collect();
        let mut entered = Vec::with_capacity(scaffold.unnamed.len());
        for (run, end) in scaffold.unnamed.drain() {
            let run = RunId(run);
            self.look_at(run, |data| {
                for offset in data.named()..end {
                    let key = data.keys()[offset];
                    entries[self.directory_of_key(key)].push(entry_of(key, Place { run, offset }));
                }
                entered.push((run, data.named()..end));
            });
        }
        scaffold.waiting = 0;
        for (directory, entries) in self.directories.iter().zip(entries) {
            let mut directory = directory.0.lock();
            let before = directory.bytes();
            entries.into_iter().for_each(|entry| directory.insert_entry(entry));
            self.account(before, directory.bytes());
        }
        for (run, offsets) in entered {
            let (guarded, slot) = self.locate(run);
            let mut shard = guarded.shard.write();
            let unnamed = shard.change(slot, |run| run.name_up_to(offsets.end));
            let Some(data) = shard.run(slot) else { continue };
            for offset in offsets.start..unnamed.start.min(offsets.end) {
                let (key, place) = (data.keys()[offset], Place { run, offset });
                self.directory_change(key, |directory| directory.remove(key, place));
            }
        }
    }

    /// Marks a part of a run that the scaffold holds as held by `lane`, too; false if there is no room.
    pub(in crate::index) fn cover_part<R: LaneRuns>(
        &self,
        lane: u32,
        run: RunId,
        part: Range<usize>,
        runs: &mut R,
    ) -> bool {
        let (guarded, slot) = self.locate(run);
        let mut shard = guarded.shard.write();
        let Some(known) = shard.run(slot).filter(|run| part.end <= run.keys().len()) else { return false };
        if self.is_full::<R>() && !known.has_lane(lane) {
            return false;
        }
        self.cover(&mut shard, lane, run, slot, part, runs, |_| ());
        true
    }

    /// Takes the scaffold down, with what nobody else holds.
    pub(in crate::index) fn take_down(&self, scaffold: Scaffold) {
        for run in scaffold.runs {
            self.retract(run, |run| {
                let held = run.uncover_all(LANE);
                run.tidy();
                held
            });
        }
        self.directories.iter().for_each(|directory| {
            let mut directory = directory.0.lock();
            let before = directory.bytes();
            directory.tidy();
            self.account(before, directory.bytes());
        });
    }

    /// Looks at a run.
    pub(in crate::index) fn look_at<R>(&self, run: RunId, look: impl FnOnce(&Run) -> R) -> Option<R> {
        let (guarded, slot) = self.locate(run);
        let shard = guarded.shard.read();
        shard.run(slot).map(look)
    }
}
