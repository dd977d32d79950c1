//! A hash table of small entries in one piece of memory, in the order of their hashes.
//!
//! Every entry lies at its home, which its hash tells, or as little behind it as those before it allow (Amble and Knuth,
//! "Ordered hash tables", 1974). So a search reads one line of the processor's cache and seldom its neighbour, where a
//! table with control bytes reads two lines far apart; and, being in order, it is copied into a larger or smaller one in
//! a single pass, so that it need not double to grow: half to four fifths of its homes are taken.

use alloc::vec;
use alloc::vec::Vec;
use core::hint::black_box;

/// What a [`Table`] keeps: few bytes, with its hash in them.
pub(super) trait Entry: Copy {
    /// A slot that was free since the table was made. No hash is greater.
    const NONE: Self;

    /// What the table is ordered by; its upper bits must be spread evenly.
    fn hash(self) -> u64;

    /// What is left of this entry in its slot when it is taken out: its hash, so that the order stays.
    fn gone(self) -> Self;

    fn is_live(self) -> bool;
}

#[derive(Debug)]
pub(super) struct Table<E> {
    /// At least one for each home; those that the last homes have no room for lie behind.
    slots: Vec<E>,
    homes: usize,
    len: usize,
    /// Slots that are not [`Entry::NONE`].
    used: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self { slots: Vec::new(), homes: 0, len: 0, used: 0 }
    }
}

impl<E: Entry> Table<E> {
    /// All entries, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = E> {
        self.slots.iter().copied().filter(|entry| entry.is_live())
    }

    /// The entries with this hash.
    pub(super) fn find(&self, hash: u64) -> impl Iterator<Item = E> {
        let slots = self.slots.get(self.seek(hash)..).unwrap_or_default();
        slots.iter().copied().take_while(move |entry| entry.hash() == hash).filter(|entry| entry.is_live())
    }

    /// Reads the homes of these hashes, so that what comes next finds them in the processor's cache. Nothing depends on what
    /// is read, so it reads many at a time; a search's end does, and one search would wait for the other's line.
    pub(super) fn fetch(&self, hashes: impl Iterator<Item = u64>) {
        // And a little beyond them, where what is put in moves others to.
        let read = |at: usize| self.slots.get(at).map_or(0, |slot| slot.hash());
        black_box(hashes.map(|hash| self.home(hash)).fold(0, |all, home| all ^ read(home) ^ read(home + 6)));
    }

    /// Puts an entry in, before those with the same hash.
    pub(super) fn insert(&mut self, entry: E) {
        self.make_room();
        self.put(self.seek(entry.hash()), entry);
    }

    /// Puts an entry in, unless there is one with its hash: answers that.
    pub(super) fn insert_or_get(&mut self, entry: E) -> Option<E> {
        self.make_room();
        let at = self.seek(entry.hash());
        let mut with_hash = self.slots[at..].iter().take_while(|other| other.hash() == entry.hash());
        let there = with_hash.find(|other| other.is_live()).copied();
        if there.is_none() {
            self.put(at, entry);
        }
        there
    }

    /// Makes room for one more.
    fn make_room(&mut self) {
        if self.used >= most(self.homes) {
            // Mostly what is gone: then there is room enough.
            let grown = if self.len < self.homes * 3 / 5 { 0 } else { self.homes / 2 + 4 };
            self.rebuild(self.homes + grown);
        }
    }

    /// Puts an entry where it was sought.
    fn put(&mut self, at: usize, entry: E) {
        let free = self.slots[at..].iter().position(|slot| !slot.is_live());
        let free = free.map_or(self.slots.len(), |behind| at + behind);
        if free == self.slots.len() {
            self.slots.reserve_exact(1);
            self.slots.push(E::NONE);
        }
        self.used += usize::from(self.is_none(free));
        self.slots.copy_within(at..free, at + 1);
        self.slots[at] = entry;
        self.len += 1;
    }

    /// Takes out the first entry with this hash that `is_it`.
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(E) -> bool) -> Option<E> {
        let from = self.seek(hash);
        let mut with_hash = self.slots.get(from..)?.iter().take_while(|entry| entry.hash() == hash);
        let mut at = from + with_hash.position(|&entry| entry.is_live() && is_it(entry))?;
        let taken = self.slots[at];
        self.slots[at] = taken.gone();
        self.len -= 1;
        // At the end of its row nothing of it need be left.
        while !self.slots[at].is_live() && self.is_none(at + 1) {
            self.slots[at] = E::NONE;
            self.used -= 1;
            let Some(before) = at.checked_sub(1).filter(|&before| !self.is_none(before)) else { break };
            at = before;
        }
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

    /// Whether nothing came to this slot yet, or there is none.
    fn is_none(&self, at: usize) -> bool {
        self.slots.get(at).is_none_or(|slot| slot.hash() == E::NONE.hash())
    }

    /// Position of the first slot with this hash or a greater one.
    fn seek(&self, hash: u64) -> usize {
        let home = self.home(hash);
        let from_home = self.slots.get(home..).unwrap_or_default();
        home + from_home.iter().position(|entry| entry.hash() >= hash).unwrap_or(from_home.len())
    }

    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.homes as u128) >> 64) as usize
    }

    fn rebuild(&mut self, homes: usize) {
        // Room behind the last home for as many as are likely to need it.
        let slots = vec![E::NONE; homes + homes.min(8)];
        let old = core::mem::replace(self, Self { slots, homes, len: self.len, used: self.len });
        let mut next = 0;
        for entry in old.slots {
            // No branch: which slots are free cannot be foretold. What is no entry leaves the next slot as free as it is.
            let is_live = entry.is_live();
            let at = if is_live { self.home(entry.hash()).max(next) } else { next };
            let entry = if is_live { entry } else { E::NONE };
            match self.slots.get_mut(at) {
                Some(slot) => *slot = entry,
                None => self.slots.push(entry),
            }
            next = at + usize::from(is_live);
        }
    }
}

/// How many slots may be used of so many homes: four fifths. Beyond, what an entry must be moved by grows steeply.
fn most(homes: usize) -> usize {
    homes - homes.div_ceil(5)
}

fn homes_for(entries: usize) -> usize {
    entries.saturating_add(entries / 4).saturating_add(2)
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

        fn gone(self) -> Self {
            (self.0, u8::MAX)
        }

        fn is_live(self) -> bool {
            self.1 != u8::MAX
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
                    2 => {
                        table.reserve(usize::from(value));
                        table.fetch([hash].into_iter());
                    }
                    _ => {
                        let there = model.iter().any(|known| known.0 == hash);
                        if step == 3 {
                            prop_assert_eq!(table.insert_or_get((hash, value)).is_some(), there);
                        } else {
                            table.insert((hash, value));
                        }
                        if step != 3 || !there {
                            model.push((hash, value));
                        }
                    }
                }
                model.sort_unstable();
                let mut entries: Vec<_> = table.iter().collect();
                prop_assert!(entries.is_sorted_by_key(|entry| entry.0));
                entries.sort_unstable();
                prop_assert_eq!(&entries, &model);
                prop_assert_eq!(table.len, model.len());
                let mut found: Vec<_> = table.find(hash).collect();
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
        assert!(table.bytes() < 10_000 * size_of::<(u64, u8)>() * 19 / 10);
        for i in 0..10_000 {
            assert!(table.remove(hash(i), |_| true).is_some());
            assert!(table.bytes() <= (table.len * 5 + 24) * size_of::<(u64, u8)>() / 2);
        }
        assert_eq!(table.bytes(), 0);
    }
}
