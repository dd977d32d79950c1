//! Pods: who they are, and how their streams of events are read.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::count;
use super::problem::{Problem, unknown};
use super::value::{labels, text};
use crate::event::GroupKind;
use crate::index::{CopyPolicy, GapPolicy};
use crate::pod::Role;
use crate::{CacheDomain, Error, PodOptions, PodSpec};

/// A pod, one data-parallel rank of an engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PodConfig {
    /// Its name, such as `10.0.0.7:8000`.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// Its data-parallel rank; each rank is a pod of its own, with its own stream of events.
    #[serde(default)]
    pub dp_rank: u32,
    /// Name of its cache domain, one of `domains`.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = 1024))]
    pub domain: String,
    /// What it does.
    #[serde(default)]
    pub role: Role,
    /// Labels, for filters and scorers.
    #[serde(default, deserialize_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// How fast it computes, as a multiple of an ordinary pod; above 0.
    #[serde(default = "PodConfig::default_capacity")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub capacity: f64,
    /// How its stream of events is read.
    #[serde(default)]
    pub events: EventsConfig,
}

/// How a pod's stream of events is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// What a store means of a block that the pod holds already.
    #[serde(with = "CopyPolicies")]
    #[schemars(with = "CopyPolicies")]
    pub copies: CopyPolicy,
    /// What to do when batches are missing.
    #[serde(with = "GapPolicies")]
    #[schemars(with = "GapPolicies")]
    pub on_gap: GapPolicy,
    /// KV-cache groups known beforehand. Events teach them too, but a hybrid pod that has described only
    /// its first group so far reads like one without others.
    pub groups: Vec<GroupConfig>,
    /// LoRA adapters by the engine's integer id, for engines whose events name no adapter (vLLM before
    /// 0.14, SGLang before 0.5.22).
    pub adapters: Vec<AdapterConfig>,
    /// Blocks that may wait for an unknown parent.
    pub max_parked: u64,
    /// Bytes those may take, with their token ids and keys.
    pub max_parked_bytes: u64,
    /// Blocks without a copy whose names are kept for offload announcements.
    pub max_retired: u64,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            copies: CopyPolicy::default(),
            on_gap: GapPolicy::default(),
            groups: Vec::new(),
            adapters: Vec::new(),
            max_parked: 4096,
            max_parked_bytes: 16 << 20,
            max_retired: 4096,
        }
    }
}

/// What a store means of a block that the pod holds already.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "CopyPolicy", rename_all = "kebab-case")]
enum CopyPolicies {
    /// A further copy, unless it reads like a report of reused blocks (vLLM's
    /// `kv_cache_report_mode=full`).
    Infer,
    /// Always a further copy.
    Count,
    /// Never: the first removal takes the block away.
    Set,
}

/// What to do when batches are missing.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "GapPolicy", rename_all = "kebab-case")]
enum GapPolicies {
    /// Forget what the pod held and go on.
    Clear,
    /// Keep it and apply nothing until the missing batches are replayed.
    Replay,
}

/// A KV-cache group of a hybrid-attention model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Its number, as events give it.
    pub group: u32,
    /// How it attends.
    #[serde(with = "GroupKinds")]
    #[schemars(with = "GroupKinds")]
    pub kind: GroupKind,
}

/// How a KV-cache group attends.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(remote = "GroupKind", rename_all = "kebab-case", deny_unknown_fields)]
enum GroupKinds {
    /// Every block from the start of the prompt is needed.
    FullAttention,
    /// Only the last `window` tokens are.
    SlidingWindow {
        /// Window, tokens; at least 1.
        #[schemars(range(min = 1))]
        window: u32,
    },
    /// A kind without a rule: the pod becomes degraded and is never credited.
    Unknown,
}

/// A LoRA adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// The engine's integer id.
    pub id: i64,
    /// Its name, the `model` of requests.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
}

impl PodConfig {
    const fn default_capacity() -> f64 {
        1.0
    }

    /// The pod, in one of these domains: for pods that are found elsewhere and configured like this one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the domain is not there, or an event option is out of range.
    pub fn spec(&self, domains: &BTreeMap<String, Arc<CacheDomain>>) -> Result<PodSpec, Error> {
        self.checked(domains).map_err(Error::from)
    }

    pub(super) fn checked(&self, domains: &BTreeMap<String, Arc<CacheDomain>>) -> Result<PodSpec, Problem> {
        let Some(domain) = domains.get(&self.domain) else {
            let known: Vec<&str> = domains.keys().map(String::as_str).collect();
            return Err(Problem::new(unknown("domain", &self.domain, &known)).at("domain"));
        };
        if !self.capacity.is_finite() || self.capacity <= 0.0 {
            return Err(Problem::found(self.capacity, "a finite number above 0").at("capacity"));
        }
        if self.name.is_empty() {
            return Err(Problem::new("found an empty text, expected a text").at("name"));
        }
        Ok(PodSpec {
            name: self.name.clone(),
            dp_rank: self.dp_rank,
            domain: Arc::clone(domain),
            role: self.role,
            labels: self.labels.clone(),
            capacity: self.capacity,
            options: self.events.options().map_err(|p| p.at("events"))?,
        })
    }
}

impl EventsConfig {
    /// The pod's rank goes without saying: [`Router::add_pod`](crate::Router::add_pod) fills it in.
    fn options(&self) -> Result<PodOptions, Problem> {
        if let Some((first, at)) = first_twice(self.groups.iter().map(|group| group.group)) {
            let message = format!("group {} is there already, at [{first}]", self.groups[at].group);
            return Err(Problem::new(message).at(at).at("groups"));
        }
        let empty = GroupKind::SlidingWindow { window: 0 };
        if let Some(at) = self.groups.iter().position(|group| group.kind == empty) {
            let problem = Problem::found(0, "1 or more").at("window").at("sliding-window");
            return Err(problem.at("kind").at(at).at("groups"));
        }
        if let Some((first, at)) = first_twice(self.adapters.iter().map(|adapter| adapter.id)) {
            let message = format!("adapter {} is there already, at [{first}]", self.adapters[at].id);
            return Err(Problem::new(message).at(at).at("adapters"));
        }
        Ok(PodOptions {
            dp_rank: None,
            copies: self.copies,
            on_gap: self.on_gap,
            groups: self.groups.iter().map(|group| (group.group, group.kind)).collect(),
            adapters: self.adapters.iter().map(|adapter| (adapter.id, adapter.name.clone())).collect(),
            max_parked: count(self.max_parked),
            max_parked_bytes: count(self.max_parked_bytes),
            max_retired: count(self.max_retired),
        })
    }
}

/// Positions of the first two equal items.
pub(super) fn first_twice<T: Ord>(items: impl Iterator<Item = T>) -> Option<(usize, usize)> {
    let mut seen = BTreeMap::new();
    for (at, item) in items.enumerate() {
        if let Some(first) = seen.insert(item, at) {
            return Some((first, at));
        }
    }
    None
}
