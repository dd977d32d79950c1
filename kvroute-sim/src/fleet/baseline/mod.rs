//! What to compare with: policies that know nothing of caches, and what caching could save at most.

mod hash_ring;
mod infinite_cache;

use kvroute_core::Role;

pub use hash_ring::HashRing;
pub use infinite_cache::InfiniteCache;

use super::policy::{Placement, PodView, Policy};
use crate::random::Random;
use crate::workload::FleetRequest;

/// Places of the pods that the whole of a request can go to.
fn decoding(request: &FleetRequest, pods: &[PodView]) -> impl Iterator<Item = usize> + Clone {
    pods.iter().enumerate().filter(|(_, pod)| pod.takes(request, Role::Decode)).map(|(place, _)| place)
}

/// One of `choices`, by a number in 0..their count; pod 0 if there are none, which fails the request.
fn pick(mut choices: impl Iterator<Item = usize>, number: u64) -> Placement {
    Placement::on(choices.nth(number as usize).unwrap_or(0))
}

/// One pod after the other.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    next: u64,
}

impl Policy for RoundRobin {
    fn reads_events(&self) -> bool {
        false
    }

    fn place(&mut self, request: &FleetRequest, pods: &[PodView], _: f64) -> Placement {
        let choices = decoding(request, pods);
        let number = self.next % (choices.clone().count() as u64).max(1);
        self.next += 1;
        pick(choices, number)
    }
}

/// Any pod, all equally likely.
#[derive(Clone, Debug)]
pub struct RandomChoice(Random);

impl RandomChoice {
    /// The same seed makes the same choices.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Random::new(seed))
    }
}

impl Policy for RandomChoice {
    fn reads_events(&self) -> bool {
        false
    }

    fn place(&mut self, request: &FleetRequest, pods: &[PodView], _: f64) -> Placement {
        let choices = decoding(request, pods);
        let number = self.0.below(choices.clone().count() as u64);
        pick(choices, number)
    }
}

/// The pod with the fewest requests in flight; among equals, one drawn by lot.
#[derive(Clone, Debug)]
pub struct LeastInFlight(Random);

impl LeastInFlight {
    /// The same seed makes the same choices.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Random::new(seed))
    }
}

impl Policy for LeastInFlight {
    fn reads_events(&self) -> bool {
        false
    }

    fn place(&mut self, request: &FleetRequest, pods: &[PodView], _: f64) -> Placement {
        let least = decoding(request, pods).map(|place| pods[place].in_flight).min();
        let choices = decoding(request, pods).filter(|&place| Some(pods[place].in_flight) == least);
        let number = self.0.below(choices.clone().count() as u64);
        pick(choices, number)
    }
}

/// A session's own pod, whatever its load: session modulo pods. Ideal for affinity, since it is told the
/// session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky;

impl Policy for Sticky {
    fn reads_events(&self) -> bool {
        false
    }

    fn place(&mut self, request: &FleetRequest, pods: &[PodView], _: f64) -> Placement {
        let choices = decoding(request, pods);
        let number = request.session % (choices.clone().count() as u64).max(1);
        pick(choices, number)
    }
}

/// Sends long prompts through a prefill pod, chosen by a policy that sees the prefill pods as if they
/// answered.
#[derive(Clone, Debug)]
pub struct Prefilled<P> {
    decode: P,
    prefill: P,
    max_tokens: usize,
}

impl<P: Policy + Clone> Prefilled<P> {
    /// Prompts of more than `max_tokens` are computed elsewhere, if there is a prefill pod. Each kind
    /// of pod is chosen by a policy like `policy`.
    #[must_use]
    pub fn new(policy: P, max_tokens: usize) -> Self {
        Self { decode: policy.clone(), prefill: policy, max_tokens }
    }
}

impl<P: Policy> Policy for Prefilled<P> {
    /// What both know comes with [`place`](Policy::place) alone.
    fn reads_events(&self) -> bool {
        false
    }

    fn place(&mut self, request: &FleetRequest, pods: &[PodView], now: f64) -> Placement {
        let decode = self.decode.place(request, pods, now).decode;
        let as_seen = |pod: &PodView| {
            let accepting = pod.role == Role::Prefill && pod.takes(request, Role::Prefill);
            PodView { accepting, role: Role::Both, ..pod.clone() }
        };
        let prefill_pods: Vec<_> = pods.iter().map(as_seen).collect();
        let is_long =
            request.token_ids.len() > self.max_tokens && prefill_pods.iter().any(|pod| pod.accepting);
        let prefill = is_long.then(|| self.prefill.place(request, &prefill_pods, now).decode);
        Placement { decode, prefill }
    }
}
