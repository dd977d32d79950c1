//! What a request costs the pod and those it has already.

use super::{Scorer, cheapest};
use crate::candidate::Candidates;
use crate::credits::Credits;

/// `least cost / cost`, 0..=1: 1 for the cheapest pod, 0.5 for one of twice its cost. With
///
/// `cost = (uncached + booked) * (in flight + 1) / capacity`
///
/// where `uncached` are the tokens the pod would compute for the request, by credits and at least 1, `booked` the
/// prefill tokens that this router has in flight there, and `in flight` the requests that the pod has. Work times the
/// requests that wait for it: a pod with a hit is left as soon as that is dearer than computing the prompt elsewhere.
///
/// LMetric (arXiv 2603.15202), as in vllm-router 0.1.17's `kv_aware`. The floor of one token keeps pods apart that
/// have the whole prompt. A ratio, so that a softmax temperature means the same for short and long prompts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CostScorer {
    credits: Credits,
}

impl CostScorer {
    /// With these credits for matched blocks.
    #[must_use]
    pub fn new(credits: Credits) -> Self {
        Self { credits }
    }
}

impl Scorer for CostScorer {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        cheapest(candidates, scores, |pod| {
            let uncached = pod.credited_uncached(&self.credits).max(1.0);
            let work = uncached + pod.bookings().prefill_tokens as f64;
            work * (pod.in_flight() as f64 + 1.0) / pod.pod().capacity()
        });
    }
}
