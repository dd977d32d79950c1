//! From an engine's name for a block to its key in the index.
//!
//! Needed where the engine's hashes cannot be recomputed. A name outlives the last copy of its block for a
//! while, because an engine can announce that a block was offloaded after it left the device, and names
//! no tokens then.

use alloc::collections::VecDeque;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::EngineHash;
use crate::frame::FrameWriter;

/// 16 bytes a block in the table that every held one is in; what few have is kept beside it.
#[derive(Debug)]
pub(super) struct Translation {
    /// Name -> key of the blocks the pod has.
    keys: HashMap<u64, u64>,
    /// Name -> copies beyond the first, over all lanes.
    more_copies: HashMap<u64, u32>,
    /// Name -> key of blocks without a copy.
    retired_keys: HashMap<u64, u64>,
    /// Names without a copy, oldest first. A name that was stored again since stays in until its turn.
    retired: VecDeque<u64>,
    max_retired: usize,
}

impl Translation {
    pub(super) fn new(max_retired: usize) -> Self {
        Self {
            keys: HashMap::new(),
            more_copies: HashMap::new(),
            retired_keys: HashMap::new(),
            retired: VecDeque::new(),
            max_retired,
        }
    }

    pub(super) fn key(&self, hash: EngineHash) -> Option<u64> {
        self.keys.get(&hash.0).or_else(|| self.retired_keys.get(&hash.0)).copied()
    }

    /// Whether the pod has a copy of another block under this name.
    pub(super) fn contradicts(&self, hash: EngineHash, key: u64) -> bool {
        self.keys.get(&hash.0).is_some_and(|&held| held != key)
    }

    pub(super) fn add_copy(&mut self, hash: EngineHash, key: u64) {
        match self.keys.entry(hash.0) {
            Entry::Occupied(_) => *self.more_copies.entry(hash.0).or_insert(0) += 1,
            Entry::Vacant(free) => {
                free.insert(key);
                self.retired_keys.remove(&hash.0);
            }
        }
    }

    pub(super) fn drop_copies(&mut self, hash: EngineHash, mut copies: u32) {
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
        if let Some(key) = self.keys.remove(&hash.0) {
            give_back(&mut self.keys);
            self.retired_keys.insert(hash.0, key);
            self.retire(hash.0);
        }
    }

    fn retire(&mut self, name: u64) {
        self.retired.push_back(name);
        while self.retired.len() > self.max_retired {
            let Some(oldest) = self.retired.pop_front() else { break };
            self.retired_keys.remove(&oldest);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max_retired);
    }

    /// Names of blocks with copies: name, key, copies.
    pub(super) fn held(&self) -> impl Iterator<Item = (u64, u64, u32)> {
        self.keys
            .iter()
            .map(|(&name, &key)| (name, key, 1 + self.more_copies.get(&name).copied().unwrap_or(0)))
    }

    /// Writes the names that are kept for a while, oldest first, with the keys of those without a copy.
    pub(super) fn save_retired(&self, frames: &mut FrameWriter) {
        for name in &self.retired {
            frames.hash_and_option(*name, self.retired_keys.get(name).copied());
        }
    }

    /// Makes room for so many names.
    pub(super) fn reserve(&mut self, names: usize) {
        self.keys.reserve(names);
    }

    /// Takes in a name from a snapshot; `copies` is at least 1.
    pub(super) fn restore(&mut self, name: u64, key: u64, copies: u32) {
        self.keys.insert(name, key);
        if copies > 1 {
            self.more_copies.insert(name, copies - 1);
        }
    }

    /// Takes in a name that is kept for a while, behind those before; its key if it has no copy.
    pub(super) fn restore_retired(&mut self, name: u64, key: Option<u64>) {
        if let Some(key) = key.filter(|_| !self.keys.contains_key(&name)) {
            self.retired_keys.entry(name).or_insert(key);
        }
        self.retire(name);
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let tables = self.keys.allocation_size() + self.retired_keys.allocation_size();
        tables + self.more_copies.allocation_size() + self.retired.capacity() * size_of::<u64>()
    }
}

/// Shrinks a map that has become mostly empty.
fn give_back<V>(map: &mut HashMap<u64, V>) {
    if map.len() * 4 < map.capacity() {
        map.shrink_to(map.len() * 2);
    }
}
