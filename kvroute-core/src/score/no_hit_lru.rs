//! Spreads new prefixes over pods.

use super::Scorer;
use crate::candidate::Candidates;

/// Where some pod is expected to have a block of the prompt cached, 0.5 for all. Otherwise `1 - rank / (pods - 1)`,
/// 0..=1, by when a pod last got such a request: those that never did first, then longest ago. New prefixes
/// go round the pods, instead of all to the one that is idle at the moment.
///
/// (`no-hit-lru-scorer` of llm-d-router ebab687, which keeps a list of 1024 pods; here each pod remembers its turn.)
/// Pods of one turn share the better rank. Comparing all with all, it is for the tens of pods that sampling leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHitLruScorer;

impl Scorer for NoHitLruScorer {
    fn name(&self) -> &'static str {
        "no-hit-lru"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        if candidates.iter().any(|pod| pod.cached_share() > 0.0) {
            scores.fill(0.5);
            return;
        }
        let others = candidates.len().saturating_sub(1).max(1) as f64;
        for (candidate, score) in candidates.iter().zip(scores) {
            let turn = candidate.cold_turn();
            let before = candidates.iter().filter(|other| other.cold_turn() < turn).count();
            *score = 1.0 - before as f64 / others;
        }
    }
}
