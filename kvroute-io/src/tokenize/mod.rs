//! Prompts and chats to the token ids that the engine will compute.
//!
//! A [`Tokenizer`] is made from a model's folder (`tokenizer.json` and what lies beside it) and turns the body of an
//! OpenAI-compatible request into one [`TokenizedPrompt`] or several: it reads the request as vLLM 0.32 does, renders
//! its messages by the model's chat template as transformers 5.23 does, and encodes the result with the library that the
//! engine uses. What cannot be known outside of the engine (images, a conversation stored there) is not guessed: such a
//! prompt comes back as text with the reason ([`Untokenized`]), and the router treats it by text.
//!
//! A [`TokenizerPool`] does this on threads of its own, so that a long prompt never holds up an event loop, and when it
//! cannot keep up it answers with text at once.
//!
//! # How it is the engine's
//!
//! - *Special tokens* go around completions and, at vLLM, around responses, but not around chats, whose template writes
//!   them. In a user's text they are read as such.
//! - *Contents* are given to the template as strings, or, if it loops over them, as lists of parts.
//! - *Messages* and *tools* have the fields, and their order, that the engine's types leave; arguments of tool calls are
//!   objects; what is missing is null or left out as there. A template that shows them as JSON shows the same.
//! - *Numbers* are written as in Python. An integer beyond 64 bits or a minus zero that a template may show is not
//!   reproduced.
//! - A request may shorten its prompt (`truncate_prompt_tokens`, `truncation`) or have an end given (`suffix`); this is
//!   not reproduced.
//!
//! transformers rebuilds the tokenizers of some model classes from their vocabulary; here `tokenizer.json` is taken as it
//! is, which is the same unless that file was changed by hand.
//!
//! # What it costs
//!
//! A chat of 32k tokens (130 kB) whose history was seen before takes 0.23 ms: 0.1 ms to read the JSON, 0.06 ms to render
//! it, 0.04 ms to look up its segments, and the rest to encode the new message of 0.5 kB. Encoding all of it takes 87 ms,
//! in the same run. (One core of a two-core machine, byte-level BPE of 32768 entries; `cargo bench --bench tokenize` tells
//! more.) So rendering by parts would gain little, and a template may look at all messages for each of them. Nor is there a
//! way around the pool for what is cached: how much of a text is new is only known when it was rendered.
//!
//! Memory: the cache of segments ([`TokenizerOptions::cache_bytes`]), and a few times the request's size while it is
//! worked on.

mod chat;
mod encoder;
mod error;
mod files;
mod options;
mod pool;
mod prompt;
mod request;
mod tokenizer;

pub use error::{Error, ErrorKind};
pub use options::{PoolOptions, TokenizerOptions};
pub use pool::{PoolCounters, TokenizerPool};
pub use prompt::{Endpoint, TokenizedPrompt, Untokenized};
pub use tokenizer::{CacheCounters, Parts, Segmentation, Tokenizer};
