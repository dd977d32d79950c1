//! Chains of blocks and the changes that engines announce of them, before any subject's own types.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Seed of the content hashes and chains that kvroute, Dynamo and SMG share.
const SEED: u64 = 1337;

/// A chain of blocks.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Token ids; `[blocks * block_size]`.
    pub token_ids: Vec<u32>,
    /// Hash of each block's own tokens; `[blocks]`.
    pub contents: Vec<u64>,
    /// Hash of each block and all before it; `[blocks]`. It is the engine's name for the block, too.
    pub hashes: Vec<u64>,
    block_size: usize,
}

impl Chain {
    /// The chain of these tokens; those after the last whole block are left out.
    #[must_use]
    pub fn new(token_ids: Vec<u32>, block_size: usize) -> Self {
        let mut chain = Self { block_size, ..Self::default() };
        chain.extend(&token_ids);
        chain
    }

    /// Puts the whole blocks of these tokens behind.
    pub fn extend(&mut self, token_ids: &[u32]) {
        for block in token_ids.chunks_exact(self.block_size) {
            self.token_ids.extend_from_slice(block);
            let bytes: Vec<u8> = block.iter().flat_map(|token| token.to_le_bytes()).collect();
            let content = xxh3_64_with_seed(&bytes, SEED);
            let hash = self.hashes.last().map_or(content, |before| {
                xxh3_64_with_seed(&[before.to_le_bytes(), content.to_le_bytes()].concat(), SEED)
            });
            self.contents.push(content);
            self.hashes.push(hash);
        }
    }

    /// Number of blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether it has no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Tokens of some blocks.
    #[must_use]
    pub fn tokens(&self, blocks: Range<usize>) -> &[u32] {
        &self.token_ids[blocks.start * self.block_size..blocks.end * self.block_size]
    }
}

/// What an engine announces.
#[derive(Clone, Debug)]
pub enum Change<'a> {
    /// Some blocks of a chain are there; the engine names the block before them as their parent.
    Store {
        /// Position of the pod.
        pod: usize,
        /// The chain.
        chain: &'a Chain,
        /// Which of its blocks.
        blocks: Range<usize>,
    },
    /// Blocks are gone.
    Remove {
        /// Position of the pod.
        pod: usize,
        /// Their names, in the engine's order.
        hashes: Vec<u64>,
    },
}

impl Change<'_> {
    /// The pod that announces it.
    #[must_use]
    pub fn pod(&self) -> usize {
        match self {
            Self::Store { pod, .. } | Self::Remove { pod, .. } => *pod,
        }
    }

    /// How many blocks it is about.
    #[must_use]
    pub fn blocks(&self) -> usize {
        match self {
            Self::Store { blocks, .. } => blocks.len(),
            Self::Remove { hashes, .. } => hashes.len(),
        }
    }
}

/// The stores of a whole chain by one pod, in events of so many blocks at most.
pub fn stores(
    pod: usize,
    chain: &Chain,
    blocks: Range<usize>,
    most: usize,
) -> impl Iterator<Item = Change<'_>> {
    blocks.clone().step_by(most).map(move |start| Change::Store {
        pod,
        chain,
        blocks: start..(start + most).min(blocks.end),
    })
}

/// The removals of some blocks of a chain by one pod, last first, in events of so many blocks at most.
#[must_use]
pub fn removals<'a>(pod: usize, chain: &Chain, blocks: Range<usize>, most: usize) -> Vec<Change<'a>> {
    let hashes: Vec<u64> = chain.hashes[blocks].iter().rev().copied().collect();
    hashes.chunks(most).map(|piece| Change::Remove { pod, hashes: piece.to_vec() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_hash_like_kvroutes_own_scheme() {
        use kvroute_core::{BlockHasher, HashContext, OwnScheme};
        let token_ids: Vec<u32> = (7..107).collect();
        let hasher = BlockHasher::new(OwnScheme::default(), 16).unwrap();
        let hashes = hasher.hash(&token_ids, &HashContext::default()).unwrap();
        let chain = Chain::new(token_ids, 16);
        assert_eq!(chain.hashes, hashes.iter().map(|hash| hash.0).collect::<Vec<_>>());
        assert_eq!(chain.tokens(5..6), (87..103).collect::<Vec<u32>>());
    }

    #[test]
    fn events_cut_a_chain_without_a_gap_and_removals_begin_at_its_end() {
        let chain = Chain::new((0..160).collect(), 16);
        let stored: Vec<_> = stores(0, &chain, 1..10, 4).collect();
        let ranges: Vec<_> = stored
            .iter()
            .map(|change| match change {
                Change::Store { blocks, .. } => blocks.clone(),
                Change::Remove { .. } => unreachable!(),
            })
            .collect();
        assert_eq!(ranges, [1..5, 5..9, 9..10]);
        let Change::Remove { hashes, .. } = &removals(0, &chain, 1..10, 4)[0] else { unreachable!() };
        assert_eq!(*hashes, [9, 8, 7, 6].map(|i| chain.hashes[i]));
    }
}
