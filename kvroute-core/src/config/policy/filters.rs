//! Filters.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::problem::{Problem, shown};
use super::super::value::{labels, text, texts};
use super::terms::{CreditsConfig, ModelConfig};
use crate::filter::{
    AcceptingFilter, AffinityFilter, Filter, HealthFilter, LabelFilter, LoraRoomFilter, ModelFilter,
    OverloadFilter, Requirement, RoleFilter, SubsetFilter,
};
use crate::pod::Role;

/// A filter, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FilterConfig {
    /// Keeps the pods that take new requests.
    Accepting,
    /// Keeps the pods whose cache domain serves the model.
    Model,
    /// Keeps the pods that do what this role does.
    Role(Role),
    /// Keeps the pods that the request names, if it names any.
    Subset,
    /// Keeps the pods with these labels.
    Labels(LabelsConfig),
    /// Keeps the pods whose last requests did not all fail; if all fail, all.
    Health(HealthConfig),
    /// Keeps the pods whose last load report stayed below the bounds of `overload`; if none did, all.
    Overload,
    /// Keeps the pods that have the request's LoRA adapter in use or room for it; if none has, all.
    LoraRoom,
    /// Keeps the pods that have most of the prompt, unless they are too busy.
    Affinity(AffinityConfig),
}

/// What labels have to be; as in a Kubernetes label selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelsConfig {
    /// Labels with the value they have to have.
    #[serde(rename = "match", deserialize_with = "labels")]
    pub matching: BTreeMap<String, String>,
    /// What else is required of labels.
    pub expressions: Vec<RequirementConfig>,
}

/// What is required of one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequirementConfig {
    /// The label.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1))]
    pub label: String,
    /// What is required.
    pub operator: Operator,
    /// Of which values, for `in` and `not-in`.
    #[serde(default, deserialize_with = "texts")]
    pub values: Vec<String>,
}

/// What is required of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// It is there and has one of the values.
    In,
    /// It is not there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// The `health` filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// Failures in a row from which on a pod is left out.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// For how long, counted from the last failed request's dispatch; seconds.
    pub pause_seconds: u64,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { failures: 3, pause_seconds: 10 }
    }
}

/// The `affinity` filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AffinityConfig {
    /// Share of the prompt from which on a pod is one that has it; 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// How much slower to the first token the best of those may be than the best other; milliseconds.
    pub budget_ms: u64,
    /// What a matched block counts for in these times.
    pub credits: CreditsConfig,
    /// How long pods take.
    pub model: ModelConfig,
}

impl Default for AffinityConfig {
    fn default() -> Self {
        Self { share: 0.8, budget_ms: 500, credits: CreditsConfig::default(), model: ModelConfig::default() }
    }
}

pub(super) fn build(filters: &[FilterConfig]) -> Result<Vec<Box<dyn Filter>>, Problem> {
    let mut built: Vec<Box<dyn Filter>> = Vec::with_capacity(filters.len());
    for (at, filter) in filters.iter().enumerate() {
        let filter = filter.filter().map_err(|p| p.at(at))?;
        let name = filter.name();
        if let Some(first) = built.iter().position(|other| other.name() == name) {
            return Err(Problem::new(format!("`{name}` is there already, at [{first}]")).at(at));
        }
        built.push(filter);
    }
    Ok(built)
}

impl FilterConfig {
    fn filter(&self) -> Result<Box<dyn Filter>, Problem> {
        Ok(match self {
            Self::Accepting => Box::new(AcceptingFilter),
            Self::Model => Box::new(ModelFilter),
            Self::Role(role) => Box::new(RoleFilter::new(*role)),
            Self::Subset => Box::new(SubsetFilter),
            Self::Labels(labels) => Box::new(labels.filter().map_err(|p| p.at("labels"))?),
            Self::Health(HealthConfig { failures: 0, .. }) => {
                return Err(Problem::found(0, "1 or more").at("failures").at("health"));
            }
            Self::Health(HealthConfig { failures, pause_seconds }) => {
                Box::new(HealthFilter { failures: *failures, pause: Duration::from_secs(*pause_seconds) })
            }
            Self::Overload => Box::new(OverloadFilter),
            Self::LoraRoom => Box::new(LoraRoomFilter),
            Self::Affinity(affinity) => Box::new(affinity.filter().map_err(|p| p.at("affinity"))?),
        })
    }
}

impl LabelsConfig {
    fn filter(&self) -> Result<LabelFilter, Problem> {
        if self.matching.is_empty() && self.expressions.is_empty() {
            return Err(Problem::new("found no requirement, expected `match`, `expressions` or both"));
        }
        let equal =
            |(label, value): (&String, &String)| Requirement::In(label.clone(), [value.clone()].into());
        let mut requirements: Vec<_> = self.matching.iter().map(equal).collect();
        for (at, RequirementConfig { label, operator, values }) in self.expressions.iter().enumerate() {
            let needs_values = matches!(operator, Operator::In | Operator::NotIn);
            if needs_values == values.is_empty() {
                let problem = if needs_values {
                    Problem::new("found no `values`, expected one or more for this operator")
                } else {
                    Problem::found(shown(&values.join(", ")), "none for this operator").at("values")
                };
                return Err(problem.at(at).at("expressions"));
            }
            let (label, values) = (label.clone(), values.clone());
            requirements.push(match operator {
                Operator::In => Requirement::In(label, values),
                Operator::NotIn => Requirement::NotIn(label, values),
                Operator::Exists => Requirement::Exists(label),
                Operator::DoesNotExist => Requirement::DoesNotExist(label),
            });
        }
        Ok(LabelFilter::new(requirements))
    }
}

impl AffinityConfig {
    fn filter(&self) -> Result<AffinityFilter, Problem> {
        let Self { share, budget_ms, credits, model } = self;
        let credits = credits.credits().map_err(|p| p.at("credits"))?;
        let model = model.model().map_err(|p| p.at("model"))?;
        let filter = AffinityFilter::new(*share, Duration::from_millis(*budget_ms), credits, model);
        filter.map_err(|_| Problem::found(*share, "a number from 0 to 1").at("share"))
    }
}
