//! Scorers: how good a pod is for a request, from one point of view.

mod external;
mod kv_cache;
mod load;
mod prefix;
mod session;

use core::fmt::Debug;

pub use external::ExternalScorer;
pub use kv_cache::KvCacheScorer;
pub use load::LoadScorer;
pub use prefix::PrefixScorer;
pub use session::SessionScorer;

use crate::candidate::Candidates;

/// Rates every candidate of a request between 0 and 1; higher is better. Weights are the profile's.
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
