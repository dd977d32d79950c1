//! How busy a pod is.

use super::Scorer;
use crate::Error;
use crate::candidate::Candidates;

/// `1 - min(running + waiting, limit) / limit`: 1 for an idle pod, 0 from `limit` requests on; 0.5 for a
/// pod that never reported.
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
            *score = candidate.load().map_or(0.5, |load| {
                let requests = f64::from(load.running) + f64::from(load.waiting);
                1.0 - requests.min(self.limit) / self.limit
            });
        }
    }
}
