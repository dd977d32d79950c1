//! Which blocks a request uses: `KVCacheManager` of vLLM 0.32 (`vllm/v1/core/kv_cache_manager.py`) for
//! one group of full attention, with what it calls of `UnitaryKVCacheCoordinator` and
//! `FullAttentionManager`.

use kvroute_core::BlockHash;
use kvroute_core::hash::BlockHasher;

use super::events::EventLog;
use super::options::{EngineError, EngineOptions};
use super::pool::BlockPool;
use super::request::Request;

/// What [`KvCache::allocate`] is asked for; the default asks for nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Demand<'a> {
    /// Tokens that the step computes.
    pub(super) new_tokens: usize,
    /// Blocks that a lookup found, if the request has none yet.
    pub(super) hits: &'a [u32],
    /// Tokens behind the hits whose KV comes by transfer. They are not cached before it has come.
    pub(super) transferred_tokens: usize,
    /// Whether the request is about to be admitted: then all its tokens must fit, not only this step's.
    pub(super) is_admission: bool,
    /// Blocks to leave free if the request is to be admitted.
    pub(super) watermark: usize,
}

/// The pool, and the rules by which requests get blocks of it.
#[derive(Debug)]
pub(super) struct KvCache {
    pub(super) pool: BlockPool,
    pub(super) log: EventLog,
    hasher: BlockHasher,
    block_size: usize,
    model_len: usize,
    int_hashes: bool,
}

impl KvCache {
    pub(super) fn new(options: &EngineOptions) -> Result<Self, EngineError> {
        let block_size = options.block_size as usize;
        Ok(Self {
            pool: BlockPool::new(options.num_blocks, options.int_hashes),
            log: EventLog::new(block_size, options.events, options.dp_rank),
            hasher: BlockHasher::new(options.scheme.clone(), options.block_size)?,
            block_size,
            model_len: options.model_len(),
            int_hashes: options.int_hashes,
        })
    }

    pub(super) fn hasher(&self) -> &BlockHasher {
        &self.hasher
    }

    /// Hashes what became full. A block that cannot be hashed, and all behind it, is never cached;
    /// requests of that kind are refused when their prompt has such a block.
    pub(super) fn hash(&self, request: &mut Request) -> Result<(), kvroute_core::Error> {
        request.hash_full_blocks(&self.hasher, self.int_hashes)
    }

    /// How many blocks of a prompt may come from the cache: at least its last token is computed. The cut
    /// comes before the search (`get_computed_blocks`).
    pub(super) fn usable_blocks(&self, tokens: usize) -> usize {
        tokens.saturating_sub(1) / self.block_size
    }

    /// Puts the leading blocks that the pool holds into `hits` (`get_computed_blocks`).
    pub(super) fn lookup(&self, request: &mut Request, hits: &mut Vec<u32>) {
        // An error leaves the hashes that there are.
        let _ = self.hash(request);
        let usable = self.usable_blocks(request.tokens.len());
        let hashes = request.hashes.iter().take(usable);
        hits.clear();
        hits.extend(hashes.map_while(|&hash| self.pool.cached(hash)));
    }

    /// Gives the request blocks for all its tokens up to those of this step, and caches the ones that the
    /// step fills. Without enough free blocks it changes nothing and says `false` (`allocate_slots`).
    pub(super) fn allocate(&mut self, request: &mut Request, demand: Demand<'_>) -> bool {
        let Demand { new_tokens, hits, transferred_tokens, is_admission, watermark } = demand;
        let local = request.computed + hits.len() * self.block_size;
        let total = (local + transferred_tokens).min(self.model_len);
        // A hit that is free now will not be, once the request uses it: it counts as taken
        // (`get_num_blocks_to_allocate`).
        let idle_hits = hits.iter().filter(|&&number| self.pool.is_free(number)).count();
        let have = request.blocks.len() + hits.len();
        let required =
            |tokens: usize| tokens.div_ceil(self.block_size).saturating_sub(have) + idle_hits + watermark;
        let free = self.pool.free_count();
        if is_admission && required(request.tokens.len().min(self.model_len)) > free {
            return false;
        }
        let slots = (total + new_tokens).min(self.model_len);
        if required(slots) > free {
            return false;
        }
        if !hits.is_empty() {
            hits.iter().for_each(|&number| self.pool.touch(number));
            request.blocks.extend_from_slice(hits);
            request.cached_blocks = hits.len();
        }
        let missing = slots.div_ceil(self.block_size).saturating_sub(request.blocks.len());
        self.pool.take(missing, &mut request.blocks, &mut self.log);
        if transferred_tokens == 0 {
            self.cache(request, (total + new_tokens).min(request.tokens.len()));
        }
        true
    }

    /// Caches the blocks that the first `tokens` tokens fill, those that are not cached yet: one event
    /// (`cache_blocks`). They can be found from now on, though the step that computes them is not done.
    pub(super) fn cache(&mut self, request: &mut Request, tokens: usize) {
        if tokens / self.block_size > request.hashes.len() {
            let _ = self.hash(request);
        }
        let full = (tokens / self.block_size).min(request.hashes.len());
        if full > request.cached_blocks {
            self.pool.cache(request, request.cached_blocks, full, &mut self.log);
            request.cached_blocks = full;
        }
    }

    /// Takes the request's blocks from it (`free`).
    pub(super) fn release(&mut self, request: &mut Request) {
        self.pool.release(&request.blocks);
        request.blocks.clear();
        request.cached_blocks = 0;
    }

    /// Leading blocks of which `holds` is true, of those that may come from the cache. Hashes no more
    /// than a little beyond them.
    pub(super) fn leading(
        &self,
        token_ids: &[u32],
        context: &kvroute_core::HashContext,
        holds: impl Fn(BlockHash) -> bool,
    ) -> Result<usize, kvroute_core::Error> {
        const AT_ONCE: usize = 64;
        let usable = &token_ids[..self.usable_blocks(token_ids.len()) * self.block_size];
        let mut cursor = self.hasher.start(context)?;
        let mut hashes = Vec::with_capacity(AT_ONCE);
        let mut leading = 0;
        loop {
            hashes.clear();
            let count = self.hasher.extend(&mut cursor, usable, context, AT_ONCE, &mut hashes)?;
            let held = hashes.iter().take_while(|&&hash| holds(hash)).count();
            leading += held;
            if held < count || count < AT_ONCE {
                return Ok(leading);
            }
        }
    }
}
