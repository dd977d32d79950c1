//! The policy: profiles of filters, weighted scorers and a picker.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::value::{mapping, present};
use crate::filter::{AcceptingFilter, Filter, ModelFilter, RoleFilter};
use crate::pick::MaxScorePicker;
use crate::pod::Role;
use crate::profile::{Policy, PrefillPolicy, Profile};
use crate::score::{ExternalScorer, KvCacheScorer, LoadScorer, PrefixScorer, Scorer, SessionScorer};
use crate::{Error, Tier};

/// How pods are chosen: a preset, and what is to differ from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// What profiles are made of where nothing else is said.
    pub preset: Preset,
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
    /// The scorers of llm-d's cache-aware routing demo with its weights (kv-cache 5, prefix 3, session 2,
    /// load 1) over the pods that take requests, serve the model and have the role; the highest total.
    #[default]
    LlmDDemo,
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
}

/// When a prompt is computed by a pod of its own, and by which. Beside the threshold it has a profile's
/// keys; what is left out is the preset's for pods that prefill.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillConfig {
    /// A prompt goes there if the decode pod would have to compute more than this; tokens. Those of a
    /// prompt that is only known as text are estimated at four bytes each.
    pub max_uncached_tokens: u64,
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
}

/// A filter, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FilterConfig {
    /// Keeps the pods that take new requests.
    Accepting,
    /// Keeps the pods whose cache domain serves the model.
    Model,
    /// Keeps the pods that do what this role does.
    Role(Role),
}

/// Scorers with their weights; one that is not named is not asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScorersConfig {
    /// How much of the prompt the pod holds, as its events say.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "KvCacheConfig")]
    pub kv_cache: Option<KvCacheConfig>,
    /// How much of the prompt this router sent to the pod before.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub prefix: Option<WeightConfig>,
    /// Whether the pod served the request's session last.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub session: Option<WeightConfig>,
    /// How far the pod is from being full.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "LoadConfig")]
    pub load: Option<LoadConfig>,
    /// Scorers whose values come with each request, in a score column of this name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "mapping")]
    pub external: BTreeMap<String, WeightConfig>,
}

/// The `kv-cache` scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvCacheConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// What a block counts for, by where it lies.
    #[serde(default)]
    pub credits: CreditsConfig,
}

/// What a block counts for, by where it lies: 0 to 1. The defaults are vllm-router's (0.1.17).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CreditsConfig {
    /// Device memory.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub gpu: f64,
    /// Host memory.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub cpu: f64,
    /// Local storage.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub disk: f64,
    /// A store shared with others.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub external: f64,
}

impl Default for CreditsConfig {
    fn default() -> Self {
        Self { gpu: 1.0, cpu: 0.8, disk: 0.3, external: 0.6 }
    }
}

/// A scorer without settings of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
}

/// The `load` scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// Requests, running and waiting, from which on a pod scores 0.
    #[serde(default = "LoadConfig::default_limit")]
    #[schemars(range(min = 1))]
    pub limit: u32,
}

impl LoadConfig {
    pub(super) const fn default_limit() -> u32 {
        128
    }
}

/// Which of the rated pods is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PickerConfig {
    /// The one with the highest total; among equals, the request's nonce and the seed decide.
    #[default]
    MaxScore,
}

impl PolicyConfig {
    pub(super) fn policy(&self) -> Result<Policy, Problem> {
        let decode = self.decode.profile(self.preset, Role::Decode).map_err(|p| p.at("decode"))?;
        let prefill = self.prefill.as_ref().map(|prefill| prefill.policy(self.preset));
        Ok(Policy { decode, prefill: prefill.transpose().map_err(|p| p.at("prefill"))? })
    }
}

impl PrefillConfig {
    fn policy(&self, preset: Preset) -> Result<PrefillPolicy, Problem> {
        let Self { max_uncached_tokens, seed, filters, scorers, picker } = self.clone();
        let max_uncached_tokens = usize::try_from(max_uncached_tokens).unwrap_or(usize::MAX);
        let profile = ProfileConfig { seed, filters, scorers, picker }.profile(preset, Role::Prefill)?;
        Ok(PrefillPolicy { profile, max_uncached_tokens })
    }
}

impl ProfileConfig {
    fn profile(&self, preset: Preset, role: Role) -> Result<Profile, Problem> {
        let mut profile = match preset {
            Preset::LlmDDemo => Profile::llm_d_demo(role),
        };
        profile.seed = self.seed;
        profile.picker = match self.picker {
            PickerConfig::MaxScore => Box::new(MaxScorePicker),
        };
        if let Some(filters) = &self.filters {
            profile.filters = build_filters(filters).map_err(|p| p.at("filters"))?;
        }
        if let Some(scorers) = &self.scorers {
            profile.scorers.clear();
            scorers.add_to(&mut profile).map_err(|p| p.at("scorers"))?;
        }
        Ok(profile)
    }
}

fn build_filters(filters: &[FilterConfig]) -> Result<Vec<Box<dyn Filter>>, Problem> {
    let mut built: Vec<Box<dyn Filter>> = Vec::with_capacity(filters.len());
    for (at, filter) in filters.iter().enumerate() {
        let filter: Box<dyn Filter> = match filter {
            FilterConfig::Accepting => Box::new(AcceptingFilter),
            FilterConfig::Model => Box::new(ModelFilter),
            FilterConfig::Role(role) => Box::new(RoleFilter::new(*role)),
        };
        let name = filter.name();
        if let Some(first) = built.iter().position(|other| other.name() == name) {
            return Err(Problem::new(format!("`{name}` is there already, at [{first}]")).at(at));
        }
        built.push(filter);
    }
    Ok(built)
}

impl ScorersConfig {
    /// Names of the scorers.
    const NAMES: [&'static str; 5] = ["kv-cache", "prefix", "session", "load", "external"];

    fn add_to(&self, profile: &mut Profile) -> Result<(), Problem> {
        let Self { kv_cache, prefix, session, load, external } = self;
        let mut add = |scorer: Box<dyn Scorer>, weight: f64| {
            if !weight.is_finite() || weight < 0.0 {
                let problem = Problem::found(weight, "a finite number, 0 or more");
                return Err(problem.at("weight").at(scorer.name()));
            }
            profile.scorers.push((scorer, weight));
            Ok(())
        };
        if let Some(config) = kv_cache {
            let scorer = config.credits.scorer().map_err(|p| p.at("credits").at("kv-cache"))?;
            add(Box::new(scorer), config.weight)?;
        }
        if let Some(config) = prefix {
            add(Box::new(PrefixScorer), config.weight)?;
        }
        if let Some(config) = session {
            add(Box::new(SessionScorer), config.weight)?;
        }
        if let Some(config) = load {
            let scorer = LoadScorer::new(config.limit);
            let scorer =
                scorer.map_err(|_| Problem::found(config.limit, "1 or more").at("limit").at("load"))?;
            add(Box::new(scorer), config.weight)?;
        }
        for (name, config) in external {
            if name.is_empty() || Self::NAMES.contains(&&**name) {
                return Err(Problem::new("found a name that is empty or a scorer's own")
                    .at(&**name)
                    .at("external"));
            }
            add(Box::new(ExternalScorer::new(name)), config.weight).map_err(|p| p.at("external"))?;
        }
        if profile.scorers.is_empty() {
            let names = Self::NAMES.join(", ");
            return Err(Problem::new(format!("found no scorer, expected one or more of {names}")));
        }
        Ok(())
    }
}

impl CreditsConfig {
    fn scorer(&self) -> Result<KvCacheScorer, Problem> {
        let credits = [
            (Tier::Gpu, self.gpu),
            (Tier::Cpu, self.cpu),
            (Tier::Disk, self.disk),
            (Tier::External, self.external),
        ];
        credits.into_iter().try_fold(KvCacheScorer::default(), |scorer, (tier, credit)| {
            let refused = |_: Error| Problem::found(credit, "a number from 0 to 1").at(tier.name());
            scorer.with_credit(tier, credit).map_err(refused)
        })
    }
}
