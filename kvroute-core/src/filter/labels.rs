//! Pods by their labels.

use alloc::string::String;
use alloc::vec::Vec;

use super::Filter;
use crate::candidate::Candidates;

/// What a label has to be; as in a Kubernetes label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// The label is there and has one of these values.
    In(String, Vec<String>),
    /// The label is not there, or has none of these values.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
}

/// Keeps the pods whose labels meet all requirements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelFilter {
    requirements: Vec<Requirement>,
}

impl LabelFilter {
    /// All of these have to be met.
    #[must_use]
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        Self { requirements: requirements.into_iter().collect() }
    }
}

impl Filter for LabelFilter {
    fn name(&self) -> &'static str {
        "labels"
    }

    fn filter(&self, candidates: &Candidates<'_>, kept: &mut [bool]) {
        for (candidate, kept) in candidates.iter().zip(kept) {
            let labels = candidate.pod().labels();
            let is_one = |label, values: &[String]| labels.get(label).is_some_and(|v| values.contains(v));
            *kept = *kept
                && self.requirements.iter().all(|requirement| match requirement {
                    Requirement::In(label, values) => is_one(label, values),
                    Requirement::NotIn(label, values) => !is_one(label, values),
                    Requirement::Exists(label) => labels.contains_key(label),
                    Requirement::DoesNotExist(label) => !labels.contains_key(label),
                });
        }
    }
}
