//! Load reports from the engines' `/metrics`.

use serde::Serialize;

/// Whose metrics they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Engine {
    /// vLLM: `vllm:...`.
    Vllm,
    /// SGLang: `sglang:...`.
    Sglang,
    /// TensorRT-LLM's own server, `trtllm-serve`: `trtllm_...`.
    Trtllm,
    /// TensorRT-LLM behind Triton: `nv_trt_llm_...`.
    Triton,
}

/// What a prefix cache was asked for and had, since the engine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheUse {
    /// Tokens it was asked for (`vllm:prefix_cache_queries_total`).
    pub queried_tokens: u64,
    /// Tokens it had (`vllm:prefix_cache_hits_total`).
    pub hit_tokens: u64,
}

/// LoRA adapters in use (`vllm:lora_requests_info`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AdapterUse {
    /// Adapters that can be in use at one time.
    pub max: u32,
    /// Names of those that running requests use.
    pub running: Vec<String>,
    /// Names of those that waiting requests ask for.
    pub waiting: Vec<String>,
}
