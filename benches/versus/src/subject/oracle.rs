//! What is right: a set of blocks a pod. A pod has as many leading blocks of a query as are in its set.

use std::time::Duration;

use rustc_hash::FxHashSet;

use super::{Setup, Subject};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// The sets, by pod.
#[derive(Debug)]
pub struct OracleSubject {
    held: Vec<FxHashSet<u64>>,
    block_size: usize,
}

/// An event.
#[derive(Debug)]
pub struct Event {
    pod: usize,
    is_store: bool,
    hashes: Vec<u64>,
}

impl OracleSubject {
    /// Blocks held, each once a pod.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.held.iter().map(FxHashSet::len).sum()
    }

    /// Whether a pod holds a block.
    #[must_use]
    pub fn holds(&self, pod: usize, hash: u64) -> bool {
        self.held[pod].contains(&hash)
    }
}

impl Subject for OracleSubject {
    type Event = Event;
    type Query = Vec<u64>;
    type Scratch = ();

    fn new(setup: &Setup) -> Self {
        Self { held: vec![FxHashSet::default(); setup.pods], block_size: setup.block_size as usize }
    }

    fn event(&self, change: &Change<'_>) -> Event {
        let (is_store, hashes) = match change {
            Change::Store { chain, blocks, .. } => (true, chain.hashes[blocks.clone()].to_vec()),
            Change::Remove { hashes, .. } => (false, hashes.clone()),
        };
        Event { pod: change.pod(), is_store, hashes }
    }

    fn apply(&mut self, events: Vec<Event>) -> Duration {
        cpu(|| {
            for event in &events {
                let held = &mut self.held[event.pod];
                for hash in &event.hashes {
                    if event.is_store {
                        held.insert(*hash);
                    } else {
                        held.remove(hash);
                    }
                }
            }
        })
        .0
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        chain.hashes.clone()
    }

    fn hash(&self, token_ids: &[u32], (): &mut ()) -> Self::Query {
        Chain::new(token_ids.to_vec(), self.block_size).hashes
    }

    fn find(&self, query: &Self::Query, (): &mut ()) -> usize {
        self.answer(query).len()
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        let depth =
            |held: &FxHashSet<u64>| query.iter().take_while(|hash| held.contains(hash)).count() as u32;
        self.held.iter().map(depth).enumerate().filter(|(_, depth)| *depth > 0).collect()
    }
}
