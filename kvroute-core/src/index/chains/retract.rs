//! Taking coverage away, and what nothing needs any more with it.

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::{Chains, LaneRuns};
use crate::index::run::{Place, Run, RunId, Spot};
use crate::index::shard::Shard;

impl Chains {
    /// Takes one block away from `lane`; false if the lane does not hold it.
    pub(in crate::index) fn remove(&self, lane: u32, spot: Spot, runs: &mut impl LaneRuns) -> bool {
        self.candidates(spot).any(|place| {
            let is_it = |run: &Run| (run.keys().get(place.offset) == Some(&spot.key)).then_some(1);
            self.uncover_tail(lane, place, runs, is_it, |_| ()) > 0
        })
    }

    /// Takes the first of these blocks, found by their keys, away from `lane`, and as many after it as lie one before the
    /// other in its run: engines evict chains from their ends, and so most events cost one search and one lock. Answers how
    /// many those were; 0 if the lane does not hold the first.
    pub(in crate::index) fn remove_tail(&self, lane: u32, keys: &[u64], runs: &mut impl LaneRuns) -> usize {
        let Some(&first) = keys.first() else { return 0 };
        let mut taken = self.candidates(Spot::by_key(first)).map(|place| {
            let count = |run: &Run| {
                let from_it = run.keys().get(..=place.offset)?.iter().rev();
                Some(from_it.zip(keys).take_while(|(key, named)| key == named).count())
            };
            self.uncover_tail(lane, place, runs, count, |_| ())
        });
        taken.find(|&taken| taken > 0).unwrap_or(0)
    }

    /// The same of blocks that lie at these places; `gone` is told the key of each that was taken.
    pub(in crate::index) fn remove_tail_at(
        &self,
        lane: u32,
        places: &[Place],
        runs: &mut impl LaneRuns,
        gone: impl FnMut(u64),
    ) -> usize {
        let Some(&first) = places.first() else { return 0 };
        let before_it = (0..=first.offset).rev().map(|offset| Place { offset, ..first });
        let count = before_it.zip(places).take_while(|(place, named)| place == *named).count();
        self.uncover_tail(lane, first, runs, |_| Some(count), gone)
    }

    /// Takes `last` away from `lane`, and as many blocks before it, itself included, as `count` says of its run and the lane
    /// holds without a hole.
    fn uncover_tail(
        &self,
        lane: u32,
        last: Place,
        runs: &mut impl LaneRuns,
        count: impl FnOnce(&Run) -> Option<usize>,
        gone: impl FnMut(u64),
    ) -> usize {
        let (guarded, slot) = self.locate(last.run);
        let mut shard = guarded.shard.write();
        let count = shard.run(slot).filter(|run| run.holds(lane, last.offset)).and_then(count).unwrap_or(0);
        if count == 0 {
            return 0;
        }
        guarded.retractions.fetch_add(1, Ordering::Release);
        let before = shard.bytes();
        let (taken, left) = shard.change(slot, |run| {
            let (taken, left) = run.uncover_tail(lane, last.offset, count);
            run.keys()[last.offset + 1 - taken..=last.offset].iter().rev().copied().for_each(gone);
            (taken, left)
        });
        if !left {
            runs.left(last.run);
        }
        let parent = self.trim(&mut shard, last.run, slot);
        self.account(before, shard.bytes());
        drop(shard);
        self.release(parent);
        taken
    }

    /// Takes everything `lane` holds in `run` away; answers how many blocks that was.
    pub(in crate::index) fn remove_run(&self, lane: u32, run: RunId) -> usize {
        self.retract(run, |run| run.uncover_all(lane))
    }

    /// Takes the blocks of `range` that `lane` holds in `run` away; answers how many those were.
    pub(in crate::index) fn remove_range(&self, lane: u32, run: RunId, range: Range<usize>) -> usize {
        self.retract(run, |run| run.uncover_range(lane, range))
    }

    pub(super) fn retract(&self, run: RunId, uncover: impl FnOnce(&mut Run) -> usize) -> usize {
        let (guarded, slot) = self.locate(run);
        let mut shard = guarded.shard.write();
        if shard.run(slot).is_none() {
            return 0;
        }
        guarded.retractions.fetch_add(1, Ordering::Release);
        let before = shard.bytes();
        let held = shard.change(slot, uncover);
        let parent = self.trim(&mut shard, run, slot);
        self.account(before, shard.bytes());
        drop(shard);
        self.release(parent);
        held
    }

    /// Drops the blocks at the end of a run that nothing needs; answers the block that lost a child when
    /// the whole run went.
    fn trim(&self, shard: &mut Shard, id: RunId, slot: u32) -> Option<Place> {
        let run = shard.run(slot)?;
        let needed = run.needed();
        for (offset, &key) in run.keys()[..run.named()].iter().enumerate().skip(needed) {
            self.directory_change(key, |directory| directory.remove(key, Place { run: id, offset }));
        }
        if needed == 0 {
            return shard.remove(slot).parent;
        }
        shard.change(slot, |run| run.truncate(needed));
        None
    }

    /// Takes back a reservation or a child that is gone, and what only it kept: in a loop, one lock at a
    /// time. Each run dropped here was paid for when it was stored.
    pub(super) fn release(&self, mut block: Option<Place>) {
        while let Some(place) = block {
            let (guarded, slot) = self.locate(place.run);
            let mut shard = guarded.shard.write();
            let before = shard.bytes();
            shard.change(slot, |run| run.remove_child(place.offset));
            block = self.trim(&mut shard, place.run, slot);
            self.account(before, shard.bytes());
        }
    }
}
