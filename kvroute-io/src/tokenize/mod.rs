//! Prompts and chats to the token ids that the engine will compute.
//!
//! A [`Tokenizer`] is made from a model's folder (`tokenizer.json` and what lies beside it) and turns the body of an
//! OpenAI-compatible request into one [`TokenizedPrompt`] or several: it reads the request as vLLM does, renders its
//! messages by the model's chat template as transformers does, and encodes the result with the library that the engine
//! uses. What cannot be known outside of the engine (images, a conversation stored there) is not guessed: such a prompt
//! comes back as text with the reason, and the router treats it by text.
//!
//! A [`TokenizerPool`] does this on threads of its own, so that a long prompt never holds up an event loop, and when it
//! cannot keep up it answers with text at once.

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
