//! Scorers: how good a pod is for a request, from one point of view.

mod adapter;
mod cost;
mod external;
mod kv_cache;
mod kv_usage;
mod latency;
mod load;
mod no_hit_lru;
mod prefix;
mod requests;
mod session;
mod token_load;
mod topology;

use core::fmt::Debug;

pub use adapter::LoraAffinityScorer;
pub use cost::CostScorer;
pub use external::ExternalScorer;
pub use kv_cache::KvCacheScorer;
pub use kv_usage::KvUsageScorer;
pub use latency::LatencyScorer;
pub use load::LoadScorer;
pub use no_hit_lru::NoHitLruScorer;
pub use prefix::PrefixScorer;
pub use requests::{QueueScorer, RunningScorer};
pub use session::SessionScorer;
pub use token_load::TokenLoadScorer;
pub use topology::TopologyScorer;

use crate::candidate::{Candidate, Candidates};

/// Rates every candidate that the filters kept between 0 and 1; higher is better. Weights are the profile's.
///
/// A scorer is pure: the same candidates give the same scores, and nothing is changed by asking. It is
/// called once a decision, for all pods, and holds no lock of the router's meanwhile.
///
/// ```
/// use kvroute_core::candidate::Candidates;
/// use kvroute_core::score::Scorer;
///
/// /// Prefers pods whose name begins with "spot-".
/// #[derive(Debug)]
/// struct Cheap;
///
/// impl Scorer for Cheap {
///     fn name(&self) -> &str {
///         "cheap"
///     }
///
///     fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
///         for (candidate, score) in candidates.iter().zip(scores) {
///             *score = if candidate.pod().name().starts_with("spot-") { 1.0 } else { 0.0 };
///         }
///     }
/// }
/// ```
pub trait Scorer: Debug + Send + Sync {
    /// Name in explanations; unique in a profile.
    fn name(&self) -> &str;

    /// Name of the request's score column that it reads, if it reads one. A request with a column that nothing
    /// reads is refused.
    fn column(&self) -> Option<&str> {
        None
    }

    /// Fills `scores`, `[candidates]`, all 0 at first. A value that is not in 0..=1 fails the decision
    /// with an error that names this scorer.
    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]);
}

/// `(most - amount) / (most - least)`, or 1 where all are equal. Amounts are finite.
fn least(candidates: &Candidates<'_>, scores: &mut [f64], amount: impl Fn(Candidate<'_>) -> f64) {
    let mut bounds = (f64::INFINITY, f64::NEG_INFINITY);
    for (candidate, score) in candidates.iter().zip(&mut *scores) {
        *score = amount(candidate);
        bounds = (bounds.0.min(*score), bounds.1.max(*score));
    }
    let (least, most) = bounds;
    for score in scores {
        *score = if most > least { (most - *score) / (most - least) } else { 1.0 };
    }
}

/// `least cost / cost`; costs are above 0. Of a pod of next to no capacity they may be infinite.
fn cheapest(candidates: &Candidates<'_>, scores: &mut [f64], cost: impl Fn(Candidate<'_>) -> f64) {
    let mut least = f64::INFINITY;
    for (candidate, score) in candidates.iter().zip(&mut *scores) {
        *score = cost(candidate);
        least = least.min(*score);
    }
    for score in scores {
        *score = if *score > least { least / *score } else { 1.0 };
    }
}
