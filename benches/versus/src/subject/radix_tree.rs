//! smg-radix-tree 0.1's `RadixTree`: one writer, scratch kept by the caller.

use std::time::Duration;

use kv_index::{compute_content_hash, compute_request_content_hashes};
use radix_tree::{Config, HolderId, Overlap, OverlapScratch, RadixTree};

use super::{Feed, Setup, Subject};
use crate::change::{Chain, Change};
use crate::measure::cpu;

/// The tree with its holders.
pub struct RadixTreeSubject {
    tree: RadixTree,
    holders: Vec<HolderId>,
    setup: Setup,
}

/// An event with the hashes it needs, or with the tokens to make them of.
#[derive(Debug)]
pub enum Event {
    /// Contents hashed before.
    Stored(usize, Option<u64>, Vec<(u64, u64)>),
    /// The engine's names and the token ids.
    Published(usize, Option<u64>, Vec<u64>, Vec<u32>),
    /// The engine's names.
    Removed(usize, Vec<u64>),
}

impl std::fmt::Debug for RadixTreeSubject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RadixTreeSubject").field("holders", &self.holders.len()).finish_non_exhaustive()
    }
}

impl Subject for RadixTreeSubject {
    type Event = Event;
    type Query = Vec<u64>;
    type Scratch = (OverlapScratch, Vec<Overlap>);

    fn new(setup: &Setup) -> Self {
        let mut tree = RadixTree::new(Config::default());
        let holders = (0..setup.pods).map(|n| tree.create_holder(&format!("pod-{n}"))).collect();
        Self { tree, holders, setup: *setup }
    }

    fn event(&self, change: &Change<'_>) -> Event {
        match change {
            Change::Remove { pod, hashes } => Event::Removed(*pod, hashes.clone()),
            Change::Store { pod, chain, blocks } => {
                let parent = blocks.start.checked_sub(1).map(|at| chain.hashes[at]);
                let names = chain.hashes[blocks.clone()].iter().copied();
                if self.setup.feed == Feed::Tokens {
                    let token_ids = chain.tokens(blocks.clone()).to_vec();
                    return Event::Published(*pod, parent, names.collect(), token_ids);
                }
                Event::Stored(
                    *pod,
                    parent,
                    names.zip(chain.contents[blocks.clone()].iter().copied()).collect(),
                )
            }
        }
    }

    fn apply(&mut self, events: Vec<Event>) -> Duration {
        let size = self.setup.block_size as usize;
        cpu(|| {
            for event in &events {
                match event {
                    Event::Stored(pod, parent, blocks) => {
                        self.tree.store(self.holders[*pod], *parent, blocks).expect("parents come first");
                    }
                    Event::Published(pod, parent, names, token_ids) => {
                        let contents =
                            token_ids.chunks_exact(size).map(|tokens| compute_content_hash(tokens).0);
                        let blocks: Vec<_> = names.iter().copied().zip(contents).collect();
                        self.tree.store(self.holders[*pod], *parent, &blocks).expect("parents come first");
                    }
                    Event::Removed(pod, names) => {
                        self.tree.remove(self.holders[*pod], names);
                    }
                }
            }
        })
        .0
    }

    fn query(&self, chain: &Chain) -> Self::Query {
        chain.contents.clone()
    }

    fn hash(&self, token_ids: &[u32], _: &mut Self::Scratch) -> Self::Query {
        let contents = compute_request_content_hashes(token_ids, self.setup.block_size as usize);
        contents.into_iter().map(|content| content.0).collect()
    }

    fn find(&self, query: &Self::Query, (scratch, rows): &mut Self::Scratch) -> usize {
        self.tree.overlap(query, scratch, rows);
        rows.len()
    }

    fn answer(&self, query: &Self::Query) -> Vec<(usize, u32)> {
        let (mut scratch, mut rows) = Self::Scratch::default();
        self.tree.overlap(query, &mut scratch, &mut rows);
        let depth =
            |holder: &HolderId| rows.iter().find(|row| row.holder == *holder).map_or(0, |row| row.depth);
        self.holders.iter().map(depth).enumerate().filter(|(_, depth)| *depth > 0).collect()
    }
}
