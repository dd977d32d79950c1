//! Filters: which pods may be picked at all.

use core::fmt::Debug;

use crate::candidate::Candidates;

/// Takes pods out of a decision. Pure, like a scorer; filters run in the profile's order, before any scorer.
pub trait Filter: Debug + Send + Sync {
    /// Name in explanations; unique in a profile.
    fn name(&self) -> &str;

    /// Sets `kept[i]` to false for every candidate that may not be picked; `[candidates]`. Rows that
    /// an earlier filter took out are false already and stay so.
    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]);
}

/// Keeps the pods that take new requests (`Router::set_accepting`).
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptingFilter;

impl Filter for AcceptingFilter {
    fn name(&self) -> &'static str {
        "accepting"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        for (candidate, kept) in candidates.iter().zip(kept) {
            *kept &= candidate.is_accepting();
        }
    }
}
