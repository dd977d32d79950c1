//! Which blocks of one run one lane holds.
//!
//! A run is a short chain of blocks (at most [`super::run::MAX_BLOCKS`]) and a lane nearly always holds a
//! contiguous part of it, so a pair of offsets is the normal form; a bit mask appears only while there
//! are holes inside and goes away with them. Every operation costs at most one pass over the mask,
//! whatever hangs below the run: that is what keeps an event's work bounded when it makes a hole high
//! in a long chain.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut, Range};
use core::{mem, slice};

/// The blocks of one run held by one lane; never empty.
#[derive(Debug)]
pub(super) struct Coverage {
    pub(super) lane: u32,
    /// First held block.
    start: u16,
    /// One past the last held block.
    end: u16,
    /// Bit per block of the run, present only if `start..end` has a hole.
    mask: Option<Box<[u64]>>,
}

/// Who holds what of a run, in order of lanes. One holder is the normal case, and needs no room elsewhere.
#[derive(Debug)]
pub(super) enum Holders {
    One(Coverage),
    Others(Vec<Coverage>),
}

impl Default for Holders {
    fn default() -> Self {
        Self::Others(Vec::new())
    }
}

impl Deref for Holders {
    type Target = [Coverage];

    fn deref(&self) -> &[Coverage] {
        match self {
            Self::One(one) => slice::from_ref(one),
            Self::Others(others) => others,
        }
    }
}

impl DerefMut for Holders {
    fn deref_mut(&mut self) -> &mut [Coverage] {
        match self {
            Self::One(one) => slice::from_mut(one),
            Self::Others(others) => others,
        }
    }
}

impl Holders {
    pub(super) fn insert(&mut self, at: usize, coverage: Coverage) {
        match self {
            Self::Others(others) if others.is_empty() => *self = Self::One(coverage),
            Self::Others(others) => others.insert(at, coverage),
            Self::One(_) => {
                let mut others = Vec::with_capacity(2);
                if let Self::One(one) = mem::take(self) {
                    others.push(one);
                }
                others.insert(at, coverage);
                *self = Self::Others(others);
            }
        }
    }

    pub(super) fn remove(&mut self, at: usize) -> Coverage {
        match mem::take(self) {
            Self::One(one) => one,
            Self::Others(mut others) => {
                let removed = others.remove(at);
                *self = match others.pop() {
                    Some(one) if others.is_empty() => Self::One(one),
                    Some(last) => {
                        others.push(last);
                        Self::Others(others)
                    }
                    None => Self::default(),
                };
                removed
            }
        }
    }

    /// Gives back the room that those took who are gone.
    pub(super) fn shrink_to_fit(&mut self) {
        if let Self::Others(others) = self {
            others.shrink_to_fit();
        }
    }

    /// Bytes on the heap, without masks.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Others(others) => others.capacity() * size_of::<Coverage>(),
        }
    }
}

impl Coverage {
    pub(super) fn new(lane: u32, range: Range<usize>) -> Self {
        debug_assert!(range.start < range.end && range.end <= usize::from(u16::MAX));
        Self { lane, start: range.start as u16, end: range.end as u16, mask: None }
    }

    pub(super) fn end(&self) -> usize {
        usize::from(self.end)
    }

    pub(super) fn holds(&self, offset: usize) -> bool {
        match &self.mask {
            None => (usize::from(self.start)..self.end()).contains(&offset),
            Some(mask) => mask.get(offset / 64).is_some_and(|word| word >> (offset % 64) & 1 == 1),
        }
    }

    /// Length of the held part that begins with the run's first block.
    pub(super) fn prefix(&self) -> usize {
        if self.start != 0 {
            return 0;
        }
        match &self.mask {
            None => self.end(),
            Some(mask) => self.prefix_in(mask),
        }
    }

    /// Out of line: holes are rare, and lookups ask for prefixes all the time.
    #[inline(never)]
    fn prefix_in(&self, mask: &[u64]) -> usize {
        self.next_zero(mask, 0)
    }

    /// Calls `visit` with every maximal held range below `limit`, in order.
    pub(super) fn ranges(&self, limit: usize, mut visit: impl FnMut(Range<usize>)) {
        let end = self.end().min(limit);
        let Some(mask) = &self.mask else {
            if usize::from(self.start) < end {
                visit(usize::from(self.start)..end);
            }
            return;
        };
        let mut at = usize::from(self.start);
        while at < end {
            let stop = self.next_zero(mask, at).min(end);
            visit(at..stop);
            at = self.next_one(mask, stop);
        }
    }

    /// Adds `range`, reporting each block of it that was held already.
    pub(super) fn insert(&mut self, range: Range<usize>, mut already: impl FnMut(usize)) {
        debug_assert!(range.start < range.end);
        let (start, end) = (usize::from(self.start), self.end());
        if self.mask.is_none() && range.start <= end && start <= range.end {
            (range.start.max(start)..range.end.min(end)).for_each(already);
            self.start = start.min(range.start) as u16;
            self.end = end.max(range.end) as u16;
            return;
        }
        self.make_mask(end.max(range.end));
        if let Some(mask) = &mut self.mask {
            for offset in range.clone() {
                let (word, bit) = (&mut mask[offset / 64], 1 << (offset % 64));
                if *word & bit != 0 {
                    already(offset);
                }
                *word |= bit;
            }
        }
        self.start = start.min(range.start) as u16;
        self.end = end.max(range.end) as u16;
        self.drop_full_mask();
    }

    /// Takes the block at `last` out, and those before it, `most` in all, up to the first that is not held; answers how many
    /// those were, and whether any block is left.
    pub(super) fn remove_tail(&mut self, last: usize, most: usize) -> (usize, bool) {
        let start = usize::from(self.start);
        if self.mask.is_none() && last + 1 == self.end() && start <= last {
            let taken = most.min(self.end() - start);
            self.end -= taken as u16;
            return (taken, self.end > self.start);
        }
        let mut left = true;
        let offsets = (0..=last).rev().take(most).take_while(|&offset| {
            let held = left && self.holds(offset);
            left = left && (!held || self.remove(offset));
            held
        });
        (offsets.count(), left)
    }

    /// Takes one held block out; answers whether any is left. `offset` must be held.
    fn remove(&mut self, offset: usize) -> bool {
        debug_assert!(self.holds(offset));
        let (start, end) = (usize::from(self.start), self.end());
        if start + 1 == end {
            return false;
        }
        if self.mask.is_none() {
            if offset + 1 == end {
                self.end -= 1;
                return true;
            }
            if offset == start {
                self.start += 1;
                return true;
            }
            self.make_mask(end);
        }
        if let Some(mask) = &mut self.mask {
            mask[offset / 64] &= !(1 << (offset % 64));
        }
        if let Some(mask) = &self.mask {
            if offset == start {
                self.start = self.next_one(mask, offset) as u16;
            } else if offset + 1 == end {
                self.end = (Self::last_one(mask, offset) + 1) as u16;
            }
        }
        self.drop_full_mask();
        true
    }

    /// Bytes of the mask, which lies on the heap.
    pub(super) fn mask_bytes(&self) -> usize {
        self.mask.as_ref().map_or(0, |mask| size_of_val(&**mask))
    }

    fn make_mask(&mut self, end: usize) {
        let words = end.div_ceil(64);
        let mut mask = vec![0_u64; words].into_boxed_slice();
        match &self.mask {
            Some(old) if old.len() >= words => return,
            Some(old) => mask[..old.len()].copy_from_slice(old),
            None => (usize::from(self.start)..self.end()).for_each(|i| mask[i / 64] |= 1 << (i % 64)),
        }
        self.mask = Some(mask);
    }

    fn drop_full_mask(&mut self) {
        if let Some(mask) = &self.mask
            && self.next_zero(mask, usize::from(self.start)) >= self.end()
        {
            self.mask = None;
        }
    }

    /// First block not held at or after `from`; the mask's end at most.
    fn next_zero(&self, mask: &[u64], from: usize) -> usize {
        first_set(mask, from, |word| !word)
    }

    /// First block held at or after `from`; the mask's end at most.
    fn next_one(&self, mask: &[u64], from: usize) -> usize {
        first_set(mask, from, |word| word)
    }

    /// Last block held before `before`; 0 if none.
    fn last_one(mask: &[u64], before: usize) -> usize {
        (0..before).rev().find(|i| mask[i / 64] >> (i % 64) & 1 == 1).unwrap_or(0)
    }
}

/// First bit at or after `from` that is set once `view` was applied to its word.
fn first_set(mask: &[u64], from: usize, view: impl Fn(u64) -> u64) -> usize {
    let mut keep = !0_u64 << (from % 64);
    for (i, &word) in mask.iter().enumerate().skip(from / 64) {
        let bits = view(word) & keep;
        if bits != 0 {
            return i * 64 + bits.trailing_zeros() as usize;
        }
        keep = !0;
    }
    mask.len() * 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn check(coverage: &Coverage, model: &BTreeSet<usize>, limit: usize) {
        let prefix = (0..).take_while(|i| model.contains(i)).count();
        assert_eq!(coverage.prefix(), prefix);
        assert_eq!(coverage.end(), model.last().unwrap() + 1);
        let mut seen = Vec::new();
        coverage.ranges(limit, |range| {
            assert!(!seen.contains(&range.start.wrapping_sub(1)), "ranges are maximal");
            seen.extend(range);
        });
        assert_eq!(seen, model.iter().copied().filter(|&i| i < limit).collect::<Vec<_>>());
        let contiguous = model.len() == coverage.end() - model.first().unwrap();
        assert_eq!(coverage.mask.is_none(), contiguous, "a mask exists exactly while there is a hole");
    }

    proptest! {
        #[test]
        fn coverage_equals_a_set_of_offsets(
            first in (0_usize..200, 1_usize..40),
            steps in prop::collection::vec((any::<bool>(), 0_usize..200, 1_usize..40), 0..60),
            limit in 0_usize..250,
        ) {
            let mut coverage = Coverage::new(7, first.0..first.0 + first.1);
            let mut model: BTreeSet<usize> = (first.0..first.0 + first.1).collect();
            for (store, at, length) in steps {
                if store {
                    let mut already = Vec::new();
                    coverage.insert(at..at + length, |offset| already.push(offset));
                    let expected: Vec<_> = (at..at + length).filter(|i| !model.insert(*i)).collect();
                    prop_assert_eq!(already, expected);
                } else if let Some(&offset) = model.range(at..).next() {
                    let taken = (0..=offset).rev().take(length).take_while(|at| model.remove(at)).count();
                    prop_assert_eq!(coverage.remove_tail(offset, length), (taken, !model.is_empty()));
                    if model.is_empty() {
                        return Ok(());
                    }
                }
                check(&coverage, &model, limit);
            }
        }
    }
}
