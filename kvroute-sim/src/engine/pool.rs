//! The block pool: `BlockPool` and `FreeKVCacheBlockQueue` of vLLM 0.32 (`vllm/v1/core/block_pool.py`,
//! `vllm/v1/core/kv_cache_utils.py`).
//!
//! A block is free while no request uses it; free blocks stand in a queue from which new ones are taken.
//! What a free block holds stays cached until it is taken. Blocks are not deduplicated: one hash may lie
//! in several.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use kvroute_core::BlockHash;

use super::events::{EventLog, FullHash};
use super::request::Request;

/// The null block: never handed out, so its links are the ends of the queue of free blocks.
const NULL: u32 = 0;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// Of what it caches.
    hash: Option<BlockHash>,
    /// Requests that use it.
    users: u32,
    /// Neighbours in the queue of free blocks; meaningful while it is free.
    previous: u32,
    next: u32,
}

/// The blocks that hold one hash, in the order in which they came to.
#[derive(Debug)]
enum Copies {
    One(u32),
    /// Two or more, or what is left of them.
    Many(Vec<u32>),
}

/// All blocks, which of them are free, and what they cache.
#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<Block>,
    /// Full hashes of the blocks, when those are published.
    full_hashes: Vec<Option<FullHash>>,
    free: usize,
    cached: HashMap<BlockHash, Copies>,
}

impl BlockPool {
    /// A pool of `count` blocks, at least two, all of them free but the null block.
    pub(super) fn new(count: u32, int_hashes: bool) -> Self {
        let link = |number: u32| Block {
            previous: number.checked_sub(1).unwrap_or(count - 1),
            next: if number + 1 == count { NULL } else { number + 1 },
            ..Block::default()
        };
        Self {
            blocks: (0..count).map(link).collect(),
            full_hashes: if int_hashes { Vec::new() } else { vec![None; count as usize] },
            free: count as usize - 1,
            cached: HashMap::new(),
        }
    }

    /// Blocks that no request uses.
    pub(super) fn free_count(&self) -> usize {
        self.free
    }

    /// Share of the blocks that requests use (`get_usage`).
    pub(super) fn usage(&self) -> f64 {
        1.0 - self.free as f64 / (self.blocks.len() - 1) as f64
    }

    /// The block that a request with this hash would use: the oldest copy (`get_cached_block`).
    pub(super) fn cached(&self, hash: BlockHash) -> Option<u32> {
        self.cached.get(&hash).map(|copies| match copies {
            Copies::One(number) => *number,
            Copies::Many(numbers) => numbers[0],
        })
    }

    pub(super) fn is_free(&self, number: u32) -> bool {
        self.blocks[number as usize].users == 0
    }

    /// Takes `count` blocks from the front of the queue, which must have as many, and appends them to
    /// `out`; what they cached is evicted, one event each (`get_new_blocks`).
    pub(super) fn take(&mut self, count: usize, out: &mut Vec<u32>, log: &mut EventLog) {
        for _ in 0..count {
            let number = self.blocks[NULL as usize].next;
            self.unlink(number);
            self.evict(number, log);
            self.blocks[number as usize].users = 1;
            out.push(number);
        }
    }

    /// One more request uses the block (`touch`).
    pub(super) fn touch(&mut self, number: u32) {
        if self.is_free(number) {
            self.unlink(number);
        }
        self.blocks[number as usize].users += 1;
    }

    /// A request gives its blocks back, in the order of its table. They are queued from the last to the
    /// first, so that the tail is evicted before the head; those that cache nothing go to the front of
    /// the queue, to be used again at once (`free_blocks`).
    pub(super) fn release(&mut self, numbers: &[u32]) {
        let mut front = NULL;
        for &number in numbers.iter().rev() {
            let block = &mut self.blocks[number as usize];
            block.users -= 1;
            if block.users > 0 {
                continue;
            }
            if block.hash.is_none() {
                self.link_after(front, number);
                front = number;
            } else {
                self.link_after(self.blocks[NULL as usize].previous, number);
            }
        }
    }

    /// Blocks `from..to` of the request's table, full and hashed, can be found from now on
    /// (`cache_full_blocks`).
    pub(super) fn cache(&mut self, request: &Request, from: usize, to: usize, log: &mut EventLog) {
        for at in from..to {
            let (number, hash) = (request.blocks[at], request.hashes[at]);
            self.blocks[number as usize].hash = Some(hash);
            if let Some(full) = self.full_hashes.get_mut(number as usize) {
                *full = request.full_hashes.get(at).copied();
            }
            match self.cached.entry(hash) {
                Entry::Vacant(entry) => {
                    entry.insert(Copies::One(number));
                }
                Entry::Occupied(mut entry) => match entry.get_mut() {
                    Copies::One(first) => {
                        let both = vec![*first, number];
                        entry.insert(Copies::Many(both));
                    }
                    Copies::Many(numbers) => numbers.push(number),
                },
            }
        }
        log.stored(request, from, to);
    }

    /// Drops everything cached, if no request uses a block (`reset_prefix_cache`). Says whether it did.
    pub(super) fn reset(&mut self, log: &mut EventLog) -> bool {
        if self.free + 1 != self.blocks.len() {
            return false;
        }
        self.cached.clear();
        self.blocks.iter_mut().for_each(|block| block.hash = None);
        log.cleared();
        true
    }

    /// Forgets what a block caches (`_maybe_evict_cached_block`).
    fn evict(&mut self, number: u32, log: &mut EventLog) {
        let Some(hash) = self.blocks[number as usize].hash.take() else { return };
        if let Entry::Occupied(mut entry) = self.cached.entry(hash) {
            let is_last = match entry.get_mut() {
                Copies::One(_) => true,
                Copies::Many(numbers) => {
                    numbers.retain(|&other| other != number);
                    numbers.is_empty()
                }
            };
            if is_last {
                entry.remove();
            }
        }
        let full = self.full_hashes.get(number as usize).and_then(Option::as_ref);
        log.removed(hash, full);
    }

    fn unlink(&mut self, number: u32) {
        let Block { previous, next, .. } = self.blocks[number as usize];
        self.blocks[previous as usize].next = next;
        self.blocks[next as usize].previous = previous;
        self.free -= 1;
    }

    fn link_after(&mut self, previous: u32, number: u32) {
        let next = self.blocks[previous as usize].next;
        self.blocks[number as usize].previous = previous;
        self.blocks[number as usize].next = next;
        self.blocks[previous as usize].next = number;
        self.blocks[next as usize].previous = number;
        self.free += 1;
    }
}
