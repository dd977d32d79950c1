//! How much of its KV cache a pod has left.

use super::Scorer;
use crate::candidate::Candidates;

/// `1 - kv_usage`, 0..=1: 1 for a pod whose KV cache no request uses. A pod that never reported scores 0.5: it is
/// neither preferred to those that did nor avoided. (`kv-cache-utilization-scorer` of llm-d-router ebab687, where such
/// a pod scores 1.)
#[derive(Clone, Copy, Debug, Default)]
pub struct KvUsageScorer;

impl Scorer for KvUsageScorer {
    fn name(&self) -> &'static str {
        "kv-usage"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            *score = candidate.load().map_or(0.5, |load| 1.0 - f64::from(load.kv_usage));
        }
    }
}
