//! The read path: one query against the forest.
//!
//! A walk follows the query's keys from run to run: one shard, one head entry, one bisection and one
//! pass over the run's holders each. It costs what the *runs* on the path and their holders cost, not
//! what the blocks do, holes or not.
//!
//! # Consistency
//!
//! Runs are visited one after the other while writers work elsewhere. Seeing block 0 held, then losing
//! it, then seeing a later block that was stored meanwhile would credit a pod with more than it had at
//! any instant. So every shard counts its retractions, and a walk whose visited shards lost nothing until
//! its end answers no more than a snapshot taken at that end: whatever was seen held is held still. For a
//! pod with one lane it answers no less than was true when the first missing block was seen missing, for
//! that block alone ends the answer. Lanes that are read together have no such block (a chain may move
//! from one tier to another while every block of it is somewhere all the time), so where there are any,
//! additions disturb a walk too, and it *is* a snapshot. A walk that was disturbed is made again; after a
//! few disturbed ones all shards are read-locked in order, which always succeeds.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::chains::Chains;
use super::coverage::Coverage;
use super::lock::SeatNumber;
use super::run::{Place, Run};
use super::shard::Shard;
use crate::BlockHash;

/// Walks made without a lock over all shards before one is taken.
const OPTIMISTIC_WALKS: usize = 8;

/// Blocks `start..end` of the query, held by a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) lane: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What a walk found; reused from query to query, so that a lookup allocates nothing once warm.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// Lane -> number of leading blocks held. Zero for lanes not in `touched`.
    depth: Vec<u32>,
    /// Lanes with a depth above zero.
    pub(super) touched: Vec<u32>,
    /// Held ranges of the lanes that need more than their depth, in order of `start`.
    pub(super) segments: Vec<Segment>,
    visited: Vec<Visit>,
    seat: Option<SeatNumber>,
}

/// A shard visited, and its counts then.
#[derive(Debug)]
struct Visit {
    shard: u32,
    retractions: u64,
    additions: u64,
}

impl Trail {
    pub(super) fn depth(&self, lane: u32) -> u32 {
        self.depth.get(lane as usize).copied().unwrap_or(0)
    }

    /// Of the first lanes, all that there were when the walk began.
    pub(super) fn depths(&self, lanes: usize) -> &[u32] {
        &self.depth[..lanes]
    }

    fn reset(&mut self, lanes: usize) {
        for &lane in &self.touched {
            self.depth[lane as usize] = 0;
        }
        self.touched.clear();
        self.segments.clear();
        self.visited.clear();
        if self.depth.len() < lanes {
            self.depth.resize(lanes, 0);
        }
    }

    /// Takes in what the run at block `start` of the query holds of its first `length` blocks; answers
    /// whether any lane may reach further.
    fn take(&mut self, run: &Run, start: usize, length: usize, lanes: &[LaneUse]) -> bool {
        let mut goes_on = false;
        // As long as `lanes`, so that one comparison is enough for both.
        let depths = &mut self.depth[..lanes.len()];
        let (start, length) = (start as u32, length as u32);
        for coverage in run.coverage.iter() {
            let lane = coverage.lane as usize;
            match lanes.get(lane) {
                Some(LaneUse::Depth) if depths[lane] == start => {
                    let prefix = (coverage.prefix() as u32).min(length);
                    depths[lane] = start + prefix;
                    goes_on |= prefix == length;
                    if start == 0 && prefix > 0 {
                        self.touched.push(coverage.lane);
                    }
                }
                Some(LaneUse::Segments) => {
                    take_segments(&mut self.segments, coverage, start, length);
                    goes_on = true;
                }
                _ => {}
            }
        }
        goes_on
    }
}

/// Out of line: few pods are read so, and the loop that calls it is most of what a lookup does.
#[inline(never)]
fn take_segments(segments: &mut Vec<Segment>, coverage: &Coverage, start: u32, length: u32) {
    coverage.ranges(length as usize, |range| {
        let (from, to) = (start + range.start as u32, start + range.end as u32);
        segments.push(Segment { lane: coverage.lane, start: from, end: to });
    });
}

/// What a lookup wants to know about a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneUse {
    /// How many leading blocks it holds: the only lane of its pod, full attention on the device.
    Depth,
    /// Every range it holds: one of several lanes that must be read together.
    Segments,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) blocks: &'a [BlockHash],
    /// Every hash is xored with it to make the key.
    pub(super) salt: u64,
    /// The keys are hashes that engines published, so their chains are only as true as the engines.
    pub(super) native: bool,
    /// By lane number.
    pub(super) lanes: &'a [LaneUse],
    /// Some lanes of the domain are read by segments, so the walk goes on where no depth can grow any more.
    pub(super) any_segments: bool,
}

impl Query<'_> {
    fn key(&self, block: usize) -> Option<u64> {
        self.blocks.get(block).map(|hash| hash.0 ^ self.salt)
    }
}

impl Chains {
    /// Follows the query's blocks and leaves in `trail` what every lane holds of them.
    pub(super) fn walk(&self, query: &Query<'_>, trail: &mut Trail) {
        let seat = *trail.seat.get_or_insert_with(|| self.seat());
        for _ in 0..OPTIMISTIC_WALKS {
            trail.reset(query.lanes.len());
            let mut position = Position::default();
            while let Some(key) = query.key(position.start) {
                let index = self.shard_of_key(key);
                let guarded = self.guarded(index);
                let shard = guarded.shard.read_from(seat);
                trail.visited.push(Visit {
                    shard: index as u32,
                    retractions: guarded.retractions.load(Ordering::Relaxed),
                    additions: guarded.additions.load(Ordering::Relaxed),
                });
                if !self.step(&shard, index, query, &mut position, trail) {
                    break;
                }
            }
            let undisturbed = trail.visited.iter().all(|seen| {
                let now = self.guarded(seen.shard as usize);
                now.retractions.load(Ordering::Acquire) == seen.retractions
                    && (!query.any_segments || now.additions.load(Ordering::Acquire) == seen.additions)
            });
            if undisturbed || trail.visited.len() == 1 {
                return;
            }
        }
        self.walk_locked(query, trail);
    }

    /// The same under all locks at once, taken in order of shards; writers hold one shard at a time and
    /// wait for none meanwhile, so this cannot circle.
    fn walk_locked(&self, query: &Query<'_>, trail: &mut Trail) {
        let shards: Vec<_> = (0..self.shards()).map(|i| self.guarded(i).shard.read()).collect();
        trail.reset(query.lanes.len());
        let mut position = Position::default();
        while let Some(key) = query.key(position.start) {
            let index = self.shard_of_key(key);
            if !self.step(&shards[index], index, query, &mut position, trail) {
                break;
            }
        }
    }

    /// Goes through one run; answers whether the walk goes on after it.
    fn step(
        &self,
        shard: &Shard,
        index: usize,
        query: &Query<'_>,
        position: &mut Position,
        trail: &mut Trail,
    ) -> bool {
        let start = position.start;
        let Some(slot) = query.key(start).and_then(|key| shard.head(key, position.parent)) else {
            return false;
        };
        let Some(run) = shard.run(slot) else { return false };
        let length = run.common_prefix(&query.blocks[start..], query.salt, query.native);
        let goes_on = trail.take(run, start, length, query.lanes);
        position.parent = Some(Place { run: self.run_id(index, slot), offset: length - 1 });
        position.start = start + length;
        goes_on || query.any_segments
    }
}

/// How far a walk has come.
#[derive(Default)]
struct Position {
    /// Next block of the query.
    start: usize,
    /// The block before it.
    parent: Option<Place>,
}
