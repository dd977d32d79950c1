//! What caching could save at most.

use hashbrown::HashSet;
use kvroute_core::hash::BlockHasher;
use kvroute_core::{BlockHash, OwnScheme};

use crate::workload::{FleetRequest, answer};

/// One cache of unlimited size that all pods share and that has every request's blocks, generated tokens
/// included, the moment it arrives: a bound on the hit rate of any policy, not a policy. All requests count as of one
/// model, whatever name they ask for.
#[derive(Debug)]
pub struct InfiniteCache {
    hasher: BlockHasher,
    held: HashSet<BlockHash>,
    hashes: Vec<BlockHash>,
}

impl InfiniteCache {
    /// An empty one with blocks of so many tokens.
    ///
    /// # Errors
    ///
    /// For a block size that no hasher takes.
    pub fn new(block_size: u32) -> Result<Self, kvroute_core::Error> {
        let hasher = BlockHasher::new(OwnScheme::default(), block_size)?;
        Ok(Self { hasher, held: HashSet::new(), hashes: Vec::new() })
    }

    /// A request arrives: how many tokens of its prompt are cached; never the last one, which an engine always
    /// computes. Then its blocks and those of its answer are there.
    pub fn arrive(&mut self, request: &FleetRequest) -> usize {
        let Self { hasher, held, hashes } = self;
        let block_size = hasher.block_size() as usize;
        let prompt = request.token_ids.len();
        let mut token_ids = request.token_ids.to_vec();
        // The last token of the answer is never computed.
        token_ids.extend((0..request.output_tokens.saturating_sub(1)).map(|n| answer(request.id, n)));
        if hasher.hash_into(&token_ids, &request.context, hashes).is_err() {
            return 0;
        }
        let usable = prompt.saturating_sub(1) / block_size;
        let cached = hashes.iter().take(usable).take_while(|&hash| held.contains(hash)).count();
        held.extend(hashes[cached..].iter().copied());
        cached * block_size
    }

    /// Share of the prompt tokens that are cached, of requests in order of arrival, without the first
    /// `left_out` of them.
    #[must_use]
    pub fn share(mut self, requests: &[FleetRequest], left_out: usize) -> f64 {
        let (mut cached, mut prompt) = (0, 0);
        for (place, request) in requests.iter().enumerate() {
            let hit = self.arrive(request);
            if place >= left_out {
                cached += hit;
                prompt += request.token_ids.len();
            }
        }
        cached as f64 / (prompt as f64).max(1.0)
    }
}
