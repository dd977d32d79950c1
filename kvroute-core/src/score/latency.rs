//! How long until the first token.

use super::{Scorer, cheapest};
use crate::candidate::{Candidate, Candidates};
use crate::credits::Credits;
use crate::{Error, latency::LatencyModel};

/// `least time / time`, 0..=1: 1 for the pod that is expected to send the request's first token soonest, 0.5 for one
/// that takes twice as long. The time is [`LatencyModel`]'s for the tokens the pod would compute, by credits, behind
/// the prefill work that this router has in flight there, among the requests that the pod has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyScorer {
    credits: Credits,
    model: LatencyModel,
}

impl LatencyScorer {
    /// With these credits for matched blocks, and times of this model.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if a time of the model is negative or not finite, or `least` is 0.
    pub fn new(credits: Credits, model: LatencyModel) -> Result<Self, Error> {
        model.check()?;
        Ok(Self { credits, model })
    }
}

impl Scorer for LatencyScorer {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let seconds = |pod: Candidate<'_>| self.model.of(&pod, candidates.prompt_tokens(), &self.credits);
        cheapest(candidates, scores, seconds);
    }
}
