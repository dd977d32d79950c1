//! Pods that have the prompt, unless they are too busy.

use core::time::Duration;

use super::Filter;
use crate::Error;
use crate::candidate::{Candidate, Candidates};
use crate::credits::Credits;
use crate::latency::LatencyModel;

/// Keeps the pods that are expected to have at least `share` of the prompt cached, if there are any. Unless the best
/// of them would be slower to the first token than the best other pod by more than `budget`: then all are kept.
///
/// The rule of llm-d-router ebab687's `prefix-cache-affinity-filter`, with its default share. It estimates times as
/// tokens in flight over a peak throughput, and gives a budget of 18 s; here times are those of a [`LatencyModel`].
#[derive(Clone, Debug, PartialEq)]
pub struct AffinityFilter {
    share: f64,
    budget: Duration,
    credits: Credits,
    model: LatencyModel,
}

impl Default for AffinityFilter {
    /// 0.8 of the prompt, half a second.
    fn default() -> Self {
        Self {
            share: 0.8,
            budget: Duration::from_millis(500),
            credits: Credits::default(),
            model: LatencyModel::default(),
        }
    }
}

impl AffinityFilter {
    /// Keeps pods from this share on, within this budget.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `share` is not in 0..=1, a time of the model is negative or not finite, or its `least` is 0.
    pub fn new(share: f64, budget: Duration, credits: Credits, model: LatencyModel) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid(alloc::format!("affinity filter: share is 0 to 1, not {share}")));
        }
        model.check()?;
        Ok(Self { share, budget, credits, model })
    }
}

impl Filter for AffinityFilter {
    fn name(&self) -> &'static str {
        "affinity"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        let has_it = |pod: &Candidate<'_>| pod.cached_share() >= self.share && pod.cached_share() > 0.0;
        let (mut with, mut without) = (f64::INFINITY, f64::INFINITY);
        for (candidate, _) in candidates.iter().zip(&*kept).filter(|(_, kept)| **kept) {
            let seconds = self.model.of(&candidate, candidates.prompt_tokens(), &self.credits);
            let best = if has_it(&candidate) { &mut with } else { &mut without };
            *best = best.min(seconds);
        }
        if with.is_infinite() || with > without + self.budget.as_secs_f64() {
            return;
        }
        for (candidate, kept) in candidates.iter().zip(kept) {
            *kept = *kept && has_it(&candidate);
        }
    }
}
