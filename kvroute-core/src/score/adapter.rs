//! Whether a pod has the LoRA adapter at hand.

use super::Scorer;
use crate::candidate::Candidates;
use crate::load::AdapterFit;

/// How a pod stands to the adapter that the request asks for: 1 where running requests use it, 0.8 where there is
/// room for it, 0.6 where only waiting requests ask for it, 0 where there is no room or the pod never reported its
/// adapters. A request without an adapter scores 0 everywhere. (`lora-affinity-scorer` of llm-d-router ebab687.)
#[derive(Clone, Copy, Debug, Default)]
pub struct LoraAffinityScorer;

impl Scorer for LoraAffinityScorer {
    fn name(&self) -> &'static str {
        "lora-affinity"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            *score = match candidate.adapter() {
                Some(AdapterFit::Running) => 1.0,
                Some(AdapterFit::Room) => 0.8,
                Some(AdapterFit::Waiting) => 0.6,
                Some(AdapterFit::Full | AdapterFit::Unknown) | None => 0.0,
            };
        }
    }
}
