//! From an engine's name for a block to its place in the index.
//!
//! Needed where the engine's hashes cannot be recomputed. A block that is held stays in its place, so events find it
//! there without a search. A name outlives the last copy of its block for a while, because an engine can announce that a
//! block was offloaded after it left the device, and names no tokens then; by then the block may have gone from its place
//! and come back to another, so it is kept with its key.

use alloc::collections::VecDeque;
use core::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::run::{Place, Spot};
use super::table::{Entry, Table};
use crate::EngineHash;
use crate::frame::FrameWriter;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A block the pod has a copy of, here.
    Held(Place),
    /// A block whose last copy went, from there.
    Retired(Spot),
}

/// A name, mixed, and the packed place of its block.
#[derive(Clone, Copy, Debug)]
struct Name {
    mixed: u64,
    place: u64,
}

impl Entry for Name {
    const NONE: Self = Self { mixed: u64::MAX, place: u64::MAX };

    fn hash(self) -> u64 {
        self.mixed
    }

    fn gone(self) -> Self {
        Self { place: u64::MAX, ..self }
    }

    fn is_live(self) -> bool {
        self.place != u64::MAX
    }
}

/// Spreads names over 64 bits: engines may number their blocks 1, 2, 3, and a table's search is as long as the row of names
/// that meet. So that nobody can choose names that do, the last factor is drawn for each table: the upper bits of a
/// product by a random odd number are a universal hash (Dietzfelbinger and others, 1997). No two names mix to one.
#[derive(Clone, Copy, Debug)]
struct Mixer {
    odd: u64,
}

impl Mixer {
    /// Any odd number would do.
    const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;

    fn new() -> Self {
        Self { odd: DefaultHashBuilder::default().hash_one(0_u64) | 1 }
    }

    fn mix(self, name: u64) -> u64 {
        let product = name.wrapping_mul(Self::FIRST);
        (product ^ product >> 32).wrapping_mul(self.odd)
    }

    fn unmix(self, mixed: u64) -> u64 {
        let product = mixed.wrapping_mul(inverse(self.odd));
        (product ^ product >> 32).wrapping_mul(const { inverse(Self::FIRST) })
    }
}

/// What times `odd` is 1: Newton's method doubles the number of bits that are right, three at first.
const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut bits) = (odd, 3);
    while bits < 64 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// 16 bytes a block in the table that every held one is in; what few have is kept beside it.
#[derive(Debug)]
pub(super) struct Translation {
    /// Where the blocks lie that the pod has.
    places: Table<Name>,
    mixer: Mixer,
    /// Name -> copies beyond the first, over all lanes.
    more_copies: HashMap<u64, u32>,
    retired: Retired,
}

/// Names of blocks whose last copy went, with their keys and where they were. They are listed as they come, which costs one line of the
/// processor's cache; the table that finds them is only made once one is asked for, which few engines' events do.
#[derive(Debug)]
struct Retired {
    /// Oldest first. A name that was stored again since stays in until its turn.
    listed: VecDeque<Listing>,
    /// Listings that went before those.
    gone: u64,
    /// Name -> block and number of its last listing.
    found: HashMap<u64, (Spot, u64)>,
    /// Number of the first listing that is not in `found`.
    unfound: u64,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Listing {
    name: u64,
    key: u64,
    /// Where it was, packed; all ones if that is not known.
    place: u64,
}

impl Listing {
    fn spot(self) -> Spot {
        let place = (self.place != u64::MAX).then(|| Place::unpacked(self.place));
        Spot { key: self.key, place }
    }
}

impl Retired {
    fn new(most: usize) -> Self {
        Self { listed: VecDeque::new(), gone: 0, found: HashMap::new(), unfound: 0, most }
    }

    fn push(&mut self, name: u64, spot: Spot) {
        if self.most == 0 {
            return;
        }
        if self.listed.len() == self.most
            && let Some(oldest) = self.listed.pop_front()
        {
            if self.found.get(&oldest.name).is_some_and(|last| last.1 == self.gone) {
                self.found.remove(&oldest.name);
            }
            self.gone += 1;
            self.unfound = self.unfound.max(self.gone);
        }
        let place = spot.place.map_or(u64::MAX, Place::packed);
        self.listed.push_back(Listing { name, key: spot.key, place });
    }

    fn find(&mut self, name: u64) -> Option<Spot> {
        let from = (self.unfound - self.gone) as usize;
        for (listing, number) in self.listed.range(from..).zip(self.unfound..) {
            self.found.insert(listing.name, (listing.spot(), number));
        }
        self.unfound = self.gone + self.listed.len() as u64;
        self.found.get(&name).map(|&(spot, _)| spot)
    }
}

impl Translation {
    pub(super) fn new(max_retired: usize) -> Self {
        let (places, mixer) = (Table::default(), Mixer::new());
        Self { places, mixer, more_copies: HashMap::new(), retired: Retired::new(max_retired) }
    }

    pub(super) fn find(&mut self, hash: EngineHash) -> Option<Known> {
        let held = self.place(hash).map(Known::Held);
        held.or_else(|| self.retired.find(hash.0).map(Known::Retired))
    }

    /// Prepares for these names to be looked up or added, one after the other.
    pub(super) fn fetch(&self, hashes: &[EngineHash]) {
        self.places.fetch(hashes.iter().map(|hash| self.mixer.mix(hash.0)));
    }

    /// Where the block lies that the pod has a copy of under this name.
    pub(super) fn place(&self, hash: EngineHash) -> Option<Place> {
        self.places.find(self.mixer.mix(hash.0)).next().map(|name| Place::unpacked(name.place))
    }

    /// Whether the pod has several copies of some block.
    pub(super) fn has_more(&self, hash: EngineHash) -> bool {
        !self.more_copies.is_empty() && self.more_copies.contains_key(&hash.0)
    }

    /// One copy more of the block there; false, and nothing changes, if the name stands for another.
    #[must_use]
    pub(super) fn add_copy(&mut self, hash: EngineHash, place: Place) -> bool {
        let name = Name { mixed: self.mixer.mix(hash.0), place: place.packed() };
        let Some(known) = self.places.insert_or_get(name) else { return true };
        let is_same = known.place == name.place;
        if is_same {
            *self.more_copies.entry(hash.0).or_insert(0) += 1;
        }
        is_same
    }

    /// Takes copies of a block away, whose key this is.
    pub(super) fn drop_copies(&mut self, hash: EngineHash, mut copies: u32, key: u64) {
        if let Some(more) = self.more_copies.get_mut(&hash.0) {
            let taken = copies.min(*more);
            (*more, copies) = (*more - taken, copies - taken);
            if *more == 0 {
                self.more_copies.remove(&hash.0);
                give_back(&mut self.more_copies);
            }
        }
        if copies == 0 {
            return;
        }
        if let Some(name) = self.places.remove(self.mixer.mix(hash.0), |_| true) {
            self.retired.push(hash.0, Spot { key, place: Some(Place::unpacked(name.place)) });
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.retired.most);
    }

    /// Names of blocks with copies: name, place packed, copies.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, u64, u32)> {
        self.places.iter().map(|Name { mixed, place }| {
            let name = self.mixer.unmix(mixed);
            (name, place, 1 + self.more_copies.get(&name).copied().unwrap_or(0))
        })
    }

    /// Writes the names that are kept for a while, oldest first, with the keys of those without a copy.
    pub(super) fn save_retired(&self, frames: &mut FrameWriter) {
        for &Listing { name, key, .. } in &self.retired.listed {
            frames.hash_and_option(name, Some(key).filter(|_| self.place(EngineHash(name)).is_none()));
        }
    }

    /// Makes room for so many names.
    pub(super) fn reserve(&mut self, names: usize) {
        self.places.reserve(names);
    }

    /// Takes in a name from a snapshot; `copies` is at least 1.
    pub(super) fn restore(&mut self, name: u64, place: Place, copies: u32) {
        if self.add_copy(EngineHash(name), place) && copies > 1 {
            self.more_copies.insert(name, copies - 1);
        }
    }

    /// Takes in a name that is kept for a while, behind those before.
    pub(super) fn restore_retired(&mut self, name: u64, spot: Spot) {
        self.retired.push(name, spot);
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.places.bytes() + self.more_copies.allocation_size();
        let listed = self.retired.listed.capacity() * size_of::<Listing>();
        tables + listed + self.retired.found.allocation_size()
    }
}

/// Shrinks a map that has become mostly empty.
fn give_back<V>(map: &mut HashMap<u64, V>) {
    if map.len() * 4 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn names_that_meet_in_one_table_do_not_in_another() {
        let (known, other) = (Mixer::new(), Mixer::new());
        assert_ne!(known.odd, other.odd);
        // All at one home of any table, as far as `known` goes.
        let mut counts = std::collections::HashMap::new();
        for name in (0..10_000).map(|i| known.unmix(i)) {
            *counts.entry(other.mix(name) >> 50).or_insert(0) += 1;
        }
        assert!(*counts.values().max().unwrap() < 200, "{} meet", counts.values().max().unwrap());
    }

    proptest! {
        #[test]
        fn mixing_is_undone(name: u64) {
            let mixer = Mixer::new();
            prop_assert_eq!(mixer.unmix(mixer.mix(name)), name);
        }

        #[test]
        fn retired_names_are_found_while_listed_whenever_one_asks(
            most in 0_usize..5,
            steps in prop::collection::vec((0_u64..6, 0_u64..3, any::<bool>()), 0..60),
        ) {
            let mut retired = Retired::new(most);
            let mut model: Vec<(u64, u64)> = Vec::new();
            for (name, key, is_asked) in steps {
                if is_asked {
                    let last = model.iter().rev().take(most).find(|listed| listed.0 == name);
                    prop_assert_eq!(retired.find(name), last.map(|listed| Spot::by_key(listed.1)));
                } else {
                    retired.push(name, Spot::by_key(key));
                    model.push((name, key));
                }
                prop_assert!(retired.found.len() <= most);
            }
        }
    }
}
