//! What besides the token ids decides whether two blocks share KV.

use alloc::string::String;
use alloc::vec::Vec;

/// The parts of a request that enter its block hashes beside the token ids.
///
/// The default context (no adapter, no salt, plain text) is what most requests have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HashContext {
    /// The LoRA adapter the request runs with.
    pub lora: Option<Lora>,
    /// Tenant isolation string (`cache_salt` in vLLM's API). Enters the first block only.
    pub cache_salt: Option<String>,
    /// Multimodal items in the prompt, ordered by `start`.
    pub multimodal: Vec<MultimodalItem>,
    /// Prompt embeddings: `prompt_embeds[i]` is the key of block `i`, as the engine forms it
    /// (vLLM 0.17 and later: the SHA-256 of the block's raw embedding bytes; before: those bytes).
    /// Blocks past its end have none.
    pub prompt_embeds: Vec<Vec<u8>>,
}

/// A LoRA adapter as the engine knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lora {
    /// Adapter name, the `model` of the request.
    pub name: String,
    /// Where the engine loaded it from (`root` in `/v1/models`). In the hash since vLLM 0.31.
    pub path: String,
    /// The engine's integer id. In the hash before vLLM 0.11.1.
    pub id: i64,
}

/// One image, video or audio clip in a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MultimodalItem {
    /// The engine's identifier of the content (vLLM: hex digest of the processed item).
    pub identifier: String,
    /// First token of its placeholder; tokens from the start of the prompt.
    pub start: u32,
    /// Length of its placeholder, tokens.
    pub length: u32,
}

/// One extra key of one block, as engines publish it: untagged.
///
/// In order: adapter name, multimodal items, cache salt (first block only), prompt embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExtraKey {
    /// Adapter name, cache salt, or (vLLM before 0.19) a multimodal identifier.
    Text(String),
    /// A multimodal item and its start relative to the block's first token (negative when it began
    /// in an earlier block).
    Multimodal {
        /// The engine's identifier of the content.
        identifier: String,
        /// Start of the item minus start of the block, tokens.
        offset: i64,
    },
    /// Key of prompt embeddings.
    Bytes(Vec<u8>),
}
