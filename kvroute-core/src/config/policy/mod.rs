//! The policy: profiles of filters, weighted scorers, a picker and what may overrule it.

mod filters;
mod guards;
mod picker;
mod scorers;
mod terms;

use alloc::vec::Vec;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use filters::{AffinityConfig, FilterConfig, HealthConfig, LabelsConfig, Operator, RequirementConfig};
pub use guards::{GuardConfig, SpillConfig, WarmUpConfig, WarmUpShare};
pub use picker::{PickerConfig, SoftmaxConfig};
pub use scorers::{
    CostConfig, KvCacheConfig, LatencyConfig, LoadConfig, ScorersConfig, TokenLoadConfig, TopologyConfig,
    TopologyLevel, WeightConfig,
};
pub use terms::{CreditsConfig, ModelConfig, TrustCreditsConfig};

use super::options::count;
use super::problem::Problem;
use super::value::present;
use crate::pod::Role;
use crate::policy::{Policy, PrefillPolicy, Sampling};
use crate::profile::Profile;

/// How pods are chosen: a preset, and what is to differ from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// What profiles are made of where nothing else is said.
    pub preset: Preset,
    /// Which pods are looked at in a large fleet.
    pub sampling: SamplingConfig,
    /// Picks the pod that answers.
    pub decode: ProfileConfig,
    /// Picks a pod that computes the prompt first. Absent: requests have one pod each.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "PrefillConfig")]
    pub prefill: Option<PrefillConfig>,
}

/// Profiles known by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Preset {
    /// The cheapest pod of those that answer: work times requests, and what it displaces from caches (cost 1), with a
    /// leaning to those that have much of the prompt (kv-cache 0.6), and to the session's where two are nearly even
    /// (session 0.02).
    #[default]
    Cost,
    /// The scorers of llm-d's cache-aware routing demo with its weights (kv-cache 5, prefix 3, session 2,
    /// load 1) over the pods that take requests, serve the model and have the role; the highest total.
    LlmDDemo,
    /// A pod that has the prompt, unless it is too busy; of those the one with the least prefill work.
    Affinity,
}

/// Which pods are looked at in a large fleet: those that have most of the prompt, the session's, and some others by
/// lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingConfig {
    /// Fleets of up to so many pods are looked at whole.
    pub above: u64,
    /// Most pods that have some of the prompt.
    pub holders: u64,
    /// Others.
    pub others: u64,
}

impl Default for SamplingConfig {
    fn default() -> Self {
        Self { above: 32, holders: 32, others: 16 }
    }
}

/// A profile. What is left out is the preset's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileConfig {
    /// Seed of the choice among equals.
    pub seed: u64,
    /// Which pods may be picked at all, one filter after the other. Given, they replace the preset's.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Vec<FilterConfig>")]
    pub filters: Option<Vec<FilterConfig>>,
    /// What pods are rated by. Given, they replace all of the preset's; at least one.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "ScorersConfig")]
    pub scorers: Option<ScorersConfig>,
    /// Which of the rated pods is taken.
    pub picker: PickerConfig,
    /// Whether new pods get requests of which no pod has much, to warm up. What is left out is the preset's.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WarmUpConfig")]
    pub warm_up: Option<WarmUpConfig>,
    /// What happens if the pod that was picked is much busier than the others. What is left out is the preset's.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "GuardConfig")]
    pub guard: Option<GuardConfig>,
    /// How many of the next best pods are named as well.
    #[schemars(range(max = 16))]
    pub fallbacks: u32,
}

/// When a prompt is computed by a pod of its own, and by which. Beside the threshold it has a profile's
/// keys; what is left out is the preset's for pods that prefill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillConfig {
    /// A prompt goes there if the decode pod would have to compute more than this; tokens. Those of a
    /// prompt that is only known as text are estimated at four bytes each.
    pub max_uncached_tokens: u64,
    /// Shorter prompts than this never do; tokens.
    #[serde(default)]
    pub min_prompt_tokens: u64,
    /// Nor if the prefill pod has more prefill work in flight than this; tokens. Absent: however much it has.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "u64")]
    pub max_prefill_load: Option<u64>,
    /// Seed of the choice among equals.
    #[serde(default)]
    pub seed: u64,
    /// Which pods may be picked at all, one filter after the other. Given, they replace the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Vec<FilterConfig>")]
    pub filters: Option<Vec<FilterConfig>>,
    /// What pods are rated by. Given, they replace all of the preset's; at least one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "ScorersConfig")]
    pub scorers: Option<ScorersConfig>,
    /// Which of the rated pods is taken.
    #[serde(default)]
    pub picker: PickerConfig,
    /// Whether new pods get requests of which no pod has much, to warm up. What is left out is the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WarmUpConfig")]
    pub warm_up: Option<WarmUpConfig>,
    /// What happens if the pod that was picked is much busier than the others. What is left out is the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "GuardConfig")]
    pub guard: Option<GuardConfig>,
    /// How many of the next best pods are named as well.
    #[serde(default)]
    #[schemars(range(max = 16))]
    pub fallbacks: u32,
}

impl PolicyConfig {
    pub(super) fn policy(&self) -> Result<Policy, Problem> {
        let decode = self.decode.profile(self.preset, Role::Decode).map_err(|p| p.at("decode"))?;
        let prefill = self.prefill.as_ref().map(|prefill| prefill.policy(self.preset));
        let prefill = prefill.transpose().map_err(|p| p.at("prefill"))?;
        let SamplingConfig { above, holders, others } = self.sampling;
        if holders == 0 && others == 0 {
            let problem = Problem::new("found no pods to look at, expected `holders` or `others` above 0");
            return Err(problem.at("sampling"));
        }
        let sampling = Sampling { above: count(above), holders: count(holders), others: count(others) };
        Ok(Policy { decode, prefill, sampling })
    }
}

impl PrefillConfig {
    /// The preset's, with this threshold.
    #[must_use]
    pub fn new(max_uncached_tokens: u64) -> Self {
        Self {
            max_uncached_tokens,
            min_prompt_tokens: 0,
            max_prefill_load: None,
            seed: 0,
            filters: None,
            scorers: None,
            picker: PickerConfig::default(),
            warm_up: None,
            guard: None,
            fallbacks: 0,
        }
    }

    fn policy(&self, preset: Preset) -> Result<PrefillPolicy, Problem> {
        let Self { max_uncached_tokens, min_prompt_tokens, max_prefill_load, .. } = *self;
        let Self { seed, filters, scorers, picker, warm_up, guard, fallbacks, .. } = self.clone();
        let profile = ProfileConfig { seed, filters, scorers, picker, warm_up, guard, fallbacks };
        Ok(PrefillPolicy {
            min_prompt_tokens: count(min_prompt_tokens),
            max_prefill_load: max_prefill_load.unwrap_or(u64::MAX),
            ..PrefillPolicy::new(profile.profile(preset, Role::Prefill)?, count(max_uncached_tokens))
        })
    }
}

impl ProfileConfig {
    /// Most pods that can be asked for besides the one that is taken.
    const MAX_FALLBACKS: u32 = 16;

    fn profile(&self, preset: Preset, role: Role) -> Result<Profile, Problem> {
        let mut profile = match preset {
            Preset::LlmDDemo => Profile::llm_d_demo(role),
            Preset::Cost => Profile::cost(role),
            Preset::Affinity => Profile::affinity(role),
        };
        profile.seed = self.seed;
        profile.picker = self.picker.picker().map_err(|p| p.at("picker"))?;
        if let Some(filters) = &self.filters {
            profile.filters = filters::build(filters).map_err(|p| p.at("filters"))?;
        }
        if let Some(scorers) = &self.scorers {
            profile.scorers = scorers.build().map_err(|p| p.at("scorers"))?;
        }
        if let Some(warm_up) = &self.warm_up {
            profile.warm_up = warm_up.warm_up().map_err(|p| p.at("warm_up"))?;
        }
        if let Some(guard) = &self.guard {
            profile.guard = guard.guard().map_err(|p| p.at("guard"))?;
        }
        if self.fallbacks > Self::MAX_FALLBACKS {
            let expected = alloc::format!("{} at most", Self::MAX_FALLBACKS);
            return Err(Problem::found(self.fallbacks, expected).at("fallbacks"));
        }
        profile.fallbacks = count(self.fallbacks.into());
        Ok(profile)
    }
}
