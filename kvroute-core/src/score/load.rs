//! How busy a pod is.

use super::Scorer;
use crate::Error;
use crate::candidate::Candidates;

/// `1 - min(requests, limit) / limit`, 0..=1: 1 for an idle pod, 0 from `limit` requests on.
///
/// `requests` are those the pod reported, running and waiting, and what this router sent there and saw finish
/// since; of a pod that never reported, what this router has in flight there
/// ([`Candidate::in_flight`](crate::candidate::Candidate::in_flight)).
///
/// The default limit, 128, is the queue threshold of llm-d's load-aware scorer (llm-d-router ebab687). That
/// one looks at waiting requests alone and never exceeds 0.5; running requests slow a pod's prefills
/// down too.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadScorer {
    limit: f64,
}

impl Default for LoadScorer {
    fn default() -> Self {
        Self { limit: 128.0 }
    }
}

impl LoadScorer {
    /// Scores 0 from `limit` requests on.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `limit` is 0.
    pub fn new(limit: u32) -> Result<Self, Error> {
        if limit == 0 {
            return Err(Error::invalid(
                "load scorer: a limit of 0 requests leaves nothing to tell pods apart",
            ));
        }
        Ok(Self { limit: f64::from(limit) })
    }
}

impl Scorer for LoadScorer {
    fn name(&self) -> &'static str {
        "load"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for (candidate, score) in candidates.iter().zip(scores) {
            *score = 1.0 - (candidate.in_flight() as f64).min(self.limit) / self.limit;
        }
    }
}
