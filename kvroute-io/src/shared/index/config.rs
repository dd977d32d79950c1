//! The shared index, as data.

use std::time::Duration;

use kvroute_core::Error;
use kvroute_core::config::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IndexOptions, LlmdAlgorithm, LlmdSource, ReaderOptions};

/// An index of which pods hold which blocks, for gateways that follow no events themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IndexConfig {
    /// Whether what pods' events tell is written for others. Of several that would write of a pod one does.
    pub write: bool,
    /// Whether it is asked before each decision.
    pub read: bool,
    /// Whose layout is read; only kvroute's own is written.
    pub layout: Layout,
    /// How long a decision waits for the answer, milliseconds.
    #[schemars(range(min = 1, max = 1000))]
    pub budget_ms: u64,
    /// How long a block stays that no writer confirms, seconds.
    #[schemars(range(min = 1, max = 604_800))]
    pub ttl_seconds: u64,
    /// How long after a writer's end what it wrote is believed, and others wait to take over; milliseconds.
    #[schemars(range(min = 100, max = 600_000))]
    pub lease_ms: u64,
    /// How llm-d computes its keys, where its layout is read.
    pub llmd: LlmdConfig,
}

impl Default for IndexConfig {
    fn default() -> Self {
        let options = IndexOptions::default();
        Self {
            write: false,
            read: false,
            layout: Layout::default(),
            budget_ms: ReaderOptions::default().budget.as_millis() as u64,
            ttl_seconds: options.ttl.as_secs(),
            lease_ms: options.lease.as_millis() as u64,
            llmd: LlmdConfig::default(),
        }
    }
}

/// Whose layout an index has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Layout {
    /// kvroute's own.
    #[default]
    #[serde(rename = "kvroute")]
    Kvroute,
    /// llm-d's, whose pods are called `ip:port`: pods have to be called so here as well, and are unless they are named.
    #[serde(rename = "llm-d")]
    Llmd,
}

/// llm-d's token processor (`tokenProcessorConfig`): it has to be the same as there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LlmdConfig {
    /// `hashAlgorithm`.
    pub hash_algorithm: LlmdAlgorithm,
    /// `hashSeed`.
    pub hash_seed: String,
    /// `blockSizeTokens`.
    #[schemars(range(min = 1, max = 65_536))]
    pub block_size_tokens: u32,
}

impl Default for LlmdConfig {
    fn default() -> Self {
        Self { hash_algorithm: LlmdAlgorithm::default(), hash_seed: String::new(), block_size_tokens: 16 }
    }
}

impl IndexConfig {
    /// # Errors
    ///
    /// What is wrong, with its path.
    pub fn checked(&self) -> Result<(), Problem> {
        let all = [
            ("budget_ms", self.budget_ms, 1, 1000),
            ("ttl_seconds", self.ttl_seconds, 1, 604_800),
            ("lease_ms", self.lease_ms, 100, 600_000),
        ];
        for (key, found, least, most) in all {
            if !(least..=most).contains(&found) {
                return Err(Problem::found(found, format!("{least} to {most}")).at(key));
            }
        }
        let size = self.llmd.block_size_tokens;
        if !(1..=65_536).contains(&size) {
            return Err(Problem::found(size, "1 to 65536").at("block_size_tokens").at("llmd"));
        }
        if self.write && self.layout == Layout::Llmd {
            return Err(Problem::new("llm-d's layout is only read").at("write"));
        }
        Ok(())
    }

    pub(super) fn options(&self, prefix: &str) -> IndexOptions {
        IndexOptions {
            name: prefix.to_owned(),
            ttl: Duration::from_secs(self.ttl_seconds),
            lease: Duration::from_millis(self.lease_ms),
            ..IndexOptions::default()
        }
    }

    pub(super) fn reader(&self) -> ReaderOptions {
        ReaderOptions { budget: Duration::from_millis(self.budget_ms), ..ReaderOptions::default() }
    }

    pub(super) fn source(&self) -> Result<LlmdSource, Error> {
        let LlmdConfig { hash_algorithm, hash_seed, block_size_tokens } = &self.llmd;
        LlmdSource::new(*hash_algorithm, hash_seed, *block_size_tokens)
    }
}
