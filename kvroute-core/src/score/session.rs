//! Where the conversation is at home.

use super::Scorer;
use crate::candidate::Candidates;

/// 1 for the pod that served the request's session last, 0 for others and for requests without a session.
///
/// The session is named by an id, which the router remembers for a time, or by a token that the client
/// carries ([`Session`](crate::request::Session)). llm-d's session scorer (llm-d-router ebab687) has the same
/// two ways; its token is the pod's name in base64, readable and not signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionScorer;

impl Scorer for SessionScorer {
    fn name(&self) -> &'static str {
        "session"
    }

    fn score(&self, candidates: &Candidates<'_>, scores: &mut [f64]) {
        if let Some(score) = candidates.session_row().and_then(|row| scores.get_mut(row)) {
            *score = 1.0;
        }
    }
}
