//! One prefix that most requests begin with.

use core::ops::RangeInclusive;

use super::{FleetRequest, Script, text_of};
use crate::random::Random;

/// Most requests share one long prefix, more than one pod can answer; the others share nothing. Arrivals are a
/// Poisson process.
#[derive(Clone, Debug, PartialEq)]
pub struct HotPrefixLoad {
    /// Share of the requests that begin with the hot prefix, 0 to 1.
    pub share: f64,
    /// Length of the prefix, tokens.
    pub prefix_tokens: u32,
    /// What such a prompt has of its own: tokens, every factor equally likely.
    pub own_tokens: RangeInclusive<u32>,
    /// Length of the other prompts: tokens, every factor equally likely.
    pub other_tokens: RangeInclusive<u32>,
    /// Tokens to generate, uniform.
    pub output_tokens: RangeInclusive<u32>,
    /// Arrivals a second.
    pub rate: f64,
    /// How many requests there are.
    pub count: u64,
    /// Decides all that is random, texts included.
    pub seed: u64,
}

/// Kinds of text.
const PREFIX: u64 = 0;
const OWN: u64 = 1;

impl HotPrefixLoad {
    /// Four of five requests begin with the same 8000 tokens.
    #[must_use]
    pub fn new(rate: f64, count: u64, seed: u64) -> Self {
        Self {
            share: 0.8,
            prefix_tokens: 8000,
            own_tokens: 50..=600,
            other_tokens: 500..=4000,
            output_tokens: 50..=250,
            rate,
            count,
            seed,
        }
    }

    /// What its clients ask. Every request has a session of its own.
    #[must_use]
    pub fn script(&self) -> Script {
        let mut random = Random::new(self.seed);
        let prefix = text_of(self.seed, PREFIX, 0, self.prefix_tokens);
        let mut now = 0.0;
        let ask = |id| {
            now += random.exponential(self.rate);
            let is_hot = random.unit() <= self.share;
            let mut token_ids = if is_hot { prefix.clone() } else { Vec::new() };
            let own = random.scattered(if is_hot { &self.own_tokens } else { &self.other_tokens });
            token_ids.extend(text_of(self.seed, OWN, id, own));
            let output_tokens = random.within(&self.output_tokens);
            FleetRequest {
                id,
                arrival: now,
                token_ids: token_ids.into(),
                output_tokens,
                session: id,
                ..FleetRequest::default()
            }
        };
        (0..self.count).map(ask).collect()
    }
}
