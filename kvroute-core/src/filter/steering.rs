//! Filters that prefer some pods and never leave none.

use core::time::Duration;

use super::{Filter, steer};
use crate::candidate::Candidates;
use crate::load::AdapterFit;

/// Keeps the pods that are not overloaded: whose last load report stayed below the router's bounds
/// ([`Overload`](crate::load::Overload)). Steers: if all are overloaded, all are kept.
///
/// The bounds are looked at when a report comes, so a decision reads one bit a pod (as SMG 1.13 does).
#[derive(Clone, Copy, Debug, Default)]
pub struct OverloadFilter;

impl Filter for OverloadFilter {
    fn name(&self) -> &'static str {
        "overload"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        steer(candidates, kept, |pod| !pod.is_overloaded());
    }
}

/// Keeps the pods that answer: not those of which the last requests failed one after the other, until some time after
/// the last of these was dispatched; then they are tried again. Steers: if all fail, all are kept.
///
/// Only what [`finish`](crate::Router::finish) was told counts. A pod that is known to be down is better taken out
/// ([`set_accepting`](crate::Router::set_accepting)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthFilter {
    /// Failures in a row from which on a pod is left out; at least 1.
    pub failures: u32,
    /// How long after the last failed request's dispatch.
    pub pause: Duration,
}

impl Default for HealthFilter {
    /// Three failures, ten seconds.
    fn default() -> Self {
        Self { failures: 3, pause: Duration::from_secs(10) }
    }
}

impl Filter for HealthFilter {
    fn name(&self) -> &'static str {
        "health"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        steer(candidates, kept, |pod| {
            let (failures, last) = pod.failures();
            failures < self.failures.max(1) || candidates.now() >= last.saturating_add(self.pause)
        });
    }
}

/// Keeps the pods that have the request's LoRA adapter in use, or room for it, as they reported. Steers: if none has,
/// all are kept. A request without an adapter, and a pod that never reported its adapters, pass.
///
/// (`lora-affinity` filter of the Gateway API inference extension, without its random exploration.)
#[derive(Clone, Copy, Debug, Default)]
pub struct LoraRoomFilter;

impl Filter for LoraRoomFilter {
    fn name(&self) -> &'static str {
        "lora-room"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        steer(candidates, kept, |pod| pod.adapter() != Some(AdapterFit::Full));
    }
}
