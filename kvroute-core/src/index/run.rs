//! A run: a piece of a prompt's chain of blocks, stored once for all pods that hold any of it.
//!
//! Runs form a forest. A run begins where a chain begins or leaves another run, and is never split:
//! chains that leave it hang off the offset where they do. So the place of a block, once given, stays
//! until the block is dropped, and what a pod holds is one [`Coverage`] a run, not one entry a block.

use alloc::vec::Vec;
use core::ops::Range;

use super::coverage::{Coverage, Holders};
use crate::BlockHash;

/// Longest run, blocks. Bounds the work of one event and the size of a coverage mask. Short under test, so
/// that short chains cross runs.
pub(super) const MAX_BLOCKS: usize = if cfg!(any(test, fuzzing)) { 8 } else { 1 << OFFSET_BITS };

/// Bits of a block's offset in its run.
pub(super) const OFFSET_BITS: u32 = 10;

/// Names a run: its slot and the shard it lives in, packed (see [`super::chains`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RunId(pub(super) u32);

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) run: RunId,
    pub(super) offset: usize,
}

impl Place {
    /// As one number, of 32 bits for the run and [`OFFSET_BITS`] for the offset.
    pub(super) fn packed(self) -> u64 {
        u64::from(self.run.0) << OFFSET_BITS | self.offset as u64
    }

    /// From [`packed`](Self::packed).
    pub(super) fn unpacked(packed: u64) -> Self {
        let run = RunId((packed >> OFFSET_BITS) as u32);
        Self { run, offset: (packed & ((1 << OFFSET_BITS) - 1)) as usize }
    }
}

/// A block that came before: its key, and where it was seen last. Where there is no place, the directory tells it; where
/// there is one, the directory does not know the block, which may have gone from there since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) key: u64,
    pub(super) place: Option<Place>,
}

impl Spot {
    pub(super) fn by_key(key: u64) -> Self {
        Self { key, place: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Run {
    /// The first key and the last one, which are most of what lookups ask for: here they need not visit the others.
    ends: [u64; 2],
    /// Keys of the blocks; empty only in a free slot.
    keys: Vec<u64>,
    /// The block this run continues; `None` at the start of a prompt.
    pub(super) parent: Option<Place>,
    /// Who holds what; at most one entry a lane.
    pub(super) coverage: Holders,
    /// Bytes of the coverages' masks.
    mask_bytes: u32,
    /// Number of leading blocks that events announced.
    announced: u16,
    /// Number of those that are found by their keys, too (see [`super::shard::Directory`]).
    named: u16,
    /// How many runs continue after an offset; sorted by offset, no zero counts.
    children: Vec<(u16, u32)>,
}

impl Run {
    pub(super) fn new(keys: &[u64], parent: Option<Place>) -> Self {
        let mut run = Self { keys: keys.to_vec(), parent, ..Self::default() };
        run.note_ends();
        run
    }

    /// Keys of the blocks; empty only in a free slot.
    pub(super) fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The key it begins with, in a slot that is not free.
    pub(super) fn first_key(&self) -> u64 {
        self.ends[0]
    }

    /// Puts blocks behind.
    pub(super) fn grow(&mut self, keys: &[u64]) {
        self.keys.extend_from_slice(keys);
        self.note_ends();
    }

    fn note_ends(&mut self) {
        self.ends = [self.keys.first(), self.keys.last()].map(|key| key.copied().unwrap_or_default());
    }

    /// Length of the common prefix of this run and `query`, whose first keys are known to be equal.
    ///
    /// Keys are chained, so equal keys mean equal chains up to there and bisection is exact: a wholly
    /// matched run costs one comparison. Where the chain is only an engine's word (`native`), every key
    /// is compared: an engine that names a wrong block in the middle must not lead others' matches
    /// astray. That is a fraction of a microsecond beside the milliseconds that such domains hash for.
    pub(super) fn common_prefix(&self, query: &[BlockHash], salt: u64, native: bool) -> usize {
        let most = self.keys.len().min(query.len());
        if native {
            let differs = |(key, hash): (&u64, &BlockHash)| *key != hash.0 ^ salt;
            return self.keys.iter().zip(query).position(differs).unwrap_or(most);
        }
        let equal = |i: usize| self.keys[i] == query[i].0 ^ salt;
        let last = if most == self.keys.len() { self.ends[1] } else { self.keys[most - 1] };
        if last == query[most - 1].0 ^ salt {
            return most;
        }
        let (mut low, mut high) = (1, most - 1);
        while low < high {
            let middle = low.midpoint(high);
            if equal(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(super) fn holds(&self, lane: u32, offset: usize) -> bool {
        self.find(lane).is_ok_and(|at| self.coverage[at].holds(offset))
    }

    /// Whether the lane holds any of this run.
    pub(super) fn has_lane(&self, lane: u32) -> bool {
        self.find(lane).is_ok()
    }

    /// Marks `range` as held by `lane`, reporting each block it held already; answers whether the lane
    /// is new to this run.
    pub(super) fn cover(&mut self, lane: u32, range: Range<usize>, already: impl FnMut(usize)) -> bool {
        match self.find(lane) {
            Ok(at) => {
                let coverage = &mut self.coverage[at];
                self.mask_bytes -= coverage.mask_bytes() as u32;
                coverage.insert(range, already);
                self.mask_bytes += coverage.mask_bytes() as u32;
                false
            }
            Err(at) => {
                self.coverage.insert(at, Coverage::new(lane, range));
                true
            }
        }
    }

    /// Takes the block at `last` out of a lane's coverage, and those before it, `most` in all, up to the first that the
    /// lane does not hold. Answers how many those were, and whether the lane still holds something of this run.
    pub(super) fn uncover_tail(&mut self, lane: u32, last: usize, most: usize) -> (usize, bool) {
        let Ok(at) = self.find(lane) else { return (0, false) };
        let coverage = &mut self.coverage[at];
        self.mask_bytes -= coverage.mask_bytes() as u32;
        let (taken, left) = coverage.remove_tail(last, most);
        if left {
            self.mask_bytes += coverage.mask_bytes() as u32;
        } else {
            self.coverage.remove(at);
        }
        (taken, left)
    }

    /// Takes what a lane holds of `range` out; answers how many blocks that was.
    pub(super) fn uncover_range(&mut self, lane: u32, range: Range<usize>) -> usize {
        let (mut end, mut taken) = (range.end, 0);
        while end > range.start {
            let (count, is_left) = self.uncover_tail(lane, end - 1, end - range.start);
            taken += count;
            if !is_left {
                break;
            }
            end -= count.max(1);
        }
        taken
    }

    /// Takes everything of a lane out; answers how many blocks it held.
    pub(super) fn uncover_all(&mut self, lane: u32) -> usize {
        let Ok(at) = self.find(lane) else { return 0 };
        let coverage = self.coverage.remove(at);
        self.mask_bytes -= coverage.mask_bytes() as u32;
        let mut held = 0;
        coverage.ranges(usize::MAX, |range| held += range.len());
        held
    }

    /// Number of leading blocks that events announced.
    pub(super) fn announced(&self) -> usize {
        usize::from(self.announced)
    }

    /// Marks the blocks before `end` as announced.
    pub(super) fn announce_up_to(&mut self, end: usize) {
        self.announced = self.announced.max(end as u16);
    }

    /// Number of leading blocks that are found by their keys.
    pub(super) fn named(&self) -> usize {
        usize::from(self.named)
    }

    /// Marks the blocks before `end` as found by their keys; answers those that were not yet.
    pub(super) fn name_up_to(&mut self, end: usize) -> Range<usize> {
        let before = self.named();
        self.named = self.named.max(end as u16);
        before..self.named()
    }

    /// Drops the blocks from `length` on, which nothing needs.
    pub(super) fn truncate(&mut self, length: usize) {
        self.keys.truncate(length);
        self.note_ends();
        self.announced = self.announced.min(length as u16);
        self.named = self.named.min(length as u16);
        if self.keys.capacity() > 2 * length {
            self.keys.shrink_to(length);
        }
    }

    /// What `lane` holds.
    pub(super) fn coverage_of(&self, lane: u32) -> Option<&Coverage> {
        self.find(lane).ok().map(|at| &self.coverage[at])
    }

    /// Gives back the room that holders took which are gone.
    pub(super) fn tidy(&mut self) {
        self.coverage.shrink_to_fit();
    }

    fn find(&self, lane: u32) -> Result<usize, usize> {
        self.coverage.binary_search_by_key(&lane, |c| c.lane)
    }

    pub(super) fn has_children_at(&self, offset: usize) -> bool {
        self.children.binary_search_by_key(&(offset as u16), |c| c.0).is_ok()
    }

    pub(super) fn add_child(&mut self, offset: usize) {
        match self.children.binary_search_by_key(&(offset as u16), |c| c.0) {
            Ok(at) => self.children[at].1 += 1,
            Err(at) => self.children.insert(at, (offset as u16, 1)),
        }
    }

    pub(super) fn remove_child(&mut self, offset: usize) {
        if let Ok(at) = self.children.binary_search_by_key(&(offset as u16), |c| c.0) {
            self.children[at].1 -= 1;
            if self.children[at].1 == 0 {
                self.children.remove(at);
            }
        }
    }

    /// Number of leading blocks that something still needs: a holder, or a run that hangs below.
    pub(super) fn needed(&self) -> usize {
        let children = self.children.last().map_or(0, |&(offset, _)| usize::from(offset) + 1);
        self.coverage.iter().map(Coverage::end).max().unwrap_or(0).max(children)
    }

    /// Bytes on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<u64>()
            + self.coverage.heap_bytes()
            + self.children.capacity() * size_of::<(u16, u32)>()
            + self.mask_bytes as usize
    }
}
