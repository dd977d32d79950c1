//! Loads: requests with their arrival times, made deterministically.
//!
//! [`SharedPrefixLoad`] draws groups of prompts that share a prefix; [`phases`](phases()) asks about
//! topics first new, then known; [`MooncakeTrace`] reads a published trace of real conversations. All
//! give an iterator of [`FleetRequest`]s in order of arrival, so that a long load need not lie in
//! memory at once.

mod mooncake;
mod phases;
mod shared_prefix;

pub use mooncake::{MooncakeTrace, TraceError, TraceRequest};
pub use phases::{Asked, Phase, phases};
pub use shared_prefix::SharedPrefixLoad;

use crate::random;

/// One request as it reaches the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetRequest {
    /// Names it; no two of one run share an id.
    pub id: u64,
    /// When it arrives, in seconds since the run began.
    pub arrival: f64,
    /// The tokenized prompt; `[n]`.
    pub token_ids: Vec<u32>,
    /// Tokens to generate, at least one.
    pub output_tokens: u32,
    /// The conversation, or the group of requests with a common prefix. An ideal that no engine and no
    /// gateway is told: only policies that are to be "what if we knew" read it.
    pub session: u64,
}

/// Llama 3's vocabulary without its special tokens.
const VOCABULARY: u64 = 128_000;

/// The first `length` tokens of the text called `stream`.
fn text(stream: u64, length: usize) -> Vec<u32> {
    (0..length as u64).map(|position| token(stream, position)).collect()
}

/// Token number `position` of the answer to a request, counted from 0: what every pod would say, so
/// that a load can go on with it.
#[must_use]
pub fn answer(request: u64, position: u32) -> u32 {
    // Far from the streams that loads use.
    token(!request, u64::from(position))
}

/// Token number `position` of the text called `stream`. Streams are unrelated to each other.
fn token(stream: u64, position: u64) -> u32 {
    (random::at(stream, position) % VOCABULARY) as u32
}
