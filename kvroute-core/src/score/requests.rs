//! Fewest requests, compared with the other pods.

use super::{Scorer, least};
use crate::candidate::Candidates;

/// `(most - waiting) / (most - fewest)` over the pods that are rated, 0..=1; 1 for all where all wait equally. Of a
/// pod that never reported, nothing waits. (`queue-scorer` of llm-d-router ebab687.)
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueScorer;

impl Scorer for QueueScorer {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        least(candidates, scores, |pod| pod.load().map_or(0.0, |load| f64::from(load.waiting)));
    }
}

/// `(most - requests) / (most - fewest)` over the pods that are rated, 0..=1; 1 for all where all have as many. What
/// is counted are the requests that the pod has, as well as can be told
/// ([`Candidate::in_flight`](crate::candidate::Candidate::in_flight)), divided by its capacity.
///
/// After `running-requests-size-scorer` of llm-d-router ebab687, which counts what a pod last reported as running.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunningScorer;

impl Scorer for RunningScorer {
    fn name(&self) -> &'static str {
        "running"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        least(candidates, scores, |pod| pod.relative_load());
    }
}
