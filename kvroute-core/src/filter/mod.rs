//! Filters: which pods may be picked at all.
//!
//! Some are strict: where they keep nothing, there is no pod for the request. Others *steer*: where they would keep
//! nothing they keep all, so that a fleet that is saturated, or ailing, still answers with the least bad pod.

mod affinity;
mod labels;
mod steering;
mod subset;

use core::fmt::Debug;

pub use affinity::AffinityFilter;
pub use labels::{LabelFilter, Requirement};
pub use steering::{HealthFilter, LoraRoomFilter, OverloadFilter};
pub use subset::SubsetFilter;

use crate::candidate::{Candidate, Candidates};
use crate::pod::Role;

/// Takes pods out of a decision. Pure, like a scorer; filters run in the profile's order, before any scorer, and all
/// see every pod that is considered.
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

/// Keeps the pods that do what is wanted: those of this role, and those that do either.
#[derive(Clone, Copy, Debug)]
pub struct RoleFilter {
    wanted: Role,
}

impl RoleFilter {
    /// Keeps the pods that do what a pod of the role `wanted` does.
    #[must_use]
    pub fn new(wanted: Role) -> Self {
        Self { wanted }
    }
}

impl Filter for RoleFilter {
    fn name(&self) -> &'static str {
        "role"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        for (candidate, kept) in candidates.iter().zip(kept) {
            *kept &= candidate.pod().role().serves(self.wanted);
        }
    }
}

/// Keeps the pods whose cache domain serves the model the request asks for. A request that names none is
/// content with any, a domain without names serves any.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelFilter;

impl Filter for ModelFilter {
    fn name(&self) -> &'static str {
        "model"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        let Some(model) = candidates.request().model else { return };
        for (candidate, kept) in candidates.iter().zip(kept) {
            *kept &= candidate.pod().domain().serves(Some(model));
        }
    }
}

/// Keeps the pods that `is_good`, unless that would leave none.
fn steer(candidates: &Candidates<'_>, kept: &mut [bool], is_good: impl Fn(&Candidate<'_>) -> bool) {
    let is_left = candidates.iter().zip(&*kept).any(|(candidate, kept)| *kept && is_good(&candidate));
    if !is_left {
        return;
    }
    for (candidate, kept) in candidates.iter().zip(kept) {
        *kept = *kept && is_good(&candidate);
    }
}
