//! Putting staged pieces in their place, so that pods can come to hold parts of them.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;

use super::stage::{Part, StagedPieces, StagedPod};
use crate::index::chains::{Chains, Scaffold};
use crate::index::run::{Place, RunId, Spot};
use crate::index::shard::{Directory, spread};

/// Where the pieces lie.
#[derive(Debug)]
pub(in crate::index) struct Placed {
    staged: StagedPieces,
    /// By piece: the end of what is its own in `segments`; it begins where the last piece's ends.
    ends: Vec<usize>,
    segments: Vec<Segment>,
    /// Where those blocks lie that pods held or went past before, by their keys; `None` until one was found.
    remembered: HashMap<u64, Option<Place>>,
}

/// Part of a piece that lies in one run. A piece is nearly always a single one: only where a run was there already,
/// and goes on otherwise, is it cut.
#[derive(Clone, Copy, Debug)]
struct Segment {
    run: RunId,
    /// Where it begins in the run.
    offset: u16,
    length: u16,
}

impl Placed {
    /// Places what `pods` need.
    pub(super) fn new<'a>(
        chains: &Chains,
        staged: StagedPieces,
        pods: impl Iterator<Item = &'a StagedPod>,
    ) -> (Self, Scaffold) {
        let mut remembered = HashMap::new();
        let pods = pods.inspect(|pod| {
            let parents = pod.lineage.iter().filter_map(|&(_, parent)| parent);
            let retired = pod.retired.iter().filter_map(|&(_, key)| key);
            remembered.extend(parents.chain(retired).map(|key| (key, None)));
        });
        let needed = needed(&staged, pods);
        let names =
            staged.pieces.iter().zip(&needed).map(|(piece, &length)| usize::from(piece.named.min(length)));
        let (names, count) = (names.sum(), staged.pieces.len());
        let mut scaffold = chains.put_up(names);
        let mut crowds = Crowds::new(count, names);
        let mut placed =
            Self { staged, ends: Vec::with_capacity(count), segments: Vec::with_capacity(count), remembered };
        for (at, &length) in needed.iter().enumerate() {
            placed.place(chains, &mut scaffold, &mut crowds, at, length);
            placed.ends.push(placed.segments.len());
        }
        chains.name(&mut scaffold);
        (placed, scaffold)
    }

    fn place(
        &mut self,
        chains: &Chains,
        scaffold: &mut Scaffold,
        crowds: &mut Crowds,
        at: usize,
        length: u16,
    ) {
        let piece = self.staged.pieces[at];
        let keys = &self.staged.keys(piece)[..usize::from(length)];
        let parent = match piece.parent {
            None => None,
            // What its parent had no room for, it has no place after.
            Some((parent, offset)) => match self.find(parent, usize::from(offset)) {
                None => return,
                Some(place) => {
                    Some(Spot { key: self.staged.key(parent, usize::from(offset)), place: Some(place) })
                }
            },
        };
        let named = usize::from(piece.named);
        let keys = &keys[..crowds.admit(keys, named)];
        let mut placed = 0;
        for (run, part) in chains.graft(scaffold, parent, keys, usize::from(piece.announced), named) {
            let segment = Segment { run: *run, offset: part.start as u16, length: part.len() as u16 };
            self.segments.push(segment);
            if !self.remembered.is_empty() {
                for (key, offset) in keys[placed..].iter().zip(part.clone()) {
                    let place = Place { run: *run, offset };
                    self.remembered.entry(*key).and_modify(|known| *known = Some(place));
                }
            }
            placed += part.len();
        }
    }

    /// Where a block lies that a pod held or went past before, if it was placed.
    pub(in crate::index) fn remembered(&self, key: u64) -> Option<Place> {
        self.remembered.get(&key).copied().flatten()
    }

    fn segments(&self, piece: u32) -> &[Segment] {
        let piece = piece as usize;
        let start = piece.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.segments[start..self.ends.get(piece).copied().unwrap_or(start)]
    }

    /// Where a block of a piece lies.
    fn find(&self, piece: u32, offset: usize) -> Option<Place> {
        let mut found = None;
        self.split(piece, offset..offset + 1, |run, part| found = Some(Place { run, offset: part.start }));
        found
    }

    /// Calls `visit` with the parts of runs that a part of a piece lies in, first to last; what has no place is left
    /// out.
    pub(in crate::index) fn split(
        &self,
        piece: u32,
        part: Range<usize>,
        mut visit: impl FnMut(RunId, Range<usize>),
    ) {
        let mut before = 0;
        for segment in self.segments(piece) {
            let (length, offset) = (usize::from(segment.length), usize::from(segment.offset));
            let (start, end) = (part.start.max(before), part.end.min(before + length));
            if start < end {
                visit(segment.run, offset + start - before..offset + end - before);
            }
            before += length;
        }
    }

    /// The keys of a part.
    pub(in crate::index) fn keys(&self, part: Part) -> &[u64] {
        let piece = self.staged.pieces[part.piece as usize];
        &self.staged.keys(piece)[part.offsets()]
    }
}

/// How many leading blocks of each piece anything needs.
fn needed<'a>(staged: &StagedPieces, pods: impl Iterator<Item = &'a StagedPod>) -> Vec<u16> {
    let mut needed = vec![0_u16; staged.pieces.len()];
    let mut need = |piece: u32, end: usize| {
        let known = &mut needed[piece as usize];
        *known = (*known).max(end as u16);
    };
    for pod in pods {
        for part in pod.lanes.iter().flat_map(|lane| &lane.parts) {
            need(part.piece, part.offsets().end);
        }
        pod.uses.iter().for_each(|&(piece, end)| need(piece, usize::from(end)));
    }
    // Parents come before their children.
    for (at, piece) in staged.pieces.iter().enumerate().rev() {
        if let Some((parent, offset)) = piece.parent.filter(|_| needed[at] > 0) {
            let known = &mut needed[parent as usize];
            *known = (*known).max(offset + 1);
        }
    }
    needed
}

/// Counts keys that meet in one place of the index's tables. Hashes spread; keys that were made to meet would cost a
/// search through all of them each, so there is a bound to how many are admitted.
struct Crowds {
    heads: Vec<u8>,
    names: Vec<u8>,
}

impl Crowds {
    /// Keys that may meet in each place, where hashes bring a hundred at most.
    const MOST: u8 = u8::MAX;
    /// Keys expected in each.
    const MEAN: usize = 64;

    fn new(heads: usize, names: usize) -> Self {
        let places = |keys: usize| vec![0; (keys / Self::MEAN).next_power_of_two().max(256)];
        Self { heads: places(heads), names: places(names) }
    }

    /// How many of a piece's keys are admitted; the first `named` are to be found by their keys.
    fn admit(&mut self, keys: &[u64], named: usize) -> usize {
        // By the upper bits, which say where a directory keeps its entries; heads are kept by the lower ones.
        let meets = |places: &mut [u8], hash: u64| {
            let at = ((u128::from(hash) * places.len() as u128) >> 64) as usize;
            let count = &mut places[at];
            let admitted = *count < Self::MOST;
            *count += u8::from(admitted);
            admitted
        };
        match keys.first() {
            Some(&head) if meets(&mut self.heads, spread(head).reverse_bits()) => {}
            _ => return 0,
        }
        let names = keys.iter().take(named);
        let refused = names.map(|&key| Directory::hash(key)).position(|hash| !meets(&mut self.names, hash));
        refused.unwrap_or(keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_meet_are_admitted_up_to_a_bound_and_hashes_all_of_them() {
        let mut crowds = Crowds::new(1, 1000);
        let admitted = (0..1000).filter(|_| crowds.admit(&[7], 0) == 1).count();
        assert_eq!(admitted, usize::from(Crowds::MOST));
        let mut crowds = Crowds::new(1, 1000);
        assert_eq!(crowds.admit(&[7; 1000], 1000), usize::from(Crowds::MOST));

        let mut crowds = Crowds::new(100, 100_000);
        let keys = |piece: u64| (0..1000).map(move |at| spread(piece * 1000 + at)).collect::<Vec<_>>();
        assert!((0..100).all(|piece| crowds.admit(&keys(piece), 1000) == 1000));
        let mut crowds = Crowds::new(100_000, 0);
        assert!((0..100_000).all(|number| crowds.admit(&[number], 0) == 1), "engines may count their blocks");
    }
}
