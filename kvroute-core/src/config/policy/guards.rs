//! What may overrule a picker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::problem::Problem;
use super::super::value::present;
use crate::guard::{LoadGuard, WarmUp};

/// What happens if the pod that was picked is much busier than the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GuardConfig {
    /// Nothing.
    None,
    /// The least busy pod takes the request, and has its prefix from then on.
    Spill(SpillConfig),
}

/// When and whereto a busy pod spills over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpillConfig {
    /// A pod is too busy if its requests exceed this many times the mean; 1 or more.
    #[schemars(range(min = 1.0))]
    pub relative: f64,
    /// And if they exceed the mean by more than twice its root, or by more than this; requests.
    pub absolute: u32,
    /// On how many pods a prefix is wanted at most; more of them are not made. Absent: any number.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "u32", range(min = 1))]
    pub max_replicas: Option<u32>,
}

impl Default for SpillConfig {
    fn default() -> Self {
        Self { relative: 1.5, absolute: 32, max_replicas: None }
    }
}

impl GuardConfig {
    pub(super) fn guard(&self) -> Result<Option<LoadGuard>, Problem> {
        let Self::Spill(SpillConfig { relative, absolute, max_replicas }) = self else { return Ok(None) };
        let refused = |_| match max_replicas {
            Some(0) => Problem::found(0, "1 or more").at("max_replicas").at("spill"),
            _ => Problem::found(relative, "a finite number, 1 or more").at("relative").at("spill"),
        };
        LoadGuard::new(*relative, *absolute, max_replicas.unwrap_or(u32::MAX)).map(Some).map_err(refused)
    }
}

/// Whether new pods get requests of which no pod has much.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WarmUpConfig {
    /// Only if they are picked.
    None,
    /// A share of them.
    Divert(WarmUpShare),
}

/// How many requests new pods get, and how long they are new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WarmUpShare {
    /// Of the requests of which no pod has half; 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// A pod is new until it was sent this much prefill work; tokens.
    pub tokens: u64,
}

impl Default for WarmUpShare {
    fn default() -> Self {
        Self { share: 0.25, tokens: 16_384 }
    }
}

impl WarmUpConfig {
    pub(super) fn warm_up(&self) -> Result<Option<WarmUp>, Problem> {
        let Self::Divert(WarmUpShare { share, tokens }) = self else { return Ok(None) };
        let refused = |_| Problem::found(share, "a number from 0 to 1").at("share").at("divert");
        WarmUp::new(*share, *tokens).map(Some).map_err(refused)
    }
}
