//! What several filters and scorers are told: what a matched block counts for, and how long a pod takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::problem::Problem;
use crate::Tier;
use crate::credits::Credits;
use crate::index::TrustLevel;
use crate::latency::LatencyModel;

/// What a block counts for: by where it lies, and by how far the pod's view is to be believed; each 0 to 1. The
/// defaults of tiers are vllm-router's (0.1.17).
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
    /// What that is multiplied by, by the pod's trust level.
    pub trust: TrustCreditsConfig,
}

impl Default for CreditsConfig {
    fn default() -> Self {
        Self { gpu: 1.0, cpu: 0.8, disk: 0.3, external: 0.6, trust: TrustCreditsConfig::default() }
    }
}

/// What matches in a pod's view count for, by its trust level; each 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrustCreditsConfig {
    /// Every event was applied.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub exact: f64,
    /// Something was lost or left out.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub degraded: f64,
    /// No event came so far, or the engine keeps having less than its events said.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub approximate: f64,
    /// Nothing is known that could be credited.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub load_only: f64,
}

impl Default for TrustCreditsConfig {
    fn default() -> Self {
        Self { exact: 1.0, degraded: 0.9, approximate: 0.5, load_only: 0.0 }
    }
}

impl CreditsConfig {
    pub(super) fn credits(&self) -> Result<Credits, Problem> {
        let found = |credit: f64| Problem::found(credit, "a number from 0 to 1");
        let tiers = [
            (Tier::Gpu, self.gpu),
            (Tier::Cpu, self.cpu),
            (Tier::Disk, self.disk),
            (Tier::External, self.external),
        ];
        let mut credits = Credits::default();
        for (tier, credit) in tiers {
            credits = credits.with_tier(tier, credit).map_err(|_| found(credit).at(tier.name()))?;
        }
        let trust = [
            (TrustLevel::Exact, self.trust.exact),
            (TrustLevel::Degraded, self.trust.degraded),
            (TrustLevel::Approximate, self.trust.approximate),
            (TrustLevel::LoadOnly, self.trust.load_only),
        ];
        for (level, credit) in trust {
            let refused = |_| found(credit).at(level.name()).at("trust");
            credits = credits.with_trust(level, credit).map_err(refused)?;
        }
        Ok(credits)
    }
}

/// How long a pod takes to its first token. The defaults are those of an 8B model on an H200.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A step with prefill, however small; seconds, above 0.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub least: f64,
    /// Each token computed; seconds.
    #[schemars(range(min = 0.0))]
    pub per_token: f64,
    /// Each token computed and token it attends to; seconds.
    #[schemars(range(min = 0.0))]
    pub per_pair: f64,
    /// Each request that the pod has; seconds.
    #[schemars(range(min = 0.0))]
    pub per_request: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        let LatencyModel { least, per_token, per_pair, per_request } = LatencyModel::default();
        Self { least, per_token, per_pair, per_request }
    }
}

impl ModelConfig {
    pub(super) fn model(&self) -> Result<LatencyModel, Problem> {
        let Self { least, per_token, per_pair, per_request } = *self;
        if !least.is_finite() || least <= 0.0 {
            return Err(Problem::found(least, "a finite number above 0").at("least"));
        }
        let others = [("per_token", per_token), ("per_pair", per_pair), ("per_request", per_request)];
        if let Some((name, time)) = others.into_iter().find(|(_, time)| !time.is_finite() || *time < 0.0) {
            return Err(Problem::found(time, "a finite number, 0 or more").at(name));
        }
        Ok(LatencyModel { least, per_token, per_pair, per_request })
    }
}
