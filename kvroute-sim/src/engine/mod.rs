//! A simulated engine: it keeps, evicts and announces KV blocks as vLLM 0.32 does, without a model and
//! without a clock.
//!
//! Data in: requests ([`Engine::add_request`]) and the tokens they "sample". Data out: what each step
//! computes ([`Step`]), the tokens, and the payload of each batch of events, byte for byte what a vLLM
//! pod sends. Everything that decides about blocks follows vLLM v1's source, file by file: `pool` is its
//! block pool, `cache` the KV-cache manager, `scheduler` the scheduler. `tests/engine_vllm.rs` compares
//! all of it with what vLLM 0.32's own classes did.
//!
//! # A step
//!
//! ```
//! use kvroute_sim::engine::{Engine, EngineOptions, EngineRequest};
//!
//! let mut engine = Engine::new(EngineOptions::default())?;
//! engine.add_request(EngineRequest {
//!     id: 1,
//!     token_ids: (0..40).collect(),
//!     max_tokens: 2,
//!     ..EngineRequest::default()
//! })?;
//! let (mut now, mut batches) = (0.0, Vec::new());
//! while let Some(step) = engine.begin_step() {
//!     now += 1e-4 * step.new_tokens() as f64;
//!     let result = engine.end_step(now, |_id| 7);
//!     batches.extend(result.batch);
//! }
//! assert_eq!(batches.len(), 1, "the prompt's two full blocks; the answer filled none");
//! assert_eq!(engine.cached_tokens(&(0..40).collect::<Vec<_>>(), &Default::default())?, 32);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A block is cached, and usable by the next request, when the step that fills it is planned; its event
//! leaves when that step ends. So [`Engine::cached_tokens`] runs ahead of [`Engine::announced_tokens`].
//!
//! # What is not simulated
//!
//! Hybrid models, speculative decoding, priorities, a limit of adapters per step, stop tokens, session
//! ids, `kv_cache_report_mode=full`, asynchronous scheduling (where the next step is planned before the
//! tokens of this one are known), and a prefill pod that keeps a finished request's blocks until they were
//! read. Blocks are told apart by the low 64 bits of their hashes.

mod cache;
mod events;
mod options;
mod pool;
mod request;
mod scheduler;
mod step;
#[cfg(test)]
mod tests;
mod tokens;

use kvroute_core::hash::BlockHasher;
use kvroute_core::{BlockHash, HashContext};

pub use options::{EngineError, EngineOptions};
pub use request::EngineRequest;
pub use step::{Admitted, Loading, Scheduled, Step, StepResult, Token};
pub use tokens::TokenIds;

use cache::KvCache;
use request::{Request, Requests, State};
use scheduler::Scheduler;

/// Sums since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Tokens of all requests that were admitted, `vllm:prefix_cache_queries`. Requests that come back
    /// after a preemption are not counted again.
    pub prefix_queries: u64,
    /// Those of them that the pod's own cache held, `vllm:prefix_cache_hits`.
    pub prefix_hits: u64,
    /// Times a running request lost its blocks, `vllm:num_preemptions`.
    pub preemptions: u64,
}

/// One pod's engine.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
    cache: KvCache,
    requests: Requests,
    scheduler: Scheduler,
}

impl Engine {
    /// An engine with an empty cache.
    ///
    /// # Errors
    ///
    /// Those of [`EngineOptions::check`].
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        options.check()?;
        let cache = KvCache::new(&options)?;
        let scheduler = Scheduler::new(&options);
        Ok(Self { options, cache, requests: Requests::default(), scheduler })
    }

    /// What it was made with.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Hashes blocks as this engine does; engines with the same scheme and block size agree.
    #[must_use]
    pub fn hasher(&self) -> &BlockHasher {
        self.cache.hasher()
    }

    /// Takes a request into the waiting queue. Its prompt is hashed here.
    ///
    /// # Errors
    ///
    /// [`EngineError::Request`] for an empty prompt, one that leaves no room for an answer, an answer of
    /// no tokens, or an id that is in use; [`EngineError::Hash`] if the prompt cannot be hashed in its
    /// context.
    pub fn add_request(&mut self, request: EngineRequest) -> Result<(), EngineError> {
        let EngineRequest { id, token_ids, context, max_tokens, transferred } = request;
        let longest = self.options.model_len() - 1;
        let problem = if token_ids.is_empty() {
            format!("{id} has an empty prompt")
        } else if token_ids.len() > longest {
            format!("{id} has a prompt of {} tokens; {longest} fit", token_ids.len())
        } else if max_tokens == 0 {
            format!("{id} asks for no tokens")
        } else if self.requests.slot(id).is_some() {
            format!("{id} is there already")
        } else {
            let is_plain = self.options.int_hashes && context == HashContext::default();
            let (hashes, cursor) = match token_ids.hashed(self.cache.hasher()).filter(|_| is_plain) {
                Some(hashed) => (hashed.hashes.clone(), hashed.cursor.clone()),
                None => (Vec::new(), self.cache.hasher().start(&context)?),
            };
            // Room for the answer, so that a long prompt is not moved when the first token comes.
            let answer = (max_tokens as usize).min(longest + 1 - token_ids.len());
            let mut tokens = Vec::with_capacity(token_ids.len() + answer);
            tokens.extend_from_slice(&token_ids);
            let mut request = Request {
                id,
                context,
                prompt_len: token_ids.len(),
                tokens,
                max_tokens: max_tokens as usize,
                wants_transfer: transferred,
                state: State::Waiting,
                computed: 0,
                cached_blocks: 0,
                blocks: Vec::new(),
                hashes,
                full_hashes: Vec::new(),
                cursor,
                preemptions: 0,
                cached_tokens: 0,
                transferred_tokens: 0,
            };
            self.cache.hash(&mut request)?;
            let slot = self.requests.insert(request);
            self.scheduler.waiting.push_back(slot);
            return Ok(());
        };
        Err(EngineError::Request(problem))
    }

    /// Drops a request, whatever it is doing; one that is not there is ignored. If its KV is on the way,
    /// its blocks stay taken, and its id in use, until [`transfer_finished`](Self::transfer_finished)
    /// (`Scheduler.finish_requests`).
    pub fn abort(&mut self, id: u64) {
        let Some(slot) = self.requests.slot(id) else { return };
        let scheduler = &mut self.scheduler;
        let request = &mut self.requests[slot];
        match request.state {
            State::Aborted => return,
            State::Running => scheduler.running.retain(|&other| other != slot),
            State::Waiting => scheduler.waiting.retain(|&other| other != slot),
            State::Loading { order, .. } | State::Loaded { order } => {
                scheduler.loaded.remove(&order);
                scheduler.holding -= 1;
            }
        }
        scheduler.has_finished = true;
        if matches!(request.state, State::Loading { is_ready: false, .. }) {
            request.state = State::Aborted;
        } else {
            self.cache.release(request);
            self.requests.remove(slot);
        }
    }

    /// The KV of a request that [was loading](Step::loading) has come. It can run from the next step on,
    /// and its blocks are announced with it. Ignored if no such transfer is under way
    /// (`Scheduler._update_from_kv_xfer_finished`).
    pub fn transfer_finished(&mut self, id: u64) {
        let Some(slot) = self.requests.slot(id) else { return };
        let request = &mut self.requests[slot];
        match &mut request.state {
            State::Loading { order, is_ready } if !*is_ready => {
                *is_ready = true;
                self.scheduler.loaded.insert(*order, slot);
            }
            State::Aborted => {
                self.cache.release(request);
                self.requests.remove(slot);
            }
            _ => {}
        }
    }

    /// Whether vLLM's engine loop would go on stepping. [`begin_step`](Self::begin_step) may find nothing
    /// to do all the same: when all requests wait for transfers, or when the last one just finished.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.requests.len() > 0 || self.scheduler.has_finished
    }

    /// Plans the next step and starts it: which requests compute how many tokens, which blocks they get,
    /// what is evicted for them. `None` if there is nothing to do, or if a step is under way.
    pub fn begin_step(&mut self) -> Option<&Step> {
        self.scheduler.begin(&mut self.requests, &mut self.cache)
    }

    /// Ends the step under way. `timestamp` is what the batch of events carries, in seconds since 1970 in
    /// a real engine. `sample` gives the token of each request, by id, that has computed all it has.
    /// Without a step under way nothing happens.
    pub fn end_step(&mut self, timestamp: f64, sample: impl FnMut(u64) -> u32) -> StepResult {
        self.scheduler.end(&mut self.requests, &mut self.cache, timestamp, sample)
    }

    /// Drops the prefix cache, if no request holds blocks; says whether it did. The event leaves with the
    /// next step (`Scheduler.reset_prefix_cache`).
    pub fn reset_prefix_cache(&mut self) -> bool {
        self.cache.pool.reset(&mut self.cache.log)
    }

    /// Tokens of this prompt that a request would find cached, were it scheduled now: whole blocks from
    /// the first on, without the last token (`KVCacheManager.get_computed_blocks`).
    ///
    /// # Errors
    ///
    /// If the prompt cannot be hashed in this context.
    pub fn cached_tokens(
        &self,
        token_ids: &[u32],
        context: &HashContext,
    ) -> Result<usize, kvroute_core::Error> {
        let holds = |hash| self.cache.pool.cached(hash).is_some();
        Ok(self.cache.leading(token_ids, context, holds)? * self.options.block_size as usize)
    }

    /// The same by what was announced: as of the last batch of events handed out.
    ///
    /// # Errors
    ///
    /// Those of [`cached_tokens`](Self::cached_tokens).
    pub fn announced_tokens(
        &self,
        token_ids: &[u32],
        context: &HashContext,
    ) -> Result<usize, kvroute_core::Error> {
        let holds = |hash| self.cache.log.is_announced(hash);
        Ok(self.cache.leading(token_ids, context, holds)? * self.options.block_size as usize)
    }

    /// How many of these blocks, from the first on, are cached. For a prompt that is hashed once and
    /// asked of many engines; leave out the block of its last token to get what
    /// [`cached_tokens`](Self::cached_tokens) answers.
    #[must_use]
    pub fn cached_blocks(&self, blocks: &[BlockHash]) -> usize {
        blocks.iter().take_while(|&&hash| self.cache.pool.cached(hash).is_some()).count()
    }

    /// The same by what was announced.
    #[must_use]
    pub fn announced_blocks(&self, blocks: &[BlockHash]) -> usize {
        blocks.iter().take_while(|&&hash| self.cache.log.is_announced(hash)).count()
    }

    /// Requests that run, `vllm:num_requests_running`.
    #[must_use]
    pub fn running(&self) -> usize {
        self.scheduler.running.len()
    }

    /// Requests that wait, for their turn or for a transfer, `vllm:num_requests_waiting`.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting.len() + self.scheduler.holding
    }

    /// Share of the blocks that requests hold, 0 to 1, `vllm:kv_cache_usage_perc`.
    #[must_use]
    pub fn kv_usage(&self) -> f64 {
        self.cache.pool.usage()
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.scheduler.counters
    }
}
