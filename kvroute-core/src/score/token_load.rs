//! How much prefill work a pod would have with the request.

use super::Scorer;
use crate::Error;
use crate::candidate::Candidates;
use crate::credits::Credits;

/// `1 - min(1, (booked + uncached) / limit / capacity)`, 0..=1, in tokens: `booked` is the prefill work this router has
/// in flight on the pod, `uncached` what the pod would have to compute for this request.
///
/// After `token-load-scorer` of llm-d-router ebab687, with its default limit of 4 194 304 tokens. That leaves equal
/// steps for equal tokens up to a queue of minutes, and differences of a ten-thousandth for a prompt: it is meant to
/// rate alone, or where others are even.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLoadScorer {
    limit: f64,
    credits: Credits,
}

impl Default for TokenLoadScorer {
    fn default() -> Self {
        Self { limit: 4_194_304.0, credits: Credits::default() }
    }
}

impl TokenLoadScorer {
    /// Scores 0 from `limit` tokens on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `limit` is 0.
    pub fn new(limit: u64, credits: Credits) -> Result<Self, Error> {
        if limit == 0 {
            return Err(Error::invalid(
                "token-load scorer: a limit of 0 tokens leaves nothing to tell pods apart",
            ));
        }
        Ok(Self { limit: limit as f64, credits })
    }
}

impl Scorer for TokenLoadScorer {
    fn name(&self) -> &'static str {
        "token-load"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            let tokens =
                candidate.bookings().prefill_tokens as f64 + candidate.credited_uncached(&self.credits);
            *score = 1.0 - (tokens / self.limit / candidate.pod().capacity()).min(1.0);
        }
    }
}
