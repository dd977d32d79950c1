//! What a request costs the pod, those it has already, and those that would come for what is cached.

use super::{Scorer, cheapest};
use crate::Error;
use crate::candidate::Candidates;
use crate::credits::Credits;

/// `least cost / cost`, 0..=1: 1 for the cheapest pod, 0.5 for one of twice its cost. With
///
/// `cost = ((uncached + booked) * (in flight + 1) + displacement * uncached * (mean in flight + 1)) / capacity`
///
/// where `uncached` are the tokens the pod would compute for the request, by credits and at least 1, `booked` the
/// prefill tokens that this router has in flight there, `in flight` the requests that the pod has, and the mean that
/// of all pods that are rated.
///
/// The first part is work times the requests that wait for it: a pod with a hit is left as soon as that is dearer than
/// computing the prompt elsewhere. It is LMetric's cost (arXiv 2603.15202), as in vllm-router 0.1.17's `kv_aware`.
/// The second is what that leaves out: what is computed anew takes the place of what others would have found cached.
/// Without it a prefix is copied to another pod at every little queue, and caches that are just large enough for all
/// prefixes are too small for all copies. It is a cost to the fleet, hence the mean, and the same for all pods where
/// nothing is cached.
///
/// A small weight is enough, and too large a one keeps a hot prefix where it is: of 0 to 8, 0.25 did best over all
/// workloads of `cargo lab`, together with a [`KvCacheScorer`](super::KvCacheScorer) of weight 0.6.
///
/// The floor of one token keeps pods apart that have the whole prompt. A ratio, so that a softmax temperature means
/// the same for short and long prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct CostScorer {
    displacement: f64,
    credits: Credits,
}

impl Default for CostScorer {
    fn default() -> Self {
        Self { displacement: Self::DISPLACEMENT, credits: Credits::default() }
    }
}

impl CostScorer {
    /// What displacing a token counts by default, against computing it.
    pub const DISPLACEMENT: f64 = 0.25;

    /// With this weight of what is displaced, and these credits.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the weight is negative or not finite.
    pub fn new(displacement: f64, credits: Credits) -> Result<Self, Error> {
        if displacement.is_finite() && displacement >= 0.0 {
            return Ok(Self { displacement, credits });
        }
        Err(Error::invalid(alloc::format!(
            "cost scorer: displacement is finite and not negative, not {displacement}"
        )))
    }
}

impl Scorer for CostScorer {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        let in_flight: f64 = candidates.iter().map(|pod| pod.in_flight() as f64).sum();
        let displaced = self.displacement * (in_flight / candidates.len().max(1) as f64 + 1.0);
        cheapest(candidates, scores, |pod| {
            let uncached = pod.credited_uncached(&self.credits).max(1.0);
            let work = uncached + pod.bookings().prefill_tokens as f64;
            (work * (pod.in_flight() as f64 + 1.0) + displaced * uncached) / pod.pod().capacity()
        });
    }
}
