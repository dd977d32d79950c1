//! What this router itself sent where.

use super::Scorer;
use crate::candidate::Candidates;

/// `predicted blocks / searchable blocks`, 0..=1: how much of the prompt, from its start, this router sent to
/// the pod before and has not yet counted as evicted.
///
/// The approximate scorer, for engines without events and for the time before their events arrive. What is
/// predicted is bounded per pod, least recently used first out
/// ([`IndexOptions::max_predicted`](crate::index::IndexOptions::max_predicted)). A prompt without token ids is
/// matched by its text. Evictions that a pod's events tell of do not count here, for the KV-cache scorer sees them:
/// beside it, this one adds to what is held and stands in for what is not announced yet. llm-d's founding prefix scorer (llm-d-inference-scheduler 0.1) keeps one such store of
/// text blocks, but scales its result between the best and the worst pod, so that the smallest of several
/// hits counts like none; this is the share itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixScorer;

impl Scorer for PrefixScorer {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            *score = candidate.predicted_share();
        }
    }
}
