//! A profile's part in a decision.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::is_default;
use crate::decision::Reason;

/// How a profile chose. *Places* are positions in the decision's `pods`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ProfileRecord<'a> {
    /// Its name.
    pub profile: Cow<'a, str>,
    /// Its picker.
    pub picker: Cow<'a, str>,
    /// Pods that a filter dropped. Left out if none was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dropped: Vec<Dropped<'a>>,
    /// Places of the pods that the filters kept, in order.
    #[cfg_attr(feature = "config", schemars(with = "Vec<u32>"))]
    pub kept: Cow<'a, [u32]>,
    /// What each scorer said of them. Left out, as are the totals, where no pod was chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scores: Vec<Scores<'a>>,
    /// Weighted sums of their scores; `[kept]`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "config", schemars(with = "Vec<f64>"))]
    pub totals: Cow<'a, [f64]>,
    /// Place of the pod that was taken; left out if none was.
    #[serde(default, skip_serializing_if = "is_default")]
    pub picked: Option<u32>,
    /// Why that one.
    pub reason: Reason,
    /// Place of the pod that the picker picked, where something else was taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overruled: Option<u32>,
    /// Places of the next best, best first, where the profile asks for them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fallbacks: Vec<u32>,
    /// Why the pod is not used after all, of one that would prefill.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unused: Option<Cow<'a, str>>,
    /// Tokens of the prompt that the pod held. Left out if none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub matched_tokens: usize,
    /// Tokens of the prompt that it has to compute, as well as can be told. Left out if none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub uncached_tokens: usize,
}

/// A pod that a filter dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Dropped<'a> {
    /// Its place.
    pub pod: u32,
    /// The first filter that did. "cache-domain": it cannot compute for the pod that answers.
    pub by: Cow<'a, str>,
}

/// What a scorer said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Scores<'a> {
    /// Its name.
    pub scorer: Cow<'a, str>,
    /// What its scores count.
    pub weight: f64,
    /// Of the pods that were kept, 0..=1; `[kept]`.
    #[cfg_attr(feature = "config", schemars(with = "Vec<f64>"))]
    pub values: Cow<'a, [f64]>,
}

impl ProfileRecord<'_> {
    /// Place of the pod that was taken and is used.
    #[must_use]
    pub fn used(&self) -> Option<u32> {
        self.picked.filter(|_| self.unused.is_none())
    }

    /// Row of a pod among those that were kept, by its place.
    #[must_use]
    pub fn row(&self, place: u32) -> Option<usize> {
        self.kept.binary_search(&place).ok()
    }

    /// Weighted sum of a pod's scores, by its place; `None` if it was dropped.
    #[must_use]
    pub fn total(&self, place: u32) -> Option<f64> {
        self.totals.get(self.row(place)?).copied()
    }

    /// The filter that dropped a pod.
    #[must_use]
    pub fn dropped_by(&self, place: u32) -> Option<&str> {
        self.dropped.iter().find(|dropped| dropped.pod == place).map(|dropped| &*dropped.by)
    }
}
