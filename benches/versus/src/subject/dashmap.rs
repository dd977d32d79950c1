//! A plain concurrent map: what a first version would be.

use std::sync::Barrier;
use std::time::Duration;

use dashmap::DashMap;
use rustc_hash::FxBuildHasher;

use super::{Setup, Shared, Subject};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// Block hash -> a bit for each pod.
#[derive(Debug)]
pub struct DashMapSubject {
    blocks: DashMap<u64, Box<[u64]>, FxBuildHasher>,
    words: usize,
    block_size: usize,
}

/// An event.
#[derive(Debug)]
pub struct Event {
    pod: usize,
    is_store: bool,
    hashes: Vec<u64>,
}

impl DashMapSubject {
    fn apply_one(&self, event: &Event) {
        let (word, bit) = (event.pod / 64, 1 << (event.pod % 64));
        for hash in &event.hashes {
            if event.is_store {
                let entry = self.blocks.entry(*hash);
                entry.or_insert_with(|| vec![0; self.words].into_boxed_slice())[word] |= bit;
            } else {
                self.blocks.remove_if_mut(hash, |_, pods| {
                    pods[word] &= !bit;
                    pods.iter().all(|word| *word == 0)
                });
            }
        }
    }

    fn walk(&self, query: &[u64], mut leave: impl FnMut(usize, u32)) {
        let Some(first) = query.first().and_then(|hash| self.blocks.get(hash)) else { return };
        let mut alive = first.clone();
        drop(first);
        let mut depth = 1;
        for hash in &query[1..] {
            let held = self.blocks.get(hash);
            let mut any = false;
            for (i, word) in alive.iter_mut().enumerate() {
                let kept = *word & held.as_ref().map_or(0, |held| held[i]);
                pods(*word & !kept, i, |pod| leave(pod, depth));
                *word = kept;
                any |= kept != 0;
            }
            if !any {
                return;
            }
            depth += 1;
        }
        alive.iter().enumerate().for_each(|(i, word)| pods(*word, i, |pod| leave(pod, depth)));
    }
}

fn pods(mut bits: u64, word: usize, mut each: impl FnMut(usize)) {
    while bits != 0 {
        each(word * 64 + bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl Subject for DashMapSubject {
    type Event = Event;
    type Query = Vec<u64>;
    type Scratch = ();

    fn new(setup: &Setup) -> Self {
        Self {
            blocks: DashMap::default(),
            words: setup.pods.div_ceil(64),
            block_size: setup.block_size as usize,
        }
    }

    fn event(&self, change: &Change<'_>) -> Event {
        let (is_store, hashes) = match change {
            Change::Store { chain, blocks, .. } => (true, chain.hashes[blocks.clone()].to_vec()),
            Change::Remove { hashes, .. } => (false, hashes.clone()),
        };
        Event { pod: change.pod(), is_store, hashes }
    }

    fn apply(&mut self, events: Vec<Event>) -> Duration {
        cpu(|| events.iter().for_each(|event| self.apply_one(event))).0
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        chain.hashes.clone()
    }

    fn hash(&self, token_ids: &[u32], (): &mut ()) -> Self::Query {
        Chain::new(token_ids.to_vec(), self.block_size).hashes
    }

    fn find(&self, query: &Self::Query, (): &mut ()) -> usize {
        let mut rows = 0;
        self.walk(query, |_, _| rows += 1);
        rows
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        let mut rows = Vec::new();
        self.walk(query, |pod, depth| rows.push((pod, depth)));
        rows.sort_unstable();
        rows
    }
}

impl Shared for DashMapSubject {
    fn write(&self, _: usize, events: Vec<Event>, start: &Barrier) {
        start.wait();
        events.iter().for_each(|event| self.apply_one(event));
    }
}
