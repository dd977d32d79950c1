//! Putting back what a snapshot holds: pieces of chains, each once, and then who holds which part of them.
//!
//! A piece is put in its place by a lane of its own, the *scaffold*, which no lookup reads. It keeps all pieces
//! while pods come to hold parts of them one after the other, whatever pods that live already do to the same
//! chains meanwhile; then it is taken down, and what no pod holds goes with it.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Chains, LaneRuns};
use crate::index::run::{Place, Run, RunId};

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
}

impl LaneRuns for Scaffold {
    const NAMED: bool = false;

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
    /// Puts a piece in its place after `parent`, a key and where the scaffold holds it. Its first `named` blocks will
    /// be found by their keys. Answers where its blocks lie now; fewer of them than there are keys if the index is at
    /// its memory bound.
    pub(in crate::index) fn graft<'a>(
        &self,
        scaffold: &'a mut Scaffold,
        parent: Option<(u64, Place)>,
        keys: &[u64],
        named: usize,
    ) -> &'a [(RunId, Range<usize>)] {
        scaffold.parts.clear();
        self.store_after(LANE, parent, keys, scaffold, |_| ());
        let mut unnamed = named;
        for (run, part) in &scaffold.parts {
            let count = part.len().min(unnamed);
            unnamed -= count;
            if count > 0 {
                self.name(*run, part.start + count);
            }
        }
        &scaffold.parts
    }

    /// Lets the blocks of a run before `end` be found by their keys.
    fn name(&self, run: RunId, end: usize) {
        let (guarded, slot) = self.locate(run);
        let mut shard = guarded.shard.write();
        if shard.run(slot).is_some() {
            let unnamed = shard.change(slot, |run| run.name_up_to(end));
            self.enter(&shard, run, slot, unnamed);
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
        let Some(known) = shard.run(slot).filter(|run| part.end <= run.keys.len()) else { return false };
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

    /// Makes room for so many names at once, unless that alone would reach the memory bound.
    pub(in crate::index) fn reserve_names(&self, names: usize) {
        // An entry, its control byte and what is free in a table: 18 bytes at most.
        if names.saturating_mul(18) > self.max_bytes.saturating_sub(self.bytes()) {
            return;
        }
        for directory in &self.directories {
            let mut directory = directory.0.lock();
            let before = directory.bytes();
            directory.reserve(names / self.directories.len());
            self.account(before, directory.bytes());
        }
    }

    /// Looks at a run.
    pub(in crate::index) fn look_at<R>(&self, run: RunId, look: impl FnOnce(&Run) -> R) -> Option<R> {
        let (guarded, slot) = self.locate(run);
        let shard = guarded.shard.read();
        shard.run(slot).map(look)
    }
}
