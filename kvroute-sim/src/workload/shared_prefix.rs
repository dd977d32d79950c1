//! Groups of requests that share a prefix, at Poisson times.

use core::ops::RangeInclusive;

use super::{FleetRequest, token};
use crate::random::{self, Random};

/// A load of requests that each belong to one of several groups. All prompts of a group begin alike and
/// end in tokens of their own. Groups are equally likely and arrivals are a Poisson process.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedPrefixLoad {
    /// How many groups there are; at least one.
    pub groups: u64,
    /// Tokens that the prompts of a group share.
    pub prefix_tokens: u32,
    /// Tokens that a prompt has of its own, uniform.
    pub own_tokens: RangeInclusive<u32>,
    /// Tokens to generate for each.
    pub output_tokens: u32,
    /// Arrivals a second.
    pub rate: f64,
    /// How many requests there are.
    pub count: u64,
    /// Decides times, groups, lengths and token ids. The prefixes are of the seed too: loads of two seeds
    /// share nothing.
    pub seed: u64,
}

impl SharedPrefixLoad {
    /// The requests, in order of arrival. The session of each is its group.
    pub fn requests(&self) -> impl Iterator<Item = FleetRequest> + use<> {
        let load = self.clone();
        let mut random = Random::new(load.seed);
        let mut now = 0.0;
        (0..load.count).map(move |id| {
            now += random.exponential(load.rate);
            let group = random.below(load.groups);
            let (least, most) = (*load.own_tokens.start(), *load.own_tokens.end());
            let own = u64::from(least) + random.below(u64::from(most.saturating_sub(least)) + 1);
            let shared_stream = random::at(load.seed, group << 1);
            let own_stream = random::at(load.seed, (id << 1) | 1);
            let shared = (0..u64::from(load.prefix_tokens)).map(|position| token(shared_stream, position));
            let own = (0..own).map(|position| token(own_stream, position));
            FleetRequest {
                id,
                arrival: now,
                token_ids: shared.chain(own).collect(),
                output_tokens: load.output_tokens,
                session: group,
                ..FleetRequest::default()
            }
        })
    }
}
