//! llm-d's index in Redis, read only, so that kvroute can sit beside a deployment that has one.
//!
//! | key | type | content |
//! | --- | --- | --- |
//! | `<request key, decimal>` | hash | field: `{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}`, value empty |
//!
//! From llm-d-kv-cache, `pkg/kvcache/kvblock/redis.go` and `index.go` (what llm-d-router has at its head). Request keys
//! are llm-d's own hashes ([`kvroute_core::hash::LlmdScheme`]), by the algorithm, seed and block size of its token
//! processor, which must be given here as they are there. A lookup asks with `HKEYS`, as llm-d does.
//!
//! What is made of it: a pod holds a block if all its groups do that hold block 0 (llm-d only writes groups of full
//! attention); entries that llm-d expects for a moment (`Speculative`) are passed over, as are those of tiers that
//! kvroute does not know. Pods have no ranks there.

use std::collections::HashMap;
use std::ops::Range;

use kvroute_core::hash::{HashScheme, LlmdScheme};
use kvroute_core::{BlockHash, BlockHasher, Error, HashContext, Tier};
use redis::{Pipeline, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::command;
use super::lookup::{Question, Reached};

/// How llm-d computes its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LlmdAlgorithm {
    /// `cbor-fnv`, its default.
    #[default]
    CborFnv,
    /// `xxh64`.
    Xxh64,
}

/// How an llm-d deployment's token processor is configured.
#[derive(Clone, Debug)]
pub struct LlmdSource {
    algorithm: LlmdAlgorithm,
    seed: String,
    block_size: u32,
}

impl LlmdSource {
    /// With llm-d's `hashAlgorithm`, `hashSeed` and `blockSizeTokens`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a block size that no hasher takes.
    pub fn new(algorithm: LlmdAlgorithm, seed: impl Into<String>, block_size: u32) -> Result<Self, Error> {
        let source = Self { algorithm, seed: seed.into(), block_size };
        source.hasher("").map(|_| source)
    }

    /// Tokens a block.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    fn hasher(&self, model: &str) -> Result<BlockHasher, Error> {
        let scheme = LlmdScheme::new(&*self.seed, model);
        let scheme = match self.algorithm {
            LlmdAlgorithm::CborFnv => HashScheme::LlmdCborFnv(scheme),
            LlmdAlgorithm::Xxh64 => HashScheme::LlmdXxh64(scheme),
        };
        BlockHasher::new(scheme, self.block_size)
    }

    /// The keys of a prompt that is asked of a model; `[n]`, as many as the prompt has full blocks.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what llm-d has no keys for.
    pub fn keys(
        &self,
        model: &str,
        token_ids: &[u32],
        context: &HashContext,
    ) -> Result<Vec<BlockHash>, Error> {
        self.hasher(model)?.hash(token_ids, context)
    }

    pub(super) fn question<'a>(
        &'a self,
        blocks: &'a [BlockHash],
    ) -> impl Question<Holder = (String, Group)> + 'a {
        Asked { blocks }
    }

    /// What pods have of which all groups agree.
    pub(super) fn by_pod(
        reached: impl Iterator<Item = ((String, Group), Reached)>,
    ) -> HashMap<String, Reached> {
        let mut pods: HashMap<String, Reached> = HashMap::new();
        for ((pod, _), reached) in reached {
            let least = |known: &mut Reached| {
                known.iter_mut().zip(reached).for_each(|(known, reached)| *known = reached.min(*known));
            };
            pods.entry(pod).and_modify(least).or_insert(reached);
        }
        pods
    }
}

/// A KV-cache group, where the entry names one.
pub(super) type Group = Option<i64>;

/// An entry as llm-d writes it (Go's `encoding/json` of `PodEntry`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    pod_identifier: String,
    #[serde(default)]
    device_tier: String,
    #[serde(default)]
    speculative: bool,
    #[serde(default)]
    has_group: bool,
    #[serde(default)]
    group_idx: i64,
}

struct Asked<'a> {
    blocks: &'a [BlockHash],
}

impl Question for Asked<'_> {
    type Holder = (String, Group);

    fn blocks(&self) -> usize {
        self.blocks.len()
    }

    fn ask(&self, blocks: Range<usize>) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(blocks.len());
        for block in &self.blocks[blocks] {
            pipeline.cmd("HKEYS").arg(block.0);
        }
        pipeline
    }

    fn holders(&self, answer: &Value) -> impl Iterator<Item = ((String, Group), Tier)> {
        command::list(answer).iter().filter_map(|field| {
            let entry: Entry = serde_json::from_str(command::text(field)?).ok()?;
            // Without a tier it is the device's, as in events.
            let medium = if entry.device_tier.is_empty() { "gpu" } else { &*entry.device_tier };
            let tier = Tier::from_medium(medium).filter(|_| !entry.speculative)?;
            Some(((entry.pod_identifier, entry.has_group.then_some(entry.group_idx)), tier))
        })
    }
}
