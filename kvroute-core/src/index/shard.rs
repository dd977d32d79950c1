//! One shard of the forest: plain data behind `&mut self`, no locks.
//!
//! A run lives in the shard of its first key, together with the entry that finds it by that key, so a
//! lookup reads one shard a run. Where a block *inside* a run lies is known to the [`Directory`], which only the write
//! path of native domains asks; in translated ones each pod's translation knows.

use alloc::vec::Vec;

use hashbrown::HashTable;

use super::run::{OFFSET_BITS, Place, Run};
use super::table::{Entry, Table};

/// Runs whose first keys belong to one shard.
#[derive(Debug, Default)]
pub(super) struct Shard {
    runs: Vec<Run>,
    /// Slots of `runs` that may be free. An entry can be stale: the slot's run decides.
    free: Vec<u32>,
    /// First key of a run -> slot. (Lookups ask it, and few slots' lines are far away: it is quicker here than a
    /// [`Table`], whose search cannot be foretold.)
    heads: HashTable<u32>,
    /// Heap bytes of all runs.
    run_bytes: usize,
    /// Blocks of all runs that events announced.
    announced: usize,
}

impl Shard {
    /// The slot of the run that begins with `key` after `parent`. (Keys are chained, so one key has one
    /// parent; engines that say otherwise get a run each and so cannot spoil each other's.)
    pub(super) fn head(&self, key: u64, parent: Option<Place>) -> Option<u32> {
        let begins = |run: &Run| run.first_key() == key && run.parent == parent;
        self.heads.find(spread(key), |&slot| begins(&self.runs[slot as usize])).copied()
    }

    /// The run in `slot`, if one is there.
    pub(super) fn run(&self, slot: u32) -> Option<&Run> {
        self.runs.get(slot as usize).filter(|run| !run.keys().is_empty())
    }

    /// The run in `slot` if `key` lies at `offset` of it.
    pub(super) fn run_with(&self, slot: u32, offset: usize, key: u64) -> Option<&Run> {
        self.run(slot).filter(|run| run.keys().get(offset) == Some(&key))
    }

    /// Changes the run in `slot`, keeping the counts true.
    pub(super) fn change<R>(&mut self, slot: u32, change: impl FnOnce(&mut Run) -> R) -> R {
        let run = &mut self.runs[slot as usize];
        let before = (run.heap_bytes(), run.announced());
        let result = change(run);
        self.run_bytes = self.run_bytes + run.heap_bytes() - before.0;
        self.announced = self.announced + run.announced() - before.1;
        result
    }

    /// Puts a new run in and answers its slot; no run must begin so already.
    /// `None` when every slot a [`RunId`] can name is taken.
    pub(super) fn insert(&mut self, run: Run, max_slots: u32) -> Option<u32> {
        let slot = loop {
            match self.free.pop() {
                Some(slot) if self.runs.get(slot as usize).is_some_and(|run| run.keys().is_empty()) => {
                    break slot;
                }
                Some(_) => {}
                None if self.runs.len() as u32 == max_slots => return None,
                None => {
                    self.runs.push(Run::default());
                    break self.runs.len() as u32 - 1;
                }
            }
        };
        let key = run.first_key();
        self.run_bytes += run.heap_bytes();
        self.runs[slot as usize] = run;
        let runs = &self.runs;
        self.heads.insert_unique(spread(key), slot, |&slot| spread(runs[slot as usize].first_key()));
        Some(slot)
    }

    /// Takes a run out and gives its memory back.
    pub(super) fn remove(&mut self, slot: u32) -> Run {
        let run = core::mem::take(&mut self.runs[slot as usize]);
        self.run_bytes -= run.heap_bytes();
        self.announced -= run.announced();
        if let Ok(entry) = self.heads.find_entry(spread(run.first_key()), |&other| other == slot) {
            entry.remove();
        }
        while self.runs.last().is_some_and(|run| run.keys().is_empty()) {
            self.runs.pop();
        }
        if (slot as usize) < self.runs.len() {
            self.free.push(slot);
        }
        let runs = &self.runs;
        give_back(&mut self.heads, |&slot| spread(runs[slot as usize].first_key()));
        if self.runs.len() * 8 < self.runs.capacity() {
            self.runs.shrink_to(self.runs.len() * 2);
            self.free.retain(|&slot| (slot as usize) < self.runs.len());
            self.free.shrink_to(self.runs.len() * 2);
        }
        run
    }

    /// Blocks that events announced.
    pub(super) fn announced(&self) -> usize {
        self.announced
    }

    /// Bytes this shard has allocated.
    pub(super) fn bytes(&self) -> usize {
        self.run_bytes
            + self.runs.capacity() * size_of::<Run>()
            + self.free.capacity() * size_of::<u32>()
            + self.heads.allocation_size()
    }
}

/// Where the blocks of native domains lie, which events name by their keys: one 8-byte entry a block, without its key.
/// (In a translated domain each pod's translation knows the places.)
///
/// An entry packs the run, the offset and a part of the key's hash. Two keys can share an entry's hash
/// part, so an answer is a *candidate* that the caller checks against the run itself, which it visits
/// anyway.
#[derive(Debug, Default)]
pub(super) struct Directory {
    entries: Table<u64>,
}

/// A tag and, below it, a packed place; no tag is all ones, and no block lies at the last place of all.
impl Entry for u64 {
    const NONE: Self = Self::MAX;

    fn hash(self) -> u64 {
        self & !PLACE
    }

    fn gone(self) -> Self {
        self | PLACE
    }

    fn is_live(self) -> bool {
        self & PLACE != PLACE
    }
}

/// Bits of a key's hash kept in a directory entry.
const TAG_BITS: u32 = 24;
/// Bits of a packed run id.
pub(super) const RUN_BITS: u32 = 64 - TAG_BITS - OFFSET_BITS;
/// Bits of a packed place.
const PLACE: u64 = (1 << (64 - TAG_BITS)) - 1;

impl Directory {
    /// Every place where `key` may lie.
    pub(super) fn candidates(&self, key: u64) -> impl Iterator<Item = Place> {
        self.entries.find(tag_of(key) << (64 - TAG_BITS)).map(|entry| Place::unpacked(entry & PLACE))
    }

    pub(super) fn insert(&mut self, key: u64, place: Place) {
        self.insert_entry(entry_of(key, place));
    }

    /// Puts in what [`entry_of`] made of a key of this directory.
    pub(super) fn insert_entry(&mut self, entry: u64) {
        self.entries.insert(entry);
    }

    pub(super) fn remove(&mut self, key: u64, place: Place) {
        let entry = entry_of(key, place);
        self.entries.remove(entry.hash(), |other| other == entry);
    }

    /// Equal for keys that differ in nothing that a directory tells them apart by; the upper bits are where they lie.
    pub(super) fn hash(key: u64) -> u64 {
        tag_of(key) << (64 - TAG_BITS)
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, entries: usize) {
        self.entries.reserve(entries);
    }

    /// Gives back room that was made for more than came.
    pub(super) fn tidy(&mut self) {
        self.entries.give_back();
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes()
    }
}

/// Shrinks a table that has become mostly empty. (An empty one is replaced: the capacity it reports
/// leaves out what its tombstones take up.)
pub(super) fn give_back<T>(table: &mut HashTable<T>, hasher: impl Fn(&T) -> u64) {
    if table.is_empty() {
        *table = HashTable::new();
    } else if table.len() * 4 < table.capacity() {
        table.shrink_to(table.len() * 2, hasher);
    }
}

/// A key's tag and place.
pub(super) fn entry_of(key: u64, place: Place) -> u64 {
    tag_of(key) << (64 - TAG_BITS) | place.packed()
}

fn tag_of(key: u64) -> u64 {
    (spread(key) >> 16 & ((1 << TAG_BITS) - 1)).min((1 << TAG_BITS) - 2)
}

/// Spreads a key over 64 bits. Keys are hashes already, but engines may number their blocks 1, 2, 3,
/// and tags have few bits; a multiply and a fold serve both.
pub(super) fn spread(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xf135_7aea_2e62_a9c5;
    (product >> 64) as u64 ^ product as u64
}
