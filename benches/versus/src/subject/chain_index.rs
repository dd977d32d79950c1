//! kv-index 2.0's `ChainIndex`: exact, lock-free to read; its caller keeps a map of blocks for each worker.

use std::sync::{Barrier, Mutex};
use std::time::Duration;

use kv_index::{
    ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock, compute_content_hash,
    compute_request_content_hashes,
};

use super::{Feed, Setup, Shared, Subject};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// The index with its workers.
pub struct ChainIndexSubject {
    index: ChainIndex,
    workers: Vec<u32>,
    /// Of each worker; whoever applies its events holds the lock, which nobody else wants.
    maps: Vec<Mutex<ChainBlockMap>>,
    setup: Setup,
}

/// An event with the hashes it needs, or with the tokens to make them of.
#[derive(Debug)]
pub enum Event {
    /// Contents hashed before.
    Stored {
        /// Its pod.
        pod: usize,
        /// The block before.
        parent: Option<SequenceHash>,
        /// The blocks.
        blocks: Vec<StoredBlock>,
    },
    /// Contents to be hashed.
    Published {
        /// Its pod.
        pod: usize,
        /// The block before.
        parent: Option<SequenceHash>,
        /// The engine's names.
        names: Vec<SequenceHash>,
        /// `[names * block_size]`.
        token_ids: Vec<u32>,
    },
    /// Blocks to be forgotten.
    Removed {
        /// Its pod.
        pod: usize,
        /// The engine's names.
        names: Vec<SequenceHash>,
    },
}

impl Event {
    fn pod(&self) -> usize {
        match self {
            Self::Stored { pod, .. } | Self::Published { pod, .. } | Self::Removed { pod, .. } => *pod,
        }
    }
}

impl std::fmt::Debug for ChainIndexSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainIndexSubject").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl ChainIndexSubject {
    fn apply_one(&self, event: &Event, map: &mut ChainBlockMap) {
        let worker = self.workers[event.pod()];
        match event {
            Event::Stored { parent, blocks, .. } => {
                self.index.apply_stored(worker, blocks, *parent, map).expect("parents come first");
            }
            Event::Published { parent, names, token_ids, .. } => {
                let contents =
                    token_ids.chunks_exact(self.setup.block_size as usize).map(compute_content_hash);
                let block = |(&seq_hash, content_hash)| StoredBlock { seq_hash, content_hash };
                let blocks: Vec<_> = names.iter().zip(contents).map(block).collect();
                self.index.apply_stored(worker, &blocks, *parent, map).expect("parents come first");
            }
            Event::Removed { names, .. } => self.index.apply_removed(worker, names, map),
        }
    }
}

impl Subject for ChainIndexSubject {
    type Event = Event;
    type Query = Vec<ContentHash>;
    type Scratch = ();

    fn new(setup: &Setup) -> Self {
        let index = ChainIndex::with_max_workers(setup.pods);
        let worker = |n| index.intern_worker(&format!("pod-{n}")).expect("fewer than its most");
        let workers = (0..setup.pods).map(worker).collect();
        let maps = (0..setup.pods).map(|_| Mutex::default()).collect();
        Self { index, workers, maps, setup: *setup }
    }

    fn event(&self, change: &Change<'_>) -> Event {
        match change {
            Change::Remove { pod, hashes } => {
                Event::Removed { pod: *pod, names: hashes.iter().map(|&hash| SequenceHash(hash)).collect() }
            }
            Change::Store { pod, chain, blocks } => {
                let (pod, parent) =
                    (*pod, blocks.start.checked_sub(1).map(|at| SequenceHash(chain.hashes[at])));
                let names = chain.hashes[blocks.clone()].iter().map(|&hash| SequenceHash(hash));
                if self.setup.feed == Feed::Tokens {
                    let token_ids = chain.tokens(blocks.clone()).to_vec();
                    return Event::Published { pod, parent, names: names.collect(), token_ids };
                }
                let contents = chain.contents[blocks.clone()].iter().map(|&content| ContentHash(content));
                let block = |(seq_hash, content_hash)| StoredBlock { seq_hash, content_hash };
                Event::Stored { pod, parent, blocks: names.zip(contents).map(block).collect() }
            }
        }
    }

    fn apply(&mut self, events: Vec<Event>) -> Duration {
        let mut maps = std::mem::take(&mut self.maps);
        let (time, ()) = cpu(|| {
            for event in &events {
                let map = maps[event.pod()].get_mut().expect("nobody panicked");
                self.apply_one(event, map);
            }
        });
        self.maps = maps;
        time
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        chain.contents.iter().map(|&content| ContentHash(content)).collect()
    }

    fn hash(&self, token_ids: &[u32], (): &mut ()) -> Self::Query {
        compute_request_content_hashes(token_ids, self.setup.block_size as usize)
    }

    fn find(&self, query: &Self::Query, (): &mut ()) -> usize {
        let (mut rows, mut best) = (0, 0);
        self.index.score_into(
            query,
            |content| content.0,
            false,
            |_, depth| {
                rows += 1;
                best = best.max(depth);
            },
        );
        std::hint::black_box(best);
        rows
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        let scores = self.index.find_matches(query, false).scores;
        let depth = |worker| scores.get(worker).copied().unwrap_or(0);
        self.workers.iter().map(depth).enumerate().filter(|(_, depth)| *depth > 0).collect()
    }
}

impl Shared for ChainIndexSubject {
    fn write(&self, _: usize, events: Vec<Event>, start: &Barrier) {
        start.wait();
        for event in &events {
            let mut map = self.maps[event.pod()].lock().expect("nobody panicked");
            self.apply_one(event, &mut map);
        }
    }
}
