//! Scorers and their weights.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::problem::{Problem, shown};
use super::super::value::{labels, mapping, present, text};
use super::terms::{CreditsConfig, ModelConfig};
use crate::Error;
use crate::score::{
    CostScorer, ExternalScorer, KvCacheScorer, KvUsageScorer, LatencyScorer, LoadScorer, LoraAffinityScorer,
    NoHitLruScorer, PrefixScorer, QueueScorer, RunningScorer, Scorer, SessionScorer, TokenLoadScorer,
    TopologyScorer,
};

/// Scorers and their weights.
type Weighted = Vec<(Box<dyn Scorer>, f64)>;

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
    /// What the request costs the pod and those it has: work times requests; by the cheapest.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "CostConfig")]
    pub cost: Option<CostConfig>,
    /// How long until the first token; by the soonest.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "LatencyConfig")]
    pub latency: Option<LatencyConfig>,
    /// How little prefill work the pod would have with the request.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "TokenLoadConfig")]
    pub token_load: Option<TokenLoadConfig>,
    /// How few requests wait, compared with the other pods.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub queue: Option<WeightConfig>,
    /// How few requests the pod has, compared with the other pods.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub running: Option<WeightConfig>,
    /// How much of its KV cache the pod has left.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub kv_usage: Option<WeightConfig>,
    /// Whether the pod has the request's LoRA adapter in use, or room for it.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub lora_affinity: Option<WeightConfig>,
    /// How near the pod is.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "TopologyConfig")]
    pub topology: Option<TopologyConfig>,
    /// Of prompts that no pod has anything of: which pod got none for the longest time.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "WeightConfig")]
    pub no_hit_lru: Option<WeightConfig>,
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
    /// What a matched block counts for.
    #[serde(default)]
    pub credits: CreditsConfig,
}

/// The `cost` scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CostConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// What it counts that what is computed anew takes the place of what others would have found cached, against
    /// computing it; 0 or more.
    #[serde(default = "CostConfig::default_displacement")]
    #[schemars(range(min = 0.0))]
    pub displacement: f64,
    /// What a matched block counts for.
    #[serde(default)]
    pub credits: CreditsConfig,
}

impl CostConfig {
    const fn default_displacement() -> f64 {
        CostScorer::DISPLACEMENT
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
    pub(in super::super) const fn default_limit() -> u32 {
        128
    }
}

/// The `latency` scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// What a matched block counts for.
    #[serde(default)]
    pub credits: CreditsConfig,
    /// How long pods take.
    #[serde(default)]
    pub model: ModelConfig,
}

/// The `token-load` scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenLoadConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// Tokens of prefill work from which on a pod scores 0.
    #[serde(default = "TokenLoadConfig::default_limit")]
    #[schemars(range(min = 1))]
    pub limit: u64,
    /// What a matched block counts for.
    #[serde(default)]
    pub credits: CreditsConfig,
}

impl TokenLoadConfig {
    pub(in super::super) const fn default_limit() -> u64 {
        4_194_304
    }
}

/// The `topology` scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyConfig {
    /// What a score of 1 is worth; 0 or more.
    #[schemars(range(min = 0.0))]
    pub weight: f64,
    /// What distance sharing a label leaves. Absent: the same host 0, rack 0.8, zone 0.95, region 0.98, by Kubernetes'
    /// well-known labels.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "Vec<TopologyLevel>")]
    pub levels: Option<Vec<TopologyLevel>>,
    /// Labels of the place where the gateway stands. A pod that prefills is near to the pod that answers instead.
    #[serde(default, deserialize_with = "labels")]
    pub near: BTreeMap<String, String>,
}

/// A label that near pods share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyLevel {
    /// The label.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1))]
    pub label: String,
    /// How far pods are that share it; 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub distance: f64,
}

impl TopologyConfig {
    fn scorer(&self) -> Result<TopologyScorer, Problem> {
        let scorer = match &self.levels {
            None => TopologyScorer::default(),
            Some(levels) => Self::with_levels(levels).map_err(|p| p.at("levels"))?,
        };
        Ok(scorer.near(self.near.clone()))
    }

    fn with_levels(levels: &[TopologyLevel]) -> Result<TopologyScorer, Problem> {
        for (at, TopologyLevel { label, distance }) in levels.iter().enumerate() {
            if !(0.0..=1.0).contains(distance) {
                return Err(Problem::found(distance, "a number from 0 to 1").at("distance").at(at));
            }
            if let Some(first) = levels[..at].iter().position(|other| other.label == *label) {
                let problem = Problem::new(format!("`{}` is there already, at [{first}]", shown(label)));
                return Err(problem.at("label").at(at));
            }
        }
        let levels = levels.iter().map(|level| (level.label.clone(), level.distance));
        TopologyScorer::new(levels).map_err(|_| Problem::new("found no level, expected one or more"))
    }
}

impl ScorersConfig {
    /// Names of the scorers.
    pub(in super::super) const NAMES: [&'static str; 14] = [
        "kv-cache",
        "prefix",
        "session",
        "load",
        "cost",
        "latency",
        "token-load",
        "queue",
        "running",
        "kv-usage",
        "lora-affinity",
        "topology",
        "no-hit-lru",
        "external",
    ];

    /// The weights of those that are named.
    pub(in super::super) fn weights(&mut self) -> impl Iterator<Item = &mut f64> {
        let Self {
            kv_cache,
            prefix,
            session,
            load,
            cost,
            latency,
            token_load,
            queue,
            running,
            kv_usage,
            lora_affinity,
            topology,
            no_hit_lru,
            external,
        } = self;
        let plain = [prefix, session, queue, running, kv_usage, lora_affinity, no_hit_lru];
        let plain = plain.into_iter().flatten().chain(external.values_mut()).map(|scorer| &mut scorer.weight);
        let others = [
            kv_cache.as_mut().map(|scorer| &mut scorer.weight),
            cost.as_mut().map(|scorer| &mut scorer.weight),
            load.as_mut().map(|scorer| &mut scorer.weight),
            latency.as_mut().map(|scorer| &mut scorer.weight),
            token_load.as_mut().map(|scorer| &mut scorer.weight),
            topology.as_mut().map(|scorer| &mut scorer.weight),
        ];
        plain.chain(others.into_iter().flatten())
    }

    pub(super) fn build(&self) -> Result<Weighted, Problem> {
        let mut built = Built::default();
        if let Some(KvCacheConfig { weight, credits }) = &self.kv_cache {
            let credits = credits.credits().map_err(|p| p.at("credits").at("kv-cache"))?;
            built.add(KvCacheScorer::new(credits), *weight)?;
        }
        built.add_plain(&self.prefix, PrefixScorer)?;
        built.add_plain(&self.session, SessionScorer)?;
        if let Some(LoadConfig { weight, limit }) = &self.load {
            let refused = |_| Problem::found(limit, "1 or more").at("limit").at("load");
            built.add(LoadScorer::new(*limit).map_err(refused)?, *weight)?;
        }
        if let Some(CostConfig { weight, displacement, credits }) = &self.cost {
            let credits = credits.credits().map_err(|p| p.at("credits").at("cost"))?;
            let refused = |_| Problem::found(displacement, "a finite number, 0 or more");
            let scorer = CostScorer::new(*displacement, credits).map_err(refused);
            built.add(scorer.map_err(|p| p.at("displacement").at("cost"))?, *weight)?;
        }
        if let Some(LatencyConfig { weight, credits, model }) = &self.latency {
            let credits = credits.credits().map_err(|p| p.at("credits").at("latency"))?;
            let model = model.model().map_err(|p| p.at("model").at("latency"))?;
            let refused = |e: Error| Problem::new(e.to_string()).at("model").at("latency");
            built.add(LatencyScorer::new(credits, model).map_err(refused)?, *weight)?;
        }
        if let Some(TokenLoadConfig { weight, limit, credits }) = &self.token_load {
            let credits = credits.credits().map_err(|p| p.at("credits").at("token-load"))?;
            let refused = |_| Problem::found(limit, "1 or more").at("limit").at("token-load");
            built.add(TokenLoadScorer::new(*limit, credits).map_err(refused)?, *weight)?;
        }
        built.add_plain(&self.queue, QueueScorer)?;
        built.add_plain(&self.running, RunningScorer)?;
        built.add_plain(&self.kv_usage, KvUsageScorer)?;
        built.add_plain(&self.lora_affinity, LoraAffinityScorer)?;
        if let Some(config) = &self.topology {
            built.add(config.scorer().map_err(|p| p.at("topology"))?, config.weight)?;
        }
        built.add_plain(&self.no_hit_lru, NoHitLruScorer)?;
        for (name, config) in &self.external {
            if name.is_empty() || Self::NAMES.contains(&&**name) {
                let problem = Problem::new("found a name that is empty or a scorer's own");
                return Err(problem.at(&**name).at("external"));
            }
            built.add(ExternalScorer::new(name), config.weight).map_err(|p| p.at("external"))?;
        }
        if built.0.is_empty() {
            let names = Self::NAMES.join(", ");
            return Err(Problem::new(format!("found no scorer, expected one or more of {names}")));
        }
        if !built.0.iter().map(|(_, weight)| weight).sum::<f64>().is_finite() {
            return Err(Problem::new("found weights without a finite sum"));
        }
        Ok(built.0)
    }
}

#[derive(Default)]
struct Built(Weighted);

impl Built {
    fn add(&mut self, scorer: impl Scorer + 'static, weight: f64) -> Result<(), Problem> {
        if !weight.is_finite() || weight < 0.0 {
            let problem = Problem::found(weight, "a finite number, 0 or more");
            return Err(problem.at("weight").at(scorer.name()));
        }
        self.0.push((Box::new(scorer), weight));
        Ok(())
    }

    fn add_plain(
        &mut self,
        config: &Option<WeightConfig>,
        scorer: impl Scorer + 'static,
    ) -> Result<(), Problem> {
        config.as_ref().map_or(Ok(()), |config| self.add(scorer, config.weight))
    }
}
