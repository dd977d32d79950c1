//! KV events: what an engine says about its KV cache, in one form for every engine.
//!
//! Data in: the payload of one published batch ([`decode_batch`]: vLLM, SGLang and whoever writes their
//! format) or of one poll ([`decode_trtllm`]: TensorRT-LLM). Data out: an [`EventBatch`], or an error when
//! not even the frame can be read. One event that cannot be read is [`Skipped`] with its reason and costs
//! the rest of the batch nothing.
//!
//! Decoding knows nothing of pods, requests or the index. What it promises: no panic and no recursion on
//! any input, time linear in the input, memory within a small multiple of it.

mod msgpack;
mod skip_log;
mod trtllm;
mod vllm;

pub use trtllm::{NumberedEvent, decode_trtllm};
pub use vllm::{batch_timestamp, decode_batch};

use alloc::string::String;
use alloc::vec::Vec;

use crate::hash::ExtraKey;
use crate::{EngineHash, Tier};

/// One published batch, in the order the engine wrote it; the order is meaningful.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventBatch {
    /// Publisher's clock, unix seconds; 0 when the batch does not say.
    pub timestamp: f64,
    /// Data-parallel rank of the publisher; `None` when the batch does not say (vLLM 0.9.0, TensorRT-LLM
    /// without attention data parallelism).
    pub dp_rank: Option<u32>,
    /// The events that could be read.
    pub events: Vec<KvEvent>,
    /// The events that could not.
    pub skipped: Vec<Skipped>,
}

/// One change of one pod's KV cache.
#[derive(Clone, Debug, PartialEq)]
pub enum KvEvent {
    /// Blocks became available (`BlockStored`).
    Stored(BlockStored),
    /// Blocks went away (`BlockRemoved`).
    Removed(BlockRemoved),
    /// The whole cache went away (`AllBlocksCleared`).
    Cleared,
}

/// A run of blocks that became available.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockStored {
    /// The blocks, first to last; `[n]`.
    pub block_hashes: Vec<EngineHash>,
    /// The block before the first; `None` at the start of a prompt. Offload announcements
    /// (`token_ids` empty) send `None` for any position.
    pub parent: Option<EngineHash>,
    /// Token ids; `[n * block_size]`, or empty (offload announcement), or longer when masked blocks are
    /// left out of `block_hashes` (vLLM, sliding windows).
    pub token_ids: Vec<u32>,
    /// `token_ids` came as `[a, b]` pairs (SGLang with EAGLE) and hold the first of each.
    pub bigrams: bool,
    /// Tokens a block; may be 0 only when `token_ids` is empty (offload announcements).
    pub block_size: u32,
    /// The LoRA adapter, as far as the event names it.
    pub lora: Option<EventLora>,
    /// Where the blocks lie; `None` is a medium we do not know.
    pub tier: Option<Tier>,
    /// Extra keys, one entry a block (an empty one for a block without); empty when the event has none at
    /// all. Their number is the engine's and not checked against `block_hashes`.
    pub extra_keys: Vec<Vec<ExtraKey>>,
    /// `cache_salt` field (SGLang 0.5.20 and later; vLLM puts the salt into `extra_keys`).
    pub cache_salt: Option<String>,
    /// KV-cache group of a hybrid-attention model (vLLM 0.20 and later); 0 when the event does not say.
    pub group: u32,
    /// What the group is; `None` when the event does not say (vLLM before 0.22).
    pub group_kind: Option<GroupKind>,
}

/// How a KV-cache group attends, so which of its blocks a prompt needs.
/// (`kv_cache_spec_kind` and `kv_cache_spec_sliding_window`, vLLM 0.22 and later.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupKind {
    /// Every block from the start of the prompt.
    FullAttention,
    /// Only the last `window` tokens.
    SlidingWindow {
        /// Window, tokens; at least 1.
        window: u32,
    },
    /// A kind without a rule here: its pod becomes degraded and is never credited.
    Unknown,
}

/// How an event names a LoRA adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLora {
    /// Adapter name (vLLM 0.14, SGLang 0.5.22 and later).
    pub name: Option<String>,
    /// Engine's integer id.
    pub id: Option<i64>,
}

/// Blocks that went away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockRemoved {
    /// The blocks.
    pub block_hashes: Vec<EngineHash>,
    /// Where from; `None` is a medium we do not know, or everywhere (TensorRT-LLM).
    pub tier: Option<Tier>,
    /// KV-cache group; 0 when the event does not say.
    pub group: u32,
}

/// An event of a batch that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Position in the batch, from 0.
    pub position: usize,
    /// Why.
    pub reason: SkipReason,
    /// What exactly was found there.
    pub detail: String,
}

/// Why an event was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// A tag no engine known to us sends.
    UnknownTag,
    /// A field is missing, of the wrong type, or out of range.
    Malformed,
    /// The engine announced something a prefix index has no use for (a partial block, a resize).
    NotABlock,
}
