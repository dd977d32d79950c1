//! From an engine's name for a block to its key in the index.
//!
//! Needed where the engine's hashes cannot be recomputed. A name outlives the last copy of its block for a
//! while, because an engine can announce that a block was offloaded after it left the device, and names
//! no tokens then.

use alloc::collections::VecDeque;

use hashbrown::HashMap;

use crate::EngineHash;
use crate::frame::FrameWriter;

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    /// Copies of the block the pod has, over all lanes.
    copies: u32,
}

#[derive(Debug)]
pub(super) struct Translation {
    entries: HashMap<u64, Entry>,
    /// Names without a copy, oldest first. A name that was stored again since stays in until its turn.
    retired: VecDeque<u64>,
    max_retired: usize,
}

impl Translation {
    pub(super) fn new(max_retired: usize) -> Self {
        Self { entries: HashMap::new(), retired: VecDeque::new(), max_retired }
    }

    pub(super) fn key(&self, hash: EngineHash) -> Option<u64> {
        self.entries.get(&hash.0).map(|entry| entry.key)
    }

    /// Whether the pod has a copy of another block under this name.
    pub(super) fn contradicts(&self, hash: EngineHash, key: u64) -> bool {
        self.entries.get(&hash.0).is_some_and(|entry| entry.copies > 0 && entry.key != key)
    }

    pub(super) fn add_copy(&mut self, hash: EngineHash, key: u64) {
        let entry = self.entries.entry(hash.0).or_insert(Entry { key, copies: 0 });
        if entry.copies == 0 {
            entry.key = key;
        }
        entry.copies += 1;
    }

    pub(super) fn drop_copies(&mut self, hash: EngineHash, copies: u32) {
        let Some(entry) = self.entries.get_mut(&hash.0) else { return };
        entry.copies = entry.copies.saturating_sub(copies);
        if entry.copies > 0 {
            return;
        }
        self.retire(hash.0);
        if self.entries.len() * 8 < self.entries.capacity() {
            self.entries.shrink_to(self.entries.len() * 2);
        }
    }

    fn retire(&mut self, name: u64) {
        self.retired.push_back(name);
        while self.retired.len() > self.max_retired {
            let Some(oldest) = self.retired.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.copies == 0) {
                self.entries.remove(&oldest);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max_retired);
    }

    /// Names of blocks with copies: name, key, copies.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, u64, u32)> {
        let held = self.entries.iter().filter(|(_, entry)| entry.copies > 0);
        held.map(|(&name, entry)| (name, entry.key, entry.copies))
    }

    /// Writes the names that are kept for a while, oldest first, with the keys of those without a copy.
    pub(super) fn save_retired(&self, frames: &mut FrameWriter) {
        for name in &self.retired {
            let key = self.entries.get(name).filter(|entry| entry.copies == 0).map(|entry| entry.key);
            frames.hash_and_option(*name, key);
        }
    }

    /// Makes room for so many names.
    pub(super) fn reserve(&mut self, names: usize) {
        self.entries.reserve(names);
    }

    /// Takes in a name from a snapshot.
    pub(super) fn restore(&mut self, name: u64, key: u64, copies: u32) {
        self.entries.insert(name, Entry { key, copies });
    }

    /// Takes in a name that is kept for a while, behind those before; its key if it has no copy.
    pub(super) fn restore_retired(&mut self, name: u64, key: Option<u64>) {
        if let Some(key) = key {
            self.entries.entry(name).or_insert(Entry { key, copies: 0 });
        }
        self.retire(name);
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.entries.allocation_size() + self.retired.capacity() * size_of::<u64>()
    }
}
