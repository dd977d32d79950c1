//! dynamo-kv-router 1.6's `RadixTree`: one thread for everything. Also the events that both of Dynamo's trees take.

use std::time::Duration;

use dynamo_kv_router::RouterEvent;
use dynamo_kv_router::indexer::RadixTree;
use dynamo_kv_router::protocols::{
    BlockHashOptions, ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData,
    KvCacheStoreData, KvCacheStoredBlockData, LocalBlockHash, WorkerWithDpRank, compute_block_hash_for_seq,
};
use dynamo_kv_router::zmq_wire::{ZmqEventNormalizer, decode_event_batch};

use super::{Feed, Setup, Subject, Wire};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// An event with the hashes it needs, or with the tokens to make them of.
#[derive(Debug)]
pub enum Event {
    /// Contents hashed before.
    Ready(RouterEvent),
    /// Contents to be hashed, of these tokens.
    Published {
        /// Position of the pod.
        pod: usize,
        /// The block before.
        parent: Option<u64>,
        /// The engine's names.
        names: Vec<u64>,
        /// `[names * block_size]`.
        token_ids: Vec<u32>,
    },
}

fn stored(
    pod: usize,
    parent: Option<u64>,
    names: &[u64],
    contents: impl Iterator<Item = u64>,
) -> RouterEvent {
    let block = |(&name, content)| KvCacheStoredBlockData {
        block_hash: ExternalSequenceBlockHash(name),
        tokens_hash: LocalBlockHash(content),
        mm_extra_info: None,
    };
    let data = KvCacheEventData::Stored(KvCacheStoreData {
        parent_hash: parent.map(ExternalSequenceBlockHash),
        start_position: None,
        blocks: names.iter().zip(contents).map(block).collect(),
    });
    RouterEvent::new(pod as u64, KvCacheEvent { event_id: 0, data, dp_rank: 0 })
}

/// A change in Dynamo's form.
pub(super) fn event(setup: &Setup, change: &Change<'_>) -> Event {
    match change {
        Change::Remove { pod, hashes } => {
            let block_hashes = hashes.iter().map(|&hash| ExternalSequenceBlockHash(hash)).collect();
            let data = KvCacheEventData::Removed(KvCacheRemoveData { block_hashes });
            Event::Ready(RouterEvent::new(*pod as u64, KvCacheEvent { event_id: 0, data, dp_rank: 0 }))
        }
        Change::Store { pod, chain, blocks } => {
            let parent = blocks.start.checked_sub(1).map(|at| chain.hashes[at]);
            let names = &chain.hashes[blocks.clone()];
            if setup.feed == Feed::Tokens {
                let token_ids = chain.tokens(blocks.clone()).to_vec();
                return Event::Published { pod: *pod, parent, names: names.to_vec(), token_ids };
            }
            Event::Ready(stored(*pod, parent, names, chain.contents[blocks.clone()].iter().copied()))
        }
    }
}

/// The event for the tree; hashes what is not hashed yet.
pub(super) fn ready(setup: &Setup, event: Event) -> RouterEvent {
    match event {
        Event::Ready(event) => event,
        Event::Published { pod, parent, names, token_ids } => {
            stored(pod, parent, &names, hashes(setup, &token_ids).into_iter().map(|hash| hash.0))
        }
    }
}

/// Block hashes of a prompt.
pub(super) fn hashes(setup: &Setup, token_ids: &[u32]) -> Vec<LocalBlockHash> {
    compute_block_hash_for_seq(token_ids, setup.block_size, BlockHashOptions::default())
}

/// Block hashes of a chain.
pub(super) fn query(chain: &Chain) -> Vec<LocalBlockHash> {
    chain.contents.iter().map(|&content| LocalBlockHash(content)).collect()
}

/// A published batch as the events it stands for.
pub(super) fn decoded(
    normalizer: &mut ZmqEventNormalizer,
    pod: usize,
    number: u64,
    payload: &[u8],
) -> Vec<RouterEvent> {
    let batch = decode_event_batch(payload).expect("a batch of ours");
    let worker = WorkerWithDpRank::new(pod as u64, 0);
    let events = batch.events.into_iter();
    events.filter_map(|raw| normalizer.normalize(raw, number, worker)?.into_router_event()).collect()
}

/// Rows of a result, in order of pods.
pub(super) fn rows(scores: impl Iterator<Item = (WorkerWithDpRank, u32)>) -> Vec<(usize, u32)> {
    let mut rows: Vec<_> = scores.map(|(worker, depth)| (worker.worker_id as usize, depth)).collect();
    rows.retain(|row| row.1 > 0);
    rows.sort_unstable();
    rows
}

/// The tree.
pub struct DynamoTreeSubject {
    tree: RadixTree,
    setup: Setup,
}

impl std::fmt::Debug for DynamoTreeSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DynamoTreeSubject").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Subject for DynamoTreeSubject {
    type Event = Event;
    type Query = Vec<LocalBlockHash>;
    type Scratch = ();

    fn new(setup: &Setup) -> Self {
        Self { tree: RadixTree::new(), setup: *setup }
    }

    fn event(&self, change: &Change<'_>) -> Event {
        event(&self.setup, change)
    }

    fn apply(&mut self, events: Vec<Event>) -> Duration {
        cpu(|| {
            for event in events {
                // A block that went with one before it is answered as not found, which is its way.
                let _ = self.tree.apply_event(ready(&self.setup, event));
            }
        })
        .0
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        query(chain)
    }

    fn hash(&self, token_ids: &[u32], (): &mut ()) -> Self::Query {
        hashes(&self.setup, token_ids)
    }

    fn find(&self, query: &Self::Query, (): &mut ()) -> usize {
        self.find_once(query.clone(), &mut ())
    }

    fn find_once(&self, query: Self::Query, (): &mut ()) -> usize {
        self.tree.find_matches(query, false).scores.len()
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        rows(self.tree.find_matches(query.clone(), false).scores.into_iter())
    }
}

impl Wire for DynamoTreeSubject {
    fn apply_published(&mut self, batches: &[(usize, u64, Vec<u8>)]) -> Duration {
        let mut normalizer = ZmqEventNormalizer::new(self.setup.block_size);
        cpu(|| {
            for (pod, number, payload) in batches {
                for event in decoded(&mut normalizer, *pod, *number, payload) {
                    let _ = self.tree.apply_event(event);
                }
            }
        })
        .0
    }
}
