//! What this router sent to a pod a moment ago, and that its events cannot tell of yet.
//!
//! A lane of its own in the forest of runs. A speculation covers its prompt's blocks until it ends, and many may cover
//! the same ones: requests with one new prefix come in bursts. So the lane holds the union of those that have not
//! ended: of each run the farthest offset that any of them reaches, and they are counted by the offset they reach.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use hashbrown::HashMap;

use super::chains::Chains;
use super::predicted::Path;
use super::run::RunId;
use crate::BlockHash;

/// Names what one request was expected to bring, so that it can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speculation(u64);

/// A run, and up to which offset it is covered.
type Reach = (u32, usize);

#[derive(Debug)]
pub(super) struct Speculations {
    capacity: usize,
    /// Its column of the index, once it has one.
    pub(super) lane: Option<u32>,
    blocks: usize,
    /// Number of the next.
    next: u64,
    /// Number -> the runs its prompt leads through; those that have not ended.
    live: HashMap<u64, Box<[Reach]>>,
    /// Run -> offsets, ascending, with how many reach so far.
    reaches: HashMap<u32, Vec<(usize, u32)>>,
    /// When they end, soonest first, with some that ended before.
    due: VecDeque<(Duration, u64)>,
}

impl Speculations {
    /// At most `capacity` blocks; those that would end first go first.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            lane: None,
            blocks: 0,
            next: 0,
            live: HashMap::new(),
            reaches: HashMap::new(),
            due: VecDeque::new(),
        }
    }

    /// Expects a prompt of these blocks until `end`; `[n]`, of which the first `capacity` count. Their keys are the
    /// hashes xored with `salt`. At the index's memory bound only what fits is expected.
    pub(super) fn record(
        &mut self,
        chains: &Chains,
        lane: u32,
        blocks: &[BlockHash],
        salt: u64,
        end: Duration,
    ) -> Speculation {
        let counted = &blocks[..blocks.len().min(self.capacity)];
        let keys: Vec<u64> = counted.iter().map(|block| block.0 ^ salt).collect();
        let (mut path, mut held_before) = (Path::default(), 0);
        path.held = chains.store(lane, None, &keys, &mut path, |_| held_before += 1).held;
        self.blocks += path.held - held_before;
        for &(run, reach) in &path.runs {
            let reaches = self.reaches.entry(run).or_default();
            match reaches.binary_search_by_key(&reach, |(offset, _)| *offset) {
                Ok(at) => reaches[at].1 += 1,
                Err(at) => reaches.insert(at, (reach, 1)),
            }
        }
        let number = self.next;
        self.next += 1;
        self.live.insert(number, path.runs.into());
        // Nearly always the last: time goes forward, and all last equally long.
        let at = self.due.partition_point(|(other, _)| *other <= end);
        self.due.insert(at, (end, number));
        while self.blocks > self.capacity
            && let Some((_, first)) = self.due.pop_front()
        {
            self.take_back(chains, first);
        }
        Speculation(number)
    }

    /// Drops those that end by `now`; answers when the next does.
    pub(super) fn expire(&mut self, chains: &Chains, now: Duration) -> Option<Duration> {
        while let Some((_, number)) = self.due.pop_front_if(|(end, _)| *end <= now) {
            self.take_back(chains, number);
        }
        self.due.front().map(|(end, _)| *end)
    }

    /// Drops one before its end.
    pub(super) fn end(&mut self, chains: &Chains, speculation: Speculation) {
        self.take_back(chains, speculation.0);
        // Others that ended out of order stay until their time, and do nothing.
        while self.due.pop_front_if(|(_, number)| !self.live.contains_key(number)).is_some() {}
    }

    fn take_back(&mut self, chains: &Chains, number: u64) {
        let (Some(path), Some(lane)) = (self.live.remove(&number), self.lane) else { return };
        // From the end of the prompt, so that each run goes before the one it hangs off.
        for &(run, reach) in path.iter().rev() {
            let Some(reaches) = self.reaches.get_mut(&run) else { continue };
            if let Ok(at) = reaches.binary_search_by_key(&reach, |(offset, _)| *offset) {
                reaches[at].1 -= 1;
                if reaches[at].1 == 0 {
                    reaches.remove(at);
                }
            }
            let farthest = reaches.last().map_or(0, |(offset, _)| *offset);
            if farthest == 0 {
                self.reaches.remove(&run);
            }
            if farthest < reach {
                chains.remove_range(lane, RunId(run), farthest..reach);
                self.blocks -= reach - farthest;
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, chains: &Chains) {
        if let Some(lane) = self.lane {
            for &run in self.reaches.keys() {
                chains.remove_run(lane, RunId(run));
            }
        }
        let (capacity, lane, next) = (self.capacity, self.lane, self.next);
        *self = Self { lane, next, ..Self::new(capacity) };
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let paths: usize = self.live.values().map(|path| size_of_val(&**path)).sum();
        let reaches: usize = self.reaches.values().map(|r| r.capacity() * size_of::<(usize, u32)>()).sum();
        let due = self.due.capacity() * size_of::<(Duration, u64)>();
        self.live.allocation_size() + paths + self.reaches.allocation_size() + reaches + due
    }
}
