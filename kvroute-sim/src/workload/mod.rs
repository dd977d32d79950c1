//! Loads: requests with their arrival times, made deterministically.
//!
//! What people send to a fleet, one struct a kind, with its sizes as fields:
//!
//! - [`ConversationLoad`]: conversations whose prompts grow with every turn; people who chat, or agents that
//!   call tools in a loop;
//! - [`TenantLoad`]: many tenants with a system prompt each, some of which ask far more than others;
//! - [`HotPrefixLoad`]: one prefix that most requests begin with;
//! - [`BurstLoad`]: groups of requests with a common prefix, each group within seconds;
//! - [`UniqueLoad`]: prompts that share nothing;
//! - [`ModelLoad`]: the same texts asked of several models, under several names, with adapters and salts;
//! - [`SharedPrefixLoad`]: groups that are equally likely, as in the measured experiment;
//! - [`MooncakeTrace`]: a published trace of real conversations;
//! - [`phases`](phases()): topics first new, then known.
//!
//! All but the last four make a [`Script`], whose conversations go on when they were answered; those give an
//! iterator of [`FleetRequest`]s in order of arrival, so that a long load need not lie in memory at once.
//! Both are a [`Load`].

mod bursts;
mod conversations;
mod hot_prefix;
mod models;
mod mooncake;
mod phases;
mod script;
mod shared_prefix;
mod tenants;
mod unique;

pub use bursts::BurstLoad;
pub use conversations::ConversationLoad;
pub use hot_prefix::HotPrefixLoad;
pub use models::{ModelLoad, Target};
pub use mooncake::{MooncakeTrace, TraceError, TraceRequest};
pub use phases::{Asked, Phase, phases};
pub use script::{Playing, Script};
pub use shared_prefix::SharedPrefixLoad;
pub use tenants::TenantLoad;
pub use unique::UniqueLoad;

use std::sync::Arc;

use kvroute_core::HashContext;

use crate::engine::TokenIds;
use crate::random;

/// Requests as clients send them.
pub trait Load {
    /// The next request that waits for no answer, in order of arrival; `None` behind the last.
    fn next_arrival(&mut self) -> Option<FleetRequest>;

    /// A request was answered at `now`: what its client sends next, `now` or later, if anything.
    fn follow_up(&mut self, answered: u64, now: f64) -> Option<FleetRequest> {
        let _ = (answered, now);
        None
    }
}

/// Nobody waits for an answer.
impl<I: Iterator<Item = FleetRequest>> Load for I {
    fn next_arrival(&mut self) -> Option<FleetRequest> {
        self.next()
    }
}

/// One request as it reaches the gateway. The default is there to be filled: it has no prompt, is content with any
/// model, and has neither adapter nor salt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FleetRequest {
    /// Names it; no two of one run share an id.
    pub id: u64,
    /// When it arrives, in seconds since the run began.
    pub arrival: f64,
    /// The tokenized prompt; `[n]`.
    pub token_ids: TokenIds,
    /// Tokens to generate, at least one.
    pub output_tokens: u32,
    /// The served model it asks for, as clients name it; `None` is content with any.
    pub model: Option<Arc<str>>,
    /// Adapter, cache salt and whatever else decides which requests share KV.
    pub context: Arc<HashContext>,
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

/// A text of a load with this seed: number `number` of its `kind`.
fn text_of(seed: u64, kind: u64, number: u64, length: u32) -> Vec<u32> {
    text(random::at(random::at(seed, kind), number), length as usize)
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
