//! The configuration: what a router, its cache domains and its pods are made of, as data that YAML and
//! JSON documents hold.
//!
//! [`Config`] is plain data with public fields, one struct for each mapping of the document. Reading is
//! strict: an unknown or repeated key, a key without a value, a name that is none and a number out of
//! range are errors, and each says where it is, what was found and what was expected:
//!
//! ```
//! let error = kvroute_core::Config::from_yaml("index:\n  shrads: 64\n").unwrap_err();
//! let expected = "index: unknown key `shrads`; did you mean `shards`? (line 2, column 3)";
//! assert_eq!(error.to_string(), expected);
//! ```
//!
//! [`Config::build`] makes the router with its pods; [`Config::policy`], [`Config::router_options`] and
//! [`Config::domains`] make its parts, for those whose pods come from elsewhere.
//! [`Config::from_endpoint_picker`] reads llm-d's configuration, [`Config::from_env_pairs`] the environment variables
//! of its first scheduler.
//!
//! Hostile documents cost time and memory in proportion to their length, which is bounded by 16 MiB: YAML
//! aliases can multiply only short texts, and no more than 50 000 of them.
//!
//! A [`Document`] of an embedder's may have a `Config` as one of its parts: [`read`] reads it as strictly.
//!
//! Files, environment and secrets' storage are the embedder's: this module takes texts and pairs of
//! texts.

mod domain;
mod endpoint_picker;
mod env;
mod options;
mod parse;
mod place;
mod pod;
mod policy;
mod problem;
pub mod value;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use domain::{DomainConfig, OwnConfig, SchemeConfig, VllmConfig};
pub use options::{IndexConfig, OverloadConfig, RequestsConfig, SessionsConfig};
pub use pod::{AdapterConfig, EventsConfig, GroupConfig, PodConfig};
pub use policy::{
    AffinityConfig, CostConfig, CreditsConfig, FilterConfig, GuardConfig, HealthConfig, KvCacheConfig,
    LabelsConfig, LatencyConfig, LoadConfig, ModelConfig, Operator, PickerConfig, PolicyConfig,
    PrefillConfig, Preset, ProfileConfig, RequirementConfig, SamplingConfig, ScorersConfig, SoftmaxConfig,
    SpillConfig, TokenLoadConfig, TopologyConfig, TopologyLevel, TrustCreditsConfig, WarmUpConfig,
    WarmUpShare, WeightConfig,
};

use crate::hash::BlockHasher;
use crate::policy::Policy;
use crate::request::Prompt;
use crate::{CacheDomain, Error, PodSpec, Router, RouterOptions};
pub use problem::{Problem, Step};
use value::mapping;

/// A configuration that [`read`] reads: [`Config`], or an embedder's with a `Config` as one of its parts.
pub trait Document: DeserializeOwned {
    /// Finds what is wrong with it that its types do not rule out.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and its path.
    fn checked(&self) -> Result<(), Problem>;
}

/// Reads a document that is JSON if it begins with `{`, and YAML otherwise, and checks it. As strict as the types are:
/// let structs deny unknown fields, and read texts and mappings by the functions of [`value`].
///
/// # Errors
///
/// The first thing that is wrong, with its path, line and column as far as they are known.
pub fn read<T: Document>(document: &str) -> Result<T, Error> {
    if document.trim_start().starts_with('{') { parse::json(document) } else { parse::yaml(document) }
}

/// Everything that can be said of a router. The default is the code's: the preset's policy, no domain, no
/// pod.
///
/// ```
/// use kvroute_core::Config;
///
/// let config = Config::from_yaml(
///     "
/// policy:
///   decode:
///     scorers:
///       kv-cache: {weight: 5}
///       load: {weight: 1, limit: 64}
/// domains:
///   llama-3.1-8b: {block_size: 16}
/// pods:
///   - {name: '10.0.0.7:8000', domain: llama-3.1-8b}
///   - {name: '10.0.0.8:8000', domain: llama-3.1-8b}
/// ",
/// )?;
/// let router = config.build()?;
/// assert_eq!(router.pods().len(), 2);
/// # Ok::<(), kvroute_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "kvroute configuration")]
pub struct Config {
    /// How pods are chosen.
    pub policy: PolicyConfig,
    /// Bounds and sizes of the index.
    pub index: IndexConfig,
    /// Bytes a block of a prompt that is only known as text; a multiple of 4, up to 262144.
    #[schemars(range(min = 4, max = 262_144))]
    pub text_block_bytes: u32,
    /// What is remembered of conversations.
    pub sessions: SessionsConfig,
    /// What is kept of requests in flight.
    pub requests: RequestsConfig,
    /// From when on a pod counts as overloaded.
    pub overload: OverloadConfig,
    /// Cache domains by name.
    #[serde(deserialize_with = "mapping")]
    pub domains: BTreeMap<String, DomainConfig>,
    /// Pods that are there from the start.
    pub pods: Vec<PodConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: PolicyConfig::default(),
            index: IndexConfig::default(),
            text_block_bytes: 256,
            sessions: SessionsConfig::default(),
            requests: RequestsConfig::default(),
            overload: OverloadConfig::default(),
            domains: BTreeMap::new(),
            pods: Vec::new(),
        }
    }
}

impl Document for Config {
    fn checked(&self) -> Result<(), Problem> {
        self.policy.policy().map_err(|p| p.at("policy"))?;
        self.make_options()?;
        self.make_pods().map(drop)
    }
}

impl Config {
    /// Reads a YAML document and [checks](Self::check) it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its path, line and column as far as they are known. An empty
    /// document is an error; `{}` is the configuration with all defaults.
    pub fn from_yaml(document: &str) -> Result<Self, Error> {
        parse::yaml(document)
    }

    /// Reads a JSON document and [checks](Self::check) it.
    ///
    /// # Errors
    ///
    /// Those of [`from_yaml`](Self::from_yaml).
    pub fn from_json(document: &str) -> Result<Self, Error> {
        parse::json(document)
    }

    /// Reads a document that is JSON if it begins with `{`, and YAML otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`from_yaml`](Self::from_yaml).
    pub fn parse(document: &str) -> Result<Self, Error> {
        read(document)
    }

    /// Reads the environment variables of llm-d's first scheduler (llm-d-inference-scheduler 0.1), given
    /// as pairs of name and value; the embedder may pass its whole environment. Answers the
    /// configuration, without domains and pods, and notes on variables that are known but mean nothing
    /// here.
    ///
    /// | variable | here |
    /// |---|---|
    /// | `ENABLE_` and `_WEIGHT` of `KVCACHE_AWARE_SCORER` | `policy.decode.scorers.kv-cache` |
    /// | the same of `PREFIX_`, `SESSION_` and `LOAD_AWARE_SCORER` | `prefix`, `session`, `load` |
    /// | any of these with `PREFILL_` before it | the same in `policy.prefill` |
    /// | `PD_ENABLED` | whether there is `policy.prefill` |
    /// | `PD_PROMPT_LEN_THRESHOLD` (100) | `policy.prefill.max_uncached_tokens` |
    /// | `PREFIX_SCORER_BLOCK_SIZE` (256) | `text_block_bytes` |
    /// | `LOAD_AWARE_SCORER_QUEUE_THRESHOLD` (128) | `limit` of `load`, which counts running requests too |
    /// | `KVCACHE_INDEXER_REDIS_ADDR`, `HF_TOKEN`, `PREFIX_CACHE_...` | notes |
    /// | `GIE_...` plugins | notes; an error if enabled |
    ///
    /// Weights default to 1. A weight of a scorer that is not enabled, and a variable of prefill pods
    /// without `PD_ENABLED`, are notes.
    ///
    /// The threshold counts bytes of text that the decode pod has not cached, and prefill pods take part
    /// from it on; `max_uncached_tokens` counts tokens, and they take part beyond it. A threshold of `t`
    /// becomes `(t - 1) / 4` tokens, rounded down. For a text of four bytes a token that is the same
    /// decision; a text whose uncached part is at most three bytes short of the threshold counts as
    /// reaching it, because parts of a token are whole tokens.
    ///
    /// Other names are passed over, unless they look like one of these misspelt. That is a name which, in
    /// any letter case and behind an optional `PREFILL_`,
    ///
    /// - contains `_AWARE_SCORER`, or
    /// - begins with `ENABLE_` and ends with `_SCORER` or `_FILTER`, or
    /// - begins with `GIE_` and contains `_SCORER` or `_FILTER`, or
    /// - begins with `PD_ENABLE` or `PD_PROMPT`, or
    /// - is at most two letters off from a name of a variable that means something here and is 12 letters
    ///   or more.
    ///
    /// ```
    /// let pairs = [("ENABLE_KVCACHE_AWARE_SCORER", "true"), ("KVCACHE_AWARE_SCORER_WEIGHT", "5")];
    /// let (config, notes) = kvroute_core::Config::from_env_pairs(pairs)?;
    /// assert_eq!(config.policy.decode.scorers.and_then(|s| s.kv_cache).map(|s| s.weight), Some(5.0));
    /// assert!(notes.is_empty());
    /// # Ok::<(), kvroute_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a misspelt name; a boolean that is not exactly `true` or `false` (llm-d took
    /// anything else for false); a number that is none; a `GIE_` plugin that is enabled; and no scorer
    /// enabled, where llm-d picked at random.
    pub fn from_env_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<(Self, Vec<String>), Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        env::read(pairs).map_err(Error::from)
    }

    /// Reads llm-d's configuration, an `EndpointPickerConfig` in YAML or JSON (`apiVersion` `llm-d.ai/v1alpha1` or
    /// `inference.networking.x-k8s.io/v1alpha1`; llm-d-router ebab687, and what registered up to September 2026).
    /// Answers the configuration, without domains and pods, and notes: one line for each thing that does not map, or
    /// means something else here, with its path and type. Nothing is passed over without one.
    ///
    /// | plugin | here |
    /// |---|---|
    /// | `prefix-cache-scorer` | `kv-cache`, if it reads a `precise-prefix-cache-producer`; otherwise `prefix` |
    /// | `precise-prefix-cache-scorer` | `kv-cache` |
    /// | `session-affinity-scorer` | `session`, and `sessions.ttl_seconds` |
    /// | `load-aware-scorer` | `load` with `threshold` as its `limit` and half the weight |
    /// | `queue-scorer` | `queue` |
    /// | `running-requests-size-scorer`, `active-request-scorer` | `running` |
    /// | `kv-cache-utilization-scorer` | `kv-usage` |
    /// | `token-load-scorer` | `token-load` with `queueThresholdTokens` as its `limit` |
    /// | `lora-affinity-scorer`, `no-hit-lru-scorer`, `latency-scorer` | `lora-affinity`, `no-hit-lru`, `latency` |
    /// | `topology-affinity-scorer` | `topology`, by the labels of the `topology-extractor` |
    /// | other scorers | `external` by the plugin's name: the embedder may bring the scores |
    /// | `decode-filter`, `prefill-filter` | `role` |
    /// | `label-selector-filter`, `by-label-selector`, `by-label`, `encode-filter` | `labels` |
    /// | `prefix-cache-affinity-filter` | `affinity`, its `model` made of `peakPrefillThroughput` |
    /// | `session-affinity-filter` | `session`, with more weight than all others together |
    /// | `utilization-filter`, `utilization-detector` in a profile | `overload`, and `overload`'s bounds |
    /// | `max-score-picker`, `weighted-random-picker` | the pickers; `maxNumOfEndpoints` is one more than `fallbacks` |
    /// | `random-picker` | `weighted-random` with all weights 0 |
    /// | `single-profile-handler`, `data-parallel-profile-handler` | `policy.decode` |
    /// | `disagg-profile-handler`, `pd-profile-handler` | `policy.decode`, and `policy.prefill` if a decider asks for it |
    /// | `prefix-based-pd-decider` | `max_uncached_tokens` (`nonCachedTokens` less 1), `min_prompt_tokens` |
    /// | `always-disagg-pd-decider` | `max_uncached_tokens: 0` |
    /// | `approx-prefix-cache-producer` | `index.max_predicted`, `text_block_bytes` |
    /// | `precise-prefix-cache-producer` | credits by tier, `requests.speculation_ms` |
    /// | `utilization-detector`, `saturationDetector` | `overload` |
    /// | all else | notes that say whose it is |
    ///
    /// Weights default to 1, as in llm-d. Every profile has the filters `accepting`, `model` and `subset` first, for
    /// what llm-d does before it asks one. llm-d rates every pod, kvroute a part of large fleets; that is
    /// [`PolicyConfig::sampling`].
    ///
    /// ```
    /// let document = "
    /// apiVersion: llm-d.ai/v1alpha1
    /// kind: EndpointPickerConfig
    /// plugins:
    /// - type: prefix-cache-scorer
    /// - type: queue-scorer
    /// - type: openai-parser
    /// schedulingProfiles:
    /// - name: default
    ///   plugins:
    ///   - {pluginRef: prefix-cache-scorer, weight: 2}
    ///   - {pluginRef: queue-scorer}
    /// ";
    /// let (config, notes) = kvroute_core::Config::from_endpoint_picker(document)?;
    /// let scorers = config.policy.decode.scorers.unwrap();
    /// assert_eq!(scorers.prefix.map(|scorer| scorer.weight), Some(2.0));
    /// assert_eq!(scorers.queue.map(|scorer| scorer.weight), Some(1.0));
    /// let note = "plugins[2] (openai-parser): not mapped: kvroute reads no HTTP: the embedder makes requests of what \
    ///             it received";
    /// assert_eq!(notes, [note]);
    /// # Ok::<(), kvroute_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with path, line and column, for what llm-d refuses: an unknown key, plugin type or parameter of
    /// a plugin that maps, a reference to a plugin that is not there, a name that is there twice, several profiles
    /// without a profile handler that explains them. Also for what kvroute cannot do: a negative weight. At most 1 MiB
    /// is read, which is what a ConfigMap holds, and 1000 plugins and profiles each.
    pub fn from_endpoint_picker(document: &str) -> Result<(Self, Vec<String>), Error> {
        endpoint_picker::read(document).map_err(Error::from)
    }

    /// Checks all that [`build`](Self::build) would refuse, without building it. What was read from a
    /// document has been checked.
    ///
    /// # Errors
    ///
    /// `InvalidInput` with the path of the first thing that is wrong; `NotReproducible` for a vLLM domain
    /// whose hashes cannot be computed outside the engine.
    pub fn check(&self) -> Result<(), Error> {
        self.checked().map_err(Error::from)
    }

    /// The router with its cache domains and pods.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check).
    pub fn build(&self) -> Result<Router, Error> {
        let router = Router::new(self.router_options()?, self.policy()?)?;
        for domain in self.domains()?.into_values() {
            router.add_domain(domain)?;
        }
        for spec in self.pod_specs()? {
            router.add_pod(spec)?;
        }
        Ok(router)
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check) that concern it.
    pub fn policy(&self) -> Result<Policy, Error> {
        self.policy.policy().map_err(|p| p.at("policy").into())
    }

    /// The router's options.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check) that concern them.
    pub fn router_options(&self) -> Result<RouterOptions, Error> {
        self.make_options().map_err(Error::from)
    }

    /// The cache domains by name, for pods that come from elsewhere.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check) that concern them.
    pub fn domains(&self) -> Result<BTreeMap<String, Arc<CacheDomain>>, Error> {
        self.make_domains().map_err(Error::from)
    }

    /// The pods, in the order of the document.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check) that concern them and their domains.
    pub fn pod_specs(&self) -> Result<Vec<PodSpec>, Error> {
        self.make_pods().map_err(Error::from)
    }

    /// JSON Schema (draft 2020-12) of the documents; the repository has it as
    /// `kvroute-core/config.schema.json`, for editors. It knows shapes, names and most ranges; what
    /// depends on other parts of the document, such as a pod's domain, it does not.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    fn make_options(&self) -> Result<RouterOptions, Problem> {
        const BYTES: u32 = Prompt::BYTES_PER_TOKEN as u32;
        const MOST: u32 = BlockHasher::MAX_BLOCK_SIZE * BYTES;
        let bytes = self.text_block_bytes;
        if !bytes.is_multiple_of(BYTES) || !(BYTES..=MOST).contains(&bytes) {
            let expected = format!("a multiple of {BYTES} from {BYTES} to {MOST}");
            return Err(Problem::found(bytes, expected).at("text_block_bytes"));
        }
        Ok(RouterOptions {
            index: self.index.options().map_err(|p| p.at("index"))?,
            text_block_bytes: bytes,
            session_ttl: options::ttl(self.sessions.ttl_seconds).map_err(|p| p.at("sessions"))?,
            max_sessions: options::count(self.sessions.max),
            session_key: self.sessions.key.clone(),
            speculation_ttl: Duration::from_millis(self.requests.speculation_ms),
            overload: self.overload.overload().map_err(|p| p.at("overload"))?,
            request_ttl: options::ttl(self.requests.ttl_seconds).map_err(|p| p.at("requests"))?,
            max_requests: self.requests.most().map_err(|p| p.at("requests"))?,
        })
    }

    fn make_domains(&self) -> Result<BTreeMap<String, Arc<CacheDomain>>, Problem> {
        let domain = |(name, config): (&String, &DomainConfig)| match config.domain(name) {
            Ok(domain) => Ok((name.clone(), domain)),
            Err(problem) => Err(problem.at(name.as_str()).at("domains")),
        };
        self.domains.iter().map(domain).collect()
    }

    fn make_pods(&self) -> Result<Vec<PodSpec>, Problem> {
        let domains = self.make_domains()?;
        if let Some((first, at)) = pod::first_twice(self.pods.iter().map(|pod| (&pod.name, pod.dp_rank))) {
            let PodConfig { name, dp_rank, .. } = &self.pods[at];
            let name = problem::shown(name);
            let message = format!("pod `{name}`, rank {dp_rank}, is there already, at pods[{first}]");
            return Err(Problem::new(message).at(at).at("pods"));
        }
        let spec = |(at, pod): (usize, &PodConfig)| pod.checked(&domains).map_err(|p| p.at(at).at("pods"));
        self.pods.iter().enumerate().map(spec).collect()
    }
}
