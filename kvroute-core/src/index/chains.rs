//! The forest of runs: who holds which block, shared by all pods, sharded, behind locks.
//!
//! Locks and their order: a shard, then a directory under it. A writer holds at most one shard at a time and
//! takes directories one by one while holding it; nobody takes a shard while holding a directory, so
//! there is no circle. A lookup holds one shard at a time and no directory ([`super::walk`]).
//!
//! Two rules keep every block in one place while writers race:
//! - a run grows at its end only while no other run hangs off its last block;
//! - a run that is to hang off a block is *reserved* there (`Run::add_child`) before it is looked up or
//!   created, so the block can neither go away nor be grown past in between.
//!
//! A block that a lane holds cannot be dropped, and one lane is written by one thread at a time (its pod's
//! view is locked), so what a writer has just stored stays while it goes on below.

mod graft;
mod retract;

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

pub(super) use self::graft::Scaffold;
use super::lock::{ReaderLock, SeatNumber, Seats};
use super::run::{MAX_BLOCKS, Place, Run, RunId, Spot};
use super::shard::{Directory, RUN_BITS, Shard, spread};

/// Keeps neighbours off each other's cache lines (two: processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Aligned<T>(T);

/// Lookups that can be made at once without one of them being in another's way; 128 bytes each.
const SEATS: usize = 64;

/// A shard with the counts of what was ever taken away from it and added to it. Each is raised under the
/// write lock and before the change itself.
#[derive(Debug)]
pub(super) struct Guarded {
    /// Raised by every change that takes coverage away.
    pub(super) retractions: AtomicU64,
    /// Raised by every change that adds coverage.
    pub(super) additions: AtomicU64,
    pub(super) shard: ReaderLock<Shard>,
}

/// Result of [`Chains::store`]: how many leading blocks are held now, and why not all of them are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) held: usize,
    pub(super) stopped: Option<Stop>,
}

/// Why a store stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The parent is not known; nothing was changed.
    UnknownParent,
    /// The memory bound is reached.
    Memory,
}

/// Told about the runs that a lane comes to hold a part of, or stops to.
pub(super) trait LaneRuns {
    /// Whether events announce the lane's blocks; nobody does what is only predicted.
    const ANNOUNCED: bool = true;
    /// Whether room is left to what others store: what is only predicted stops at seven eighths.
    const LEAVES_ROOM: bool = false;

    /// Whether the lane's blocks must be found by their keys: events name them so, and nothing else tells where they lie.
    fn found_by_key(&self) -> bool {
        false
    }
    fn entered(&mut self, run: RunId);
    fn left(&mut self, run: RunId);
    /// A store covered this part of a run.
    fn covered(&mut self, _run: RunId, _part: Range<usize>) {}
}

#[derive(Debug)]
pub(super) struct Chains {
    shards: Box<[Aligned<Guarded>]>,
    directories: Box<[Aligned<Mutex<Directory>>]>,
    seats: Arc<Seats>,
    shard_bits: u32,
    bytes: AtomicUsize,
    max_bytes: usize,
}

impl Chains {
    /// `shards` is rounded up to a power of two, at most 4096.
    pub(super) fn new(shards: usize, max_bytes: usize) -> Self {
        let shards = shards.clamp(1, 4096).next_power_of_two();
        let seats = Arc::new(Seats::new(SEATS));
        let guarded = || Guarded {
            retractions: AtomicU64::new(0),
            additions: AtomicU64::new(0),
            shard: ReaderLock::new(Shard::default(), Arc::clone(&seats)),
        };
        Self {
            shards: (0..shards).map(|_| Aligned(guarded())).collect(),
            directories: (0..shards).map(|_| Aligned::default()).collect(),
            shard_bits: shards.trailing_zeros(),
            seats,
            bytes: AtomicUsize::new(0),
            max_bytes,
        }
    }

    /// Bytes allocated for blocks and their holders.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of distinct blocks that events announced.
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.0.shard.read().announced()).sum()
    }

    pub(super) fn shard_of_key(&self, key: u64) -> usize {
        (spread(key) >> 40) as usize & (self.shards.len() - 1)
    }

    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    pub(super) fn guarded(&self, index: usize) -> &Guarded {
        &self.shards[index].0
    }

    /// A seat for a reader that walks again and again.
    pub(super) fn seat(&self) -> SeatNumber {
        self.seats.give()
    }

    pub(super) fn run_id(&self, shard: usize, slot: u32) -> RunId {
        RunId(slot << self.shard_bits | shard as u32)
    }

    fn locate(&self, run: RunId) -> (&Guarded, u32) {
        (self.guarded(run.0 as usize & (self.shards.len() - 1)), run.0 >> self.shard_bits)
    }

    fn directory(&self, key: u64) -> &Mutex<Directory> {
        &self.directories[self.directory_of_key(key)].0
    }

    fn directory_of_key(&self, key: u64) -> usize {
        (spread(key) >> 48) as usize & (self.directories.len() - 1)
    }

    /// Where a block lies, if it is known: where `lane` holds it, if it does.
    fn find_for(&self, lane: u32, spot: Spot) -> Option<Place> {
        let mut found = None;
        for place in self.candidates(spot) {
            let (guarded, slot) = self.locate(place.run);
            let shard = guarded.shard.read();
            let Some(run) = shard.run_with(slot, place.offset, spot.key) else { continue };
            if run.holds(lane, place.offset) {
                return Some(place);
            }
            found = found.or(Some(place));
        }
        found
    }

    /// Where a block lies or, unless it is known nowhere, may lie: whoever stores after it looks there anyway, so the only
    /// candidate need not be looked at twice.
    fn guess_for(&self, lane: u32, spot: Spot) -> Option<Place> {
        if spot.place.is_some() {
            return spot.place;
        }
        let mut candidates = self.candidates(spot);
        let first = candidates.next()?;
        match candidates.next() {
            None => Some(first),
            Some(_) => self.find_for(lane, spot),
        }
    }

    /// Where a block lies, if it is known.
    pub(super) fn find(&self, spot: Spot) -> Option<Place> {
        self.candidates(spot).find(|place| {
            let (guarded, slot) = self.locate(place.run);
            guarded.shard.read().run_with(slot, place.offset, spot.key).is_some()
        })
    }

    /// The key of the block at a place, if one is there.
    pub(super) fn key_at(&self, place: Place) -> Option<u64> {
        let (guarded, slot) = self.locate(place.run);
        guarded.shard.read().run(slot)?.keys().get(place.offset).copied()
    }

    /// The block before one: `None` if that is not known, `Some(None)` at the start of a prompt. With its place if `spot`
    /// has one.
    #[expect(clippy::option_option, reason = "outer: is the block known; inner: is there one before it")]
    pub(super) fn parent_of(&self, spot: Spot) -> Option<Option<Spot>> {
        let place = self.find(spot)?;
        let before_it = |key, place| Spot { key, place: spot.place.map(|_| place) };
        let parent = {
            let (guarded, slot) = self.locate(place.run);
            let shard = guarded.shard.read();
            let run = shard.run_with(slot, place.offset, spot.key)?;
            match (place.offset.checked_sub(1), run.parent) {
                (Some(offset), _) => {
                    return Some(Some(before_it(run.keys()[offset], Place { offset, ..place })));
                }
                (None, None) => return Some(None),
                (None, Some(parent)) => parent,
            }
        };
        let key = self.key_at(parent)?;
        // While the block was there, so was its parent; it may have gone between the two looks, and another
        // run have come into the parent's slot.
        let (guarded, slot) = self.locate(place.run);
        let shard = guarded.shard.read();
        let run = shard.run_with(slot, place.offset, spot.key).filter(|run| run.parent == Some(parent));
        run.map(|_| Some(before_it(key, parent)))
    }

    /// Places where a block may lie. More than four keys with one 24-bit tag in one directory are so rare (some
    /// in a hundred million blocks over 256 directories) that only they allocate; but a block that
    /// could not be found could not be removed either.
    fn candidates(&self, spot: Spot) -> impl Iterator<Item = Place> {
        let (mut few, mut more) = ([spot.place, None, None, None], Vec::new());
        if spot.place.is_none() {
            let directory = self.directory(spot.key).lock();
            for (i, place) in directory.candidates(spot.key).enumerate() {
                match few.get_mut(i) {
                    Some(slot) => *slot = Some(place),
                    None => more.push(place),
                }
            }
        }
        few.into_iter().flatten().chain(more)
    }

    /// Marks a chain of blocks as held by `lane`: `keys` in order, the first one after `parent`, or at
    /// the start of a prompt. `already(i)` is called for every key the lane held before.
    pub(super) fn store(
        &self,
        lane: u32,
        parent: Option<Spot>,
        keys: &[u64],
        runs: &mut impl LaneRuns,
        mut already: impl FnMut(usize),
    ) -> Stored {
        let mut at = parent.and_then(|spot| self.guess_for(lane, spot));
        if parent.is_some() && at.is_none() {
            return Stored { held: 0, stopped: Some(Stop::UnknownParent) };
        }
        let mut done = 0;
        while done < keys.len() {
            let rest = &keys[done..];
            let before = if done == 0 { parent.map(|spot| spot.key) } else { Some(keys[done - 1]) };
            let step = match at.zip(before) {
                None => self.hang(lane, None, rest, runs, |i| already(done + i)),
                Some((place, key)) => self.go_on(lane, place, key, rest, runs, |i| already(done + i)),
            };
            match step {
                Step::Covered(count, place) => {
                    runs.covered(place.run, place.offset + 1 - count..place.offset + 1);
                    done += count;
                    at = Some(place);
                }
                Step::Stopped(stop) => return Stored { held: done, stopped: Some(stop) },
                // Only a guess can be wrong, and only a parent that nobody pins can move; one that is gone leaves
                // nothing to hang on.
                Step::Moved => {
                    match parent.filter(|_| done == 0).and_then(|spot| self.find_for(lane, spot)) {
                        Some(place) => at = Some(place),
                        None => return Stored { held: done, stopped: Some(Stop::UnknownParent) },
                    }
                }
            }
        }
        Stored { held: done, stopped: None }
    }

    /// Covers what follows `place` in its run, grows the run, or hangs a run below it.
    fn go_on<R: LaneRuns>(
        &self,
        lane: u32,
        place: Place,
        key: u64,
        rest: &[u64],
        runs: &mut R,
        already: impl FnMut(usize),
    ) -> Step {
        let (guarded, slot) = self.locate(place.run);
        let next = place.offset + 1;
        {
            let mut shard = guarded.shard.write();
            let Some(run) = shard.run_with(slot, place.offset, key) else { return Step::Moved };
            let follows = &run.keys()[next..];
            let joined = follows.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if joined > 0 {
                if self.is_full::<R>() && !run.has_lane(lane) {
                    return Step::Stopped(Stop::Memory);
                }
                return self.cover(&mut shard, lane, place.run, slot, next..next + joined, runs, already);
            }
            if follows.is_empty() && next < MAX_BLOCKS && !run.has_children_at(place.offset) {
                let count = rest.len().min(MAX_BLOCKS - next);
                if self.is_full::<R>() {
                    return Step::Stopped(Stop::Memory);
                }
                let before = shard.bytes();
                shard.change(slot, |run| run.grow(&rest[..count]));
                self.account(before, shard.bytes());
                return self.cover(&mut shard, lane, place.run, slot, next..next + count, runs, already);
            }
            if self.is_full::<R>() {
                return Step::Stopped(Stop::Memory);
            }
            let before = shard.bytes();
            shard.change(slot, |run| run.add_child(place.offset));
            self.account(before, shard.bytes());
        }
        self.hang(lane, Some(place), rest, runs, already)
    }

    /// Joins or makes the run that begins with `rest[0]` after `parent`, which is reserved.
    fn hang<R: LaneRuns>(
        &self,
        lane: u32,
        parent: Option<Place>,
        rest: &[u64],
        runs: &mut R,
        already: impl FnMut(usize),
    ) -> Step {
        let index = self.shard_of_key(rest[0]);
        let mut shard = self.guarded(index).shard.write();
        if let Some(slot) = shard.head(rest[0], parent) {
            let is_new = !shard.run(slot).is_some_and(|run| run.has_lane(lane));
            let step = if is_new && self.is_full::<R>() {
                Step::Stopped(Stop::Memory)
            } else {
                self.cover(&mut shard, lane, self.run_id(index, slot), slot, 0..1, runs, already)
            };
            drop(shard);
            self.release(parent);
            return step;
        }
        let count = rest.len().min(MAX_BLOCKS);
        // One less: what lies nowhere has a place in directories, too.
        let max_slots = (1 << (RUN_BITS - self.shard_bits)) - 1;
        let before = shard.bytes();
        let slot = if self.is_full::<R>() {
            None
        } else {
            shard.insert(Run::new(&rest[..count], parent), max_slots)
        };
        let Some(slot) = slot else {
            drop(shard);
            self.release(parent);
            return Step::Stopped(Stop::Memory);
        };
        self.account(before, shard.bytes());
        let id = self.run_id(index, slot);
        self.cover(&mut shard, lane, id, slot, 0..count, runs, already)
    }

    #[expect(clippy::too_many_arguments, reason = "the tail of two functions, which differ in nothing else")]
    fn cover<R: LaneRuns>(
        &self,
        shard: &mut Shard,
        lane: u32,
        id: RunId,
        slot: u32,
        range: Range<usize>,
        runs: &mut R,
        mut already: impl FnMut(usize),
    ) -> Step {
        // Lanes that are read together with others are all announced.
        if R::ANNOUNCED {
            self.locate(id).0.additions.fetch_add(1, Ordering::Release);
        }
        let before = shard.bytes();
        let (first, end) = (range.start, range.end);
        let (is_new, unnamed) = shard.change(slot, |run| {
            if R::ANNOUNCED {
                run.announce_up_to(end);
            }
            let unnamed = if runs.found_by_key() { run.name_up_to(end) } else { 0..0 };
            (run.cover(lane, range, |offset| already(offset - first)), unnamed)
        });
        if is_new {
            runs.entered(id);
        }
        if let Some(run) = shard.run(slot) {
            for offset in unnamed {
                let key = run.keys()[offset];
                self.directory_change(key, |directory| directory.insert(key, Place { run: id, offset }));
            }
        }
        self.account(before, shard.bytes());
        Step::Covered(end - first, Place { run: id, offset: end - 1 })
    }

    fn directory_change(&self, key: u64, change: impl FnOnce(&mut Directory)) {
        let mut directory = self.directory(key).lock();
        let before = directory.bytes();
        change(&mut directory);
        // Under the lock, so that nobody takes away in the sum what is not in it yet.
        self.account(before, directory.bytes());
    }

    /// Whether there is no room for more; for what leaves room to others, already when an eighth is left.
    fn is_full<R: LaneRuns>(&self) -> bool {
        let kept_free = if R::LEAVES_ROOM { self.max_bytes / 8 } else { 0 };
        self.bytes() >= self.max_bytes - kept_free
    }

    fn account(&self, before: usize, after: usize) {
        if before != after {
            self.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
    }
}

/// One step of a store.
enum Step {
    /// So many blocks are covered, the last of them here.
    Covered(usize, Place),
    Stopped(Stop),
    /// The block to go on from is not where it was found.
    Moved,
}

#[cfg(test)]
impl Chains {
    /// Bytes counted anew, shard by shard.
    pub(super) fn recount(&self) -> usize {
        let shards: usize = self.shards.iter().map(|s| s.0.shard.read().bytes()).sum();
        shards + self.directories.iter().map(|d| d.0.lock().bytes()).sum::<usize>()
    }
}
