//! Many tenants with a system prompt each.

use core::ops::RangeInclusive;

use super::{FleetRequest, Script, text_of};
use crate::random::Random;

/// Requests of tenants whose prompts begin with their tenant's system prompt. Some tenants ask far more than
/// others: the `n`th as often as `1 / n^exponent` (Zipf's law). Arrivals are a Poisson process.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantLoad {
    /// How many tenants there are; at least one.
    pub tenants: u32,
    /// How unequal they are; 0: not at all.
    pub exponent: f64,
    /// Length of a system prompt, tokens: spread over the range, every factor as often as any other. A tenant's
    /// is the same for all seeds, since the first few decide how much work there is.
    pub prefix_tokens: RangeInclusive<u32>,
    /// What a prompt has of its own: tokens, every factor equally likely.
    pub own_tokens: RangeInclusive<u32>,
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

impl TenantLoad {
    /// 300 tenants whose system prompts, about 900k tokens, fit in eight pods of 144k only if each lies on one.
    #[must_use]
    pub fn new(rate: f64, count: u64, seed: u64) -> Self {
        Self {
            tenants: 300,
            exponent: 1.0,
            prefix_tokens: 1000..=8000,
            own_tokens: 50..=1000,
            output_tokens: 30..=250,
            rate,
            count,
            seed,
        }
    }

    /// The golden ratio's multiples spread tenants over the range, neighbours far apart.
    fn prefix_length(&self, tenant: u32) -> u32 {
        const GOLDEN: f64 = 0.618_033_988_749_895;
        let (least, most) = (f64::from(*self.prefix_tokens.start()), f64::from(*self.prefix_tokens.end()));
        let place = (0.5 + f64::from(tenant) * GOLDEN).fract();
        (least * (most / least).powf(place)) as u32
    }

    /// What its clients ask. The session of a request is its tenant.
    #[must_use]
    pub fn script(&self) -> Script {
        let mut random = Random::new(self.seed);
        let prefixes: Vec<Vec<u32>> =
            (0..self.tenants).map(|n| text_of(self.seed, PREFIX, n.into(), self.prefix_length(n))).collect();
        // `shares[n]`: how often one of the tenants up to `n` asks.
        let mut shares = Vec::with_capacity(prefixes.len());
        let mut sum = 0.0;
        for n in 1..=self.tenants {
            sum += f64::from(n).powf(-self.exponent);
            shares.push(sum);
        }
        let mut now = 0.0;
        let ask = |id| {
            now += random.exponential(self.rate);
            let lot = random.unit() * sum;
            let tenant = shares.partition_point(|&share| share < lot).min(prefixes.len() - 1);
            let mut token_ids = prefixes[tenant].clone();
            token_ids.extend(text_of(self.seed, OWN, id, random.scattered(&self.own_tokens)));
            let output_tokens = random.within(&self.output_tokens);
            FleetRequest {
                id,
                arrival: now,
                token_ids: token_ids.into(),
                output_tokens,
                session: tenant as u64,
                ..FleetRequest::default()
            }
        };
        (0..self.count).map(ask).collect()
    }
}
