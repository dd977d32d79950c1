//! Pods that the request names.

use super::Filter;
use crate::candidate::Candidates;

/// Keeps the pods that the request names ([`Request::subset`](crate::Request::subset)), all ranks of each. A request
/// that names none at all is content with any; one whose names are no pod's, or whose list is empty, finds none
/// (Envoy's subset hint in the Endpoint Picker Protocol, Gateway API inference extension proposal 004).
#[derive(Clone, Copy, Debug, Default)]
pub struct SubsetFilter;

impl Filter for SubsetFilter {
    fn name(&self) -> &'static str {
        "subset"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        let Some(subset) = candidates.request().subset else { return };
        for (candidate, kept) in candidates.iter().zip(kept) {
            *kept = *kept && subset.contains(&candidate.pod().name());
        }
    }
}
