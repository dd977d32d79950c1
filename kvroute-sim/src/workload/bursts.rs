//! Groups of requests with a common prefix, each group within seconds.

use core::ops::RangeInclusive;

use super::{FleetRequest, Script, text_of};
use crate::random::Random;

/// Bursts: many questions about one text at nearly the same time, as from a batch job, an evaluation or a map
/// over a document; then nobody asks about that text again. Bursts begin at Poisson times, and the requests of
/// one come at times uniform over its length.
#[derive(Clone, Debug, PartialEq)]
pub struct BurstLoad {
    /// Requests of a burst, uniform.
    pub size: RangeInclusive<u32>,
    /// Length of a burst, seconds.
    pub seconds: f64,
    /// Tokens that the prompts of a burst share; every factor equally likely.
    pub prefix_tokens: RangeInclusive<u32>,
    /// What a prompt has of its own: tokens, every factor equally likely.
    pub own_tokens: RangeInclusive<u32>,
    /// Tokens to generate, uniform.
    pub output_tokens: RangeInclusive<u32>,
    /// Arrivals a second, all bursts together.
    pub rate: f64,
    /// How many requests there are, about: the last burst is whole.
    pub count: u64,
    /// Decides all that is random, texts included.
    pub seed: u64,
}

/// Kinds of text.
const PREFIX: u64 = 0;
const OWN: u64 = 1;

impl BurstLoad {
    /// 10 to 60 questions within two seconds about a text of 2k to 10k tokens.
    #[must_use]
    pub fn new(rate: f64, count: u64, seed: u64) -> Self {
        Self {
            size: 10..=60,
            seconds: 2.0,
            prefix_tokens: 2000..=10_000,
            own_tokens: 50..=400,
            output_tokens: 30..=150,
            rate,
            count,
            seed,
        }
    }

    /// What its clients ask. The session of a request is its burst.
    #[must_use]
    pub fn script(&self) -> Script {
        let mut random = Random::new(self.seed);
        let mean = f64::from(self.size.start() + self.size.end()) / 2.0;
        let mut requests = Vec::new();
        let mut now = 0.0;
        for burst in 0.. {
            if requests.len() as u64 >= self.count {
                break;
            }
            now += random.exponential(self.rate / mean);
            let prefix = text_of(self.seed, PREFIX, burst, random.scattered(&self.prefix_tokens));
            for _ in 0..random.within(&self.size) {
                let id = requests.len() as u64;
                let mut token_ids = prefix.clone();
                token_ids.extend(text_of(self.seed, OWN, id, random.scattered(&self.own_tokens)));
                let output_tokens = random.within(&self.output_tokens);
                let arrival = now + self.seconds * random.unit();
                let token_ids = token_ids.into();
                requests.push(FleetRequest {
                    id,
                    arrival,
                    token_ids,
                    output_tokens,
                    session: burst,
                    ..FleetRequest::default()
                });
            }
        }
        requests.into_iter().collect()
    }
}
