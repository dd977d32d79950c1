//! What can be set, each with a default that is meant to be left alone.

use std::time::Duration;

use serde_json::{Map, Value};

/// How a [`Tokenizer`](super::Tokenizer) reads requests, and its bounds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TokenizerOptions {
    /// Template that the engines were given by `--chat-template`, in place of the model's: its source.
    pub chat_template: Option<String>,
    /// Arguments of the template that the engines were given by `--default-chat-template-kwargs`.
    pub chat_template_kwargs: Map<String, Value>,
    /// Whether the engines accept a template in the request (`--trust-request-chat-template`). If not, a request that
    /// brings one is refused, as they do. The bounds below hold for such a template too, but not all memory counts: one
    /// that doubles a list again and again takes what there is, here and in the engine.
    pub trust_request_chat_template: bool,
    /// Whether the engines leave tools out where `tool_choice` is "none"
    /// (`--exclude-tools-when-tool-choice-none`).
    pub exclude_tools_when_tool_choice_none: bool,
    /// Bytes of memory for the ids of segments seen before; 0 keeps none.
    pub cache_bytes: usize,
    /// Bytes that a request or a rendered chat may have; beyond is an error.
    pub max_text_bytes: usize,
    /// Steps a template may take (instructions of minijinja); beyond is an error.
    pub max_template_steps: u64,
}

impl Default for TokenizerOptions {
    fn default() -> Self {
        Self {
            chat_template: None,
            chat_template_kwargs: Map::new(),
            trust_request_chat_template: false,
            exclude_tools_when_tool_choice_none: false,
            cache_bytes: 256 << 20,
            max_text_bytes: 16 << 20,
            max_template_steps: 5_000_000,
        }
    }
}

/// A [`TokenizerPool`](super::TokenizerPool)'s threads and queue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Threads; at least 1.
    pub threads: usize,
    /// Requests that may wait; beyond, requests are answered with text.
    pub queue: usize,
    /// Time after which a request is answered with text if it is not tokenized.
    pub wait: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self { threads: 2, queue: 256, wait: Duration::from_millis(100) }
    }
}
