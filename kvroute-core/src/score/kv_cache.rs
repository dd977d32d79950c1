//! How much of the prompt a pod holds.

use super::Scorer;
use crate::candidate::Candidates;
use crate::credits::Credits;

/// `trust * sum over tiers of credit * matched blocks / searchable blocks`, 0..=1: 1 if the pod can take all
/// it could ever take from its device memory, 0 if it holds no leading block. `trust` is the credit of the pod's trust
/// level ([`Credits`]).
///
/// An absolute share, not a min-max over pods, so that a small hit among misses stays small.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KvCacheScorer {
    credits: Credits,
}

impl KvCacheScorer {
    /// With these credits for matched blocks.
    #[must_use]
    pub fn new(credits: Credits) -> Self {
        Self { credits }
    }
}

impl Scorer for KvCacheScorer {
    fn name(&self) -> &'static str {
        "kv-cache"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            *score = candidate.credited_share(&self.credits);
        }
    }
}
