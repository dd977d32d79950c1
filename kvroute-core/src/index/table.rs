//! A hash table of small entries in one piece of memory, in the order of their hashes.
//!
//! Every entry lies at its home, which its hash tells, or as little behind it as those before it allow (Amble and Knuth,
//! "Ordered hash tables", 1974). So a search reads one line of the processor's cache and seldom its neighbour, where a
//! table with control bytes reads two lines far apart; and, being in order, it is copied into a larger or smaller one in
//! a single pass, so that it need not double to grow: three to four fifths of its homes are taken.

use alloc::vec;
use alloc::vec::Vec;

/// What a [`Table`] keeps: few bytes, with its hash in them.
pub(super) trait Entry: Copy + PartialEq {
    /// No entry. Its hash is the greatest.
    const NONE: Self;

    /// What the table is ordered by; its upper bits must be spread evenly.
    fn hash(self) -> u64;
}

#[derive(Debug)]
pub(super) struct Table<E> {
    /// At least one for each home; those that the last homes have no room for lie behind.
    slots: Vec<E>,
    homes: usize,
    len: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self { slots: Vec::new(), homes: 0, len: 0 }
    }
}

impl<E: Entry> Table<E> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All entries, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = E> {
        self.slots.iter().copied().filter(|entry| *entry != E::NONE)
    }

    /// Entries from the first on whose hash is not less than `hash`, up to a free slot: all that have this hash are among
    /// them.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = E> {
        let entries = self.slots.get(self.seek(hash)..).unwrap_or_default();
        entries.iter().copied().take_while(|entry| *entry != E::NONE)
    }

    /// Puts an entry in, before those with the same hash.
    pub(super) fn insert(&mut self, entry: E) {
        if self.len >= most(self.homes) {
            self.rebuild(self.homes + self.homes / 4 + 4);
        }
        let at = self.seek(entry.hash());
        let free = self.slots[at..].iter().position(|slot| *slot == E::NONE).map(|behind| at + behind);
        let free = free.unwrap_or_else(|| {
            self.slots.reserve_exact(1);
            self.slots.push(E::NONE);
            self.slots.len() - 1
        });
        self.slots.copy_within(at..free, at + 1);
        self.slots[at] = entry;
        self.len += 1;
    }

    /// Takes out the first entry with this hash that `is_it`.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(E) -> bool) -> Option<E> {
        let with_hash = self.from(hash).take_while(|entry| entry.hash() == hash);
        let at = self.seek(hash) + with_hash.map(is_it).position(|is_it| is_it)?;
        let taken = self.slots[at];
        // Those behind that are not at home come one nearer to it.
        let behind = &self.slots[at + 1..];
        let is_home = |(slot, entry): (usize, &E)| *entry == E::NONE || self.home(entry.hash()) >= slot;
        let count = (at + 1..).zip(behind).position(is_home).unwrap_or(behind.len());
        self.slots.copy_within(at + 1..at + 1 + count, at);
        self.slots[at + count] = E::NONE;
        self.len -= 1;
        self.give_back();
        Some(taken)
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        let homes = homes_for(self.len.saturating_add(more));
        if homes > self.homes {
            self.rebuild(homes);
        }
    }

    /// Gives back room if most is not needed.
    pub(super) fn give_back(&mut self) {
        if self.len == 0 {
            *self = Self::default();
        } else if self.len < self.homes * 2 / 5 {
            self.rebuild(homes_for(self.len + self.len / 8));
        }
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<E>()
    }

    /// Position of the first entry with this hash or a greater one, or of the free slot that ends the search for it.
    fn seek(&self, hash: u64) -> usize {
        let home = self.home(hash);
        let from_home = self.slots.get(home..).unwrap_or_default();
        home + from_home.iter().position(|entry| entry.hash() >= hash).unwrap_or(from_home.len())
    }

    fn home(&self, hash: u64) -> usize {
        (u128::from(hash) * self.homes as u128 >> 64) as usize
    }

    fn rebuild(&mut self, homes: usize) {
        // Room behind the last home for as many as are likely to need it.
        let slots = vec![E::NONE; homes + homes.min(8)];
        let old = core::mem::replace(self, Self { slots, homes, len: self.len });
        let mut next = 0;
        for entry in old.iter() {
            let at = self.home(entry.hash()).max(next);
            if at == self.slots.len() {
                self.slots.reserve_exact(1);
                self.slots.push(entry);
            } else {
                self.slots[at] = entry;
            }
            next = at + 1;
        }
    }
}

/// How many entries so many homes take: four fifths. Beyond, what an entry must be moved by grows steeply.
fn most(homes: usize) -> usize {
    homes - homes.div_ceil(5)
}

fn homes_for(entries: usize) -> usize {
    entries.saturating_add(entries / 4).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    impl Entry for (u64, u8) {
        const NONE: Self = (u64::MAX, u8::MAX);

        fn hash(self) -> u64 {
            self.0
        }
    }

    /// Hashes that crowd: at the least, at the greatest, in the middle.
    fn hash() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, u64::MAX - 3..=u64::MAX, (0..40_u64).prop_map(|i| i << 58), any::<u64>()]
    }

    proptest! {
        #[test]
        fn a_table_is_a_sorted_list_of_its_entries(
            steps in prop::collection::vec((0..5_u8, hash(), 0..4_u8), 0..300),
        ) {
            let mut table = Table::default();
            let mut model: Vec<(u64, u8)> = Vec::new();
            for (step, hash, value) in steps {
                match step {
                    0 => {
                        let at = model.iter().position(|known| *known == (hash, value));
                        let taken = table.remove(hash, |entry: (u64, u8)| entry.1 == value);
                        prop_assert_eq!(taken, at.map(|at| model.remove(at)));
                    }
                    1 if !model.is_empty() => {
                        let (hash, value) = model.swap_remove(usize::from(value) % model.len());
                        prop_assert_eq!(table.remove(hash, |entry| entry.1 == value), Some((hash, value)));
                    }
                    2 => table.reserve(usize::from(value)),
                    _ => {
                        table.insert((hash, value));
                        model.push((hash, value));
                    }
                }
                model.sort_unstable();
                let mut entries: Vec<_> = table.iter().collect();
                prop_assert!(entries.is_sorted_by_key(|entry| entry.0));
                entries.sort_unstable();
                prop_assert_eq!(&entries, &model);
                prop_assert_eq!(table.len(), model.len());
                let mut found: Vec<_> = table.from(hash).filter(|entry| entry.0 == hash).collect();
                found.sort_unstable();
                prop_assert_eq!(found, model.iter().copied().filter(|known| known.0 == hash).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn room_is_given_back_as_entries_go() {
        let mut table = Table::default();
        let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (0..10_000).for_each(|i| table.insert((hash(i), 0)));
        assert!(table.bytes() < 10_000 * size_of::<(u64, u8)>() * 17 / 10);
        for i in 0..10_000 {
            assert!(table.remove(hash(i), |_| true).is_some());
            assert!(table.bytes() <= (table.len() * 5 + 24) * size_of::<(u64, u8)>() / 2);
        }
        assert_eq!(table.bytes(), 0);
    }
}
