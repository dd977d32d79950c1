//! What an engine is configured with, and what it refuses.

use core::fmt;

use kvroute_core::hash::{BlockHasher, HashSeed, VllmAlgorithm, VllmEra, VllmScheme};

/// The settings of a simulated engine. They mean what vLLM's options of these names mean; the defaults
/// are those of `vllm serve` 0.32 on a GPU of 70 to 160 GiB (`vllm/engine/arg_utils.py`,
/// `get_batch_defaults`).
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOptions {
    /// Tokens per block.
    pub block_size: u32,
    /// Blocks of the pool, the null block included, so that one less can be used.
    pub num_blocks: u32,
    /// Tokens that one step may compute, of all requests together.
    pub max_num_batched_tokens: u32,
    /// Requests that may run at one time.
    pub max_num_seqs: u32,
    /// The longest sequence, prompt and answer, in tokens. `None`: as many as the pool holds, what vLLM
    /// calls `--max-model-len auto`. A request that reaches it ends there.
    pub max_model_len: Option<u32>,
    /// Share of the pool, 0 up to 1, that stays free when a waiting request is admitted beside others. 0
    /// is vLLM's default: no such headroom.
    pub watermark: f64,
    /// How blocks are hashed: algorithm and root.
    pub scheme: VllmScheme,
    /// Whether hashes are published as integers, `VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES`; else as bytes.
    pub int_hashes: bool,
    /// Whether batches of events are made, `--kv-events-config`'s `enable_kv_cache_events`. Without them the
    /// engine does the same, and nothing counts as announced.
    pub events: bool,
    /// Data-parallel rank, published with every batch.
    pub dp_rank: u32,
}

impl Default for EngineOptions {
    fn default() -> Self {
        let seed = HashSeed::Value("0".into());
        let scheme = VllmScheme::for_era(VllmAlgorithm::Sha256Cbor, VllmEra::Tagged, &seed)
            .expect("an algorithm of that era with a seed of its own");
        Self {
            block_size: 16,
            num_blocks: 9000,
            max_num_batched_tokens: 8192,
            max_num_seqs: 1024,
            max_model_len: None,
            watermark: 0.0,
            scheme,
            int_hashes: true,
            events: true,
            dp_rank: 0,
        }
    }
}

impl EngineOptions {
    /// Tokens that the pool holds when all of it is used.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        u64::from(self.num_blocks.saturating_sub(1)) * u64::from(self.block_size)
    }

    /// The longest sequence, in tokens.
    pub(super) fn model_len(&self) -> usize {
        let capacity = usize::try_from(self.capacity()).unwrap_or(usize::MAX);
        self.max_model_len.map_or(capacity, |tokens| tokens as usize)
    }

    /// Blocks that stay free when a waiting request is admitted beside others
    /// (`KVCacheManager.__init__`).
    pub(super) fn watermark_blocks(&self) -> usize {
        (self.watermark * f64::from(self.num_blocks)) as usize
    }

    /// Checks what no engine can run with.
    ///
    /// # Errors
    ///
    /// [`EngineError::Options`] names the setting: a zero, a pool that cannot hold the longest sequence,
    /// a watermark outside 0..1, or a scheme that vLLM 0.32 does not have.
    pub fn check(&self) -> Result<(), EngineError> {
        let capacity = self.capacity();
        let problem = if !(1..=BlockHasher::MAX_BLOCK_SIZE).contains(&self.block_size) {
            format!("block_size {} is not in 1..={}", self.block_size, BlockHasher::MAX_BLOCK_SIZE)
        } else if self.num_blocks < 2 {
            format!("num_blocks {} leaves none beside the null block", self.num_blocks)
        } else if self.max_num_batched_tokens == 0 {
            "max_num_batched_tokens is 0".into()
        } else if self.max_num_seqs == 0 {
            "max_num_seqs is 0".into()
        } else if self.max_model_len.is_some_and(|tokens| tokens < 2 || u64::from(tokens) > capacity) {
            let tokens = self.max_model_len.unwrap_or_default();
            format!("max_model_len {tokens} is not in 2..={capacity}, what the pool holds")
        } else if self.model_len() < 2 {
            format!("a pool of {capacity} tokens holds no prompt and answer")
        } else if !(0.0..1.0).contains(&self.watermark) {
            format!("watermark {} is not in 0..1", self.watermark)
        } else if self.scheme.era() != VllmEra::Tagged || self.scheme.lookahead() != 0 {
            "the hash scheme is not one of vLLM 0.32: extra keys of 0.31 and later, no lookahead".into()
        } else {
            return Ok(());
        };
        Err(EngineError::Options(problem))
    }
}

/// Why an engine was not made, or a request not taken. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineError {
    /// A setting out of its range, in words.
    Options(String),
    /// A request that vLLM's frontend would refuse, in words.
    Request(String),
    /// A request that cannot be hashed.
    Hash(kvroute_core::Error),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(problem) => write!(f, "engine options: {problem}"),
            Self::Request(problem) => write!(f, "request: {problem}"),
            Self::Hash(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EngineError {}

impl From<kvroute_core::Error> for EngineError {
    fn from(error: kvroute_core::Error) -> Self {
        Self::Hash(error)
    }
}
