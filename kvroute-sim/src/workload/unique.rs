//! Prompts that share nothing.

use core::ops::RangeInclusive;

use super::{FleetRequest, Script, text_of};
use crate::random::Random;

/// Requests of which no two begin alike: no cache helps, and all that a policy can do is to spread them.
/// Arrivals are a Poisson process.
#[derive(Clone, Debug, PartialEq)]
pub struct UniqueLoad {
    /// Length of a prompt: tokens, every factor equally likely.
    pub prompt_tokens: RangeInclusive<u32>,
    /// Tokens to generate, uniform.
    pub output_tokens: RangeInclusive<u32>,
    /// Arrivals a second.
    pub rate: f64,
    /// How many requests there are.
    pub count: u64,
    /// Decides all that is random, texts included.
    pub seed: u64,
}

impl UniqueLoad {
    /// Prompts of 300 to 8000 tokens.
    #[must_use]
    pub fn new(rate: f64, count: u64, seed: u64) -> Self {
        Self { prompt_tokens: 300..=8000, output_tokens: 30..=300, rate, count, seed }
    }

    /// What its clients ask. Every request has a session of its own.
    #[must_use]
    pub fn script(&self) -> Script {
        let mut random = Random::new(self.seed);
        let mut now = 0.0;
        let ask = |id| {
            now += random.exponential(self.rate);
            let token_ids = text_of(self.seed, 0, id, random.scattered(&self.prompt_tokens)).into();
            let output_tokens = random.within(&self.output_tokens);
            FleetRequest {
                id,
                arrival: now,
                token_ids,
                output_tokens,
                session: id,
                ..FleetRequest::default()
            }
        };
        (0..self.count).map(ask).collect()
    }
}
