//! Blocks whose parent is not known yet.
//!
//! A block is only ever placed after its parent; one that comes first (a late joiner's view, a lost
//! batch) waits here. It is not reachable for its pod anyway, so waiting changes no answer. The place is
//! bounded: what does not fit is refused and counted.

use alloc::vec::Vec;

use hashbrown::HashMap;

use crate::EngineHash;
use crate::frame::FrameWriter;
use crate::hash::ExtraKey;

/// A waiting block.
#[derive(Clone, Debug)]
pub(super) struct ParkedBlock {
    pub(super) hash: EngineHash,
    pub(super) lane: u32,
    pub(super) copies: u32,
    /// Token ids and extra keys, where the block must be hashed again; else empty.
    pub(super) token_ids: Vec<u32>,
    pub(super) extra_keys: Vec<ExtraKey>,
}

impl ParkedBlock {
    fn bytes(&self) -> usize {
        let keys: usize = self.extra_keys.iter().map(|key| size_of::<ExtraKey>() + key.heap_bytes()).sum();
        size_of::<Self>() + self.token_ids.len() * size_of::<u32>() + keys
    }
}

#[derive(Debug)]
pub(super) struct Parked {
    /// Parent -> blocks that wait for it.
    waiting: HashMap<u64, Vec<ParkedBlock>>,
    /// Waiting block -> its parent.
    parents: HashMap<u64, u64>,
    len: usize,
    /// Bytes of the waiting blocks.
    bytes: usize,
    max_blocks: usize,
    max_bytes: usize,
    /// Whether a block announced again is a further copy.
    counts: bool,
}

impl Parked {
    pub(super) fn new(max_blocks: usize, max_bytes: usize, counts: bool) -> Self {
        Self {
            waiting: HashMap::new(),
            parents: HashMap::new(),
            len: 0,
            bytes: 0,
            max_blocks,
            max_bytes,
            counts,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Lets a block that waits already wait in `lane` too; false if it does not wait, or there is no room.
    pub(super) fn park_again(&mut self, hash: EngineHash, lane: u32) -> bool {
        let Some(&parent) = self.parents.get(&hash.0) else { return false };
        let known = self.waiting.get(&parent).and_then(|blocks| blocks.iter().find(|b| b.hash == hash));
        let Some(block) = known.cloned() else { return false };
        self.park(EngineHash(parent), ParkedBlock { lane, copies: 1, ..block })
    }

    /// Lets a block wait for `parent`; false if there is no room.
    pub(super) fn park(&mut self, parent: EngineHash, block: ParkedBlock) -> bool {
        let blocks = self.waiting.entry(parent.0).or_default();
        if let Some(known) = blocks.iter_mut().find(|b| b.hash == block.hash && b.lane == block.lane) {
            if self.counts {
                known.copies = known.copies.saturating_add(block.copies);
            }
            return true;
        }
        let bytes = block.bytes();
        if self.len == self.max_blocks || self.max_bytes - self.bytes < bytes {
            if blocks.is_empty() {
                self.waiting.remove(&parent.0);
            }
            return false;
        }
        self.len += 1;
        self.bytes += bytes;
        self.parents.insert(block.hash.0, parent.0);
        blocks.push(block);
        true
    }

    /// The blocks that waited for `parent`, in order of arrival.
    pub(super) fn take(&mut self, parent: EngineHash) -> Vec<ParkedBlock> {
        let blocks = self.waiting.remove(&parent.0).unwrap_or_default();
        self.len -= blocks.len();
        for block in &blocks {
            self.bytes -= block.bytes();
            self.parents.remove(&block.hash.0);
        }
        blocks
    }

    /// Takes one copy of a waiting block away (all of them with `all`); false if none waits in such a lane.
    pub(super) fn remove(&mut self, hash: EngineHash, lane: impl Fn(u32) -> bool, all: bool) -> bool {
        let Some(&parent) = self.parents.get(&hash.0) else { return false };
        let Some(blocks) = self.waiting.get_mut(&parent) else { return false };
        let before = blocks.len();
        let (mut found, mut freed) = (false, 0);
        blocks.retain_mut(|block| {
            if block.hash != hash || !lane(block.lane) {
                return true;
            }
            found = true;
            block.copies -= if all { block.copies } else { 1 };
            if block.copies == 0 {
                freed += block.bytes();
            }
            block.copies > 0
        });
        self.len -= before - blocks.len();
        self.bytes -= freed;
        if !blocks.iter().any(|block| block.hash == hash) {
            self.parents.remove(&hash.0);
        }
        if blocks.is_empty() {
            self.waiting.remove(&parent);
        }
        found
    }

    /// Writes what waits, parent by parent; `lane_number` says what a lane is called there.
    pub(super) fn save(&self, frames: &mut FrameWriter, lane_number: impl Fn(u32) -> u64) {
        for (&parent, blocks) in &self.waiting {
            for block in blocks {
                frames.hash(parent);
                frames.hash(block.hash.0);
                frames.number(lane_number(block.lane));
                frames.number(u64::from(block.copies));
                frames.byte(u8::from(self.parents.get(&block.hash.0) == Some(&parent)));
                frames.number(block.token_ids.len() as u64);
                block.token_ids.iter().for_each(|&token| frames.number(u64::from(token)));
                frames.number(block.extra_keys.len() as u64);
                block.extra_keys.iter().for_each(|key| save_extra_key(key, frames));
                frames.next_record();
            }
        }
    }

    /// Lets a block of a snapshot wait behind those that came before; false if there is no room. `is_found`: whether
    /// its name leads here, of all the places where it waits.
    pub(super) fn restore(&mut self, parent: EngineHash, block: ParkedBlock, is_found: bool) -> bool {
        let bytes = block.bytes();
        if self.len == self.max_blocks || self.max_bytes - self.bytes < bytes {
            return false;
        }
        self.len += 1;
        self.bytes += bytes;
        if is_found {
            self.parents.insert(block.hash.0, parent.0);
        }
        self.waiting.entry(parent.0).or_default().push(block);
        true
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.max_blocks, self.max_bytes, self.counts);
    }

    /// Bytes allocated, token ids and keys included.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.waiting.allocation_size() + self.parents.allocation_size()
    }
}

fn save_extra_key(key: &ExtraKey, frames: &mut FrameWriter) {
    match key {
        ExtraKey::Text(text) => {
            frames.byte(0);
            frames.text(text);
        }
        ExtraKey::Multimodal { identifier, offset } => {
            frames.byte(1);
            frames.text(identifier);
            frames.hash(*offset as u64);
        }
        ExtraKey::Bytes(bytes) => {
            frames.byte(2);
            frames.bytes_with_length(bytes);
        }
    }
}
