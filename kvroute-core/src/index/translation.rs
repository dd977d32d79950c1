//! From an engine's name for a block to its place in the index.
//!
//! Needed where the engine's hashes cannot be recomputed. A block that is held stays in its place, so events find it
//! there without a search. A name outlives the last copy of its block for a while, because an engine can announce that a
//! block was offloaded after it left the device, and names no tokens then; by then the block may have gone from its place
//! and come back to another, so it is kept with its key.

use alloc::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::run::{Place, Spot};
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

/// 16 bytes a block in the table that every held one is in; what few have is kept beside it.
#[derive(Debug)]
pub(super) struct Translation {
    /// Name -> place, packed, of the blocks the pod has.
    places: HashMap<u64, u64>,
    /// Name -> copies beyond the first, over all lanes.
    more_copies: HashMap<u64, u32>,
    retired: Retired,
}

/// Names of blocks whose last copy went, with their keys and where they were. They are listed as they come, which costs one line of the
/// processor's cache; the table that finds them is only made once one is asked for, which few engines' events do.
#[derive(Debug)]
struct Retired {
    /// Oldest first. A name that was stored again since stays in until its turn.
    listed: VecDeque<(u64, Spot)>,
    /// Listings that went before those.
    gone: u64,
    /// Name -> block and number of its last listing.
    found: HashMap<u64, (Spot, u64)>,
    /// Number of the first listing that is not in `found`.
    unfound: u64,
    most: usize,
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
            && let Some((oldest, _)) = self.listed.pop_front()
        {
            if let Entry::Occupied(last) = self.found.entry(oldest)
                && last.get().1 == self.gone
            {
                last.remove();
            }
            self.gone += 1;
            self.unfound = self.unfound.max(self.gone);
        }
        self.listed.push_back((name, spot));
    }

    fn find(&mut self, name: u64) -> Option<Spot> {
        let from = (self.unfound - self.gone) as usize;
        for (&(name, spot), number) in self.listed.range(from..).zip(self.unfound..) {
            self.found.insert(name, (spot, number));
        }
        self.unfound = self.gone + self.listed.len() as u64;
        self.found.get(&name).map(|&(spot, _)| spot)
    }
}

impl Translation {
    pub(super) fn new(max_retired: usize) -> Self {
        Self { places: HashMap::new(), more_copies: HashMap::new(), retired: Retired::new(max_retired) }
    }

    pub(super) fn find(&mut self, hash: EngineHash) -> Option<Known> {
        let held = self.place(hash).map(Known::Held);
        held.or_else(|| self.retired.find(hash.0).map(Known::Retired))
    }

    /// Where the block lies that the pod has a copy of under this name.
    pub(super) fn place(&self, hash: EngineHash) -> Option<Place> {
        self.places.get(&hash.0).map(|&packed| Place::unpacked(packed))
    }

    /// Whether the pod has several copies of some block.
    pub(super) fn has_more(&self, hash: EngineHash) -> bool {
        !self.more_copies.is_empty() && self.more_copies.contains_key(&hash.0)
    }

    pub(super) fn add_copy(&mut self, hash: EngineHash, place: Place) {
        match self.places.entry(hash.0) {
            Entry::Occupied(_) => *self.more_copies.entry(hash.0).or_insert(0) += 1,
            Entry::Vacant(free) => _ = free.insert(place.packed()),
        }
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
        if let Some(packed) = self.places.remove(&hash.0) {
            give_back(&mut self.places);
            self.retired.push(hash.0, Spot { key, place: Some(Place::unpacked(packed)) });
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.retired.most);
    }

    /// Names of blocks with copies: name, place packed, copies.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, u64, u32)> {
        self.places
            .iter()
            .map(|(&name, &packed)| (name, packed, 1 + self.more_copies.get(&name).copied().unwrap_or(0)))
    }

    /// Writes the names that are kept for a while, oldest first, with the keys of those without a copy.
    pub(super) fn save_retired(&self, frames: &mut FrameWriter) {
        for &(name, spot) in &self.retired.listed {
            frames.hash_and_option(name, Some(spot.key).filter(|_| !self.places.contains_key(&name)));
        }
    }

    /// Makes room for so many names.
    pub(super) fn reserve(&mut self, names: usize) {
        self.places.reserve(names);
    }

    /// Takes in a name from a snapshot; `copies` is at least 1.
    pub(super) fn restore(&mut self, name: u64, place: Place, copies: u32) {
        self.places.insert(name, place.packed());
        if copies > 1 {
            self.more_copies.insert(name, copies - 1);
        }
    }

    /// Takes in a name that is kept for a while, behind those before.
    pub(super) fn restore_retired(&mut self, name: u64, spot: Spot) {
        self.retired.push(name, spot);
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.places.allocation_size() + self.more_copies.allocation_size();
        let listed = self.retired.listed.capacity() * size_of::<(u64, Spot)>();
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

    proptest! {
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
