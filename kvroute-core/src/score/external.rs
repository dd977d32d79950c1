//! What the embedder says.

use alloc::string::String;

use super::Scorer;
use crate::candidate::Candidates;

/// The value that the request's score column of this name ([`ScoreColumn`](crate::ScoreColumn)) has for the pod; 0
/// for pods that are not in it, and for all if the request brings no such column. For scorers that are
/// written in another language, or computed elsewhere.
#[derive(Clone, Debug)]
pub struct ExternalScorer {
    name: String,
}

impl ExternalScorer {
    /// A scorer that reads the columns called `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

impl Scorer for ExternalScorer {
    fn name(&self) -> &str {
        &self.name
    }

    fn column(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        for column in candidates.request().scores.iter().filter(|column| column.scorer == self.name) {
            for (&pod, &value) in column.pods.iter().zip(column.values) {
                if let Some(row) = candidates.row(pod) {
                    scores[row] = value;
                }
            }
        }
    }
}
