//! The fleet as data.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use kvroute_core::Error;
use kvroute_core::config::value::{present, text};
use kvroute_core::config::{self, Config, Document, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::events::SubscriberOptions;
use crate::pods::config::{pods, pods_schema};
use crate::pods::source::check_pods;
use crate::pods::{KnownConfig, KubernetesConfig, PodConfig};

/// A whole document: the router, and what feeds it. An embedder with sections of its own makes a struct with these two
/// as fields and reads it by [`config::read`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "kvroute router and fleet")]
pub struct FleetDocument {
    /// The router. Its `pods` stay empty: here pods come from the fleet.
    pub router: Config,
    /// Where pods come from, and how they are asked.
    pub fleet: FleetConfig,
}

/// Where pods come from, and how they are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FleetConfig {
    /// Pods that are there from the start: URLs, or mappings with one.
    #[serde(deserialize_with = "pods")]
    #[schemars(schema_with = "pods_schema")]
    pub pods: Vec<PodConfig>,
    /// A file with more of them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "FileConfig")]
    pub file: Option<FileConfig>,
    /// The Kubernetes API, whose ready pods come and go by themselves.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "KubernetesConfig")]
    pub kubernetes: Option<KubernetesConfig>,
    /// How host names are resolved, of pods that say `resolve`.
    pub dns: DnsConfig,
    /// What is known of all pods, unless a pod's own `known` says otherwise.
    pub known: KnownConfig,
    /// How pods are asked what they are.
    pub learn: LearnConfig,
    /// How pods are asked how busy they are.
    pub scrape: ScrapeConfig,
    /// How streams of events are followed.
    pub events: EventsConfig,
    /// How long a pod that left the list goes on with the requests it has, before it is removed; milliseconds.
    pub drain_ms: u64,
}

/// A file with a list of pods, YAML or JSON, of the form of [`FleetConfig::pods`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// Where it is.
    #[serde(deserialize_with = "path")]
    #[schemars(with = "String")]
    pub path: PathBuf,
    /// How often it is read again; milliseconds.
    #[serde(default = "FileConfig::default_interval")]
    #[schemars(range(min = 10))]
    pub interval_ms: u64,
}

impl FileConfig {
    const fn default_interval() -> u64 {
        2000
    }
}

fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    text(deserializer).map(PathBuf::from)
}

/// How host names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DnsConfig {
    /// How often; milliseconds.
    #[schemars(range(min = 10))]
    pub interval_ms: u64,
    /// Most pods behind one name.
    #[schemars(range(min = 1))]
    pub max: u32,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self { interval_ms: 5000, max: 1024 }
    }
}

/// How pods are asked what they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearnConfig {
    /// How often a pod that answers is asked again, for adapters that come and go; milliseconds.
    #[schemars(range(min = 10))]
    pub interval_ms: u64,
    /// How long one answer may take; milliseconds.
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
    /// Longest answer that is read; bytes.
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
    /// How long to wait after a pod did not answer, the first time; milliseconds. Twice as long each time after.
    #[schemars(range(min = 10))]
    pub retry_ms: u64,
    /// The longest such wait; milliseconds.
    pub max_retry_ms: u64,
    /// A file with the key that pods ask for (vLLM's `--api-key`), sent as a bearer token; it is read again whenever a pod
    /// is asked.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_path")]
    #[schemars(with = "String")]
    pub token_file: Option<PathBuf>,
}

impl Default for LearnConfig {
    fn default() -> Self {
        Self {
            interval_ms: 10_000,
            timeout_ms: 3000,
            max_bytes: 1 << 20,
            retry_ms: 500,
            max_retry_ms: 15_000,
            token_file: None,
        }
    }
}

/// How pods are asked how busy they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    /// How often each pod is asked; milliseconds. Between two reports a router counts what it sends itself, so a second
    /// costs little; llm-d's 50 ms cost 7.5 idle cores with 100 pods (llm-d 0.9 `docs/operations.md`).
    #[schemars(range(min = 10))]
    pub interval_ms: u64,
    /// How long one answer may take; milliseconds.
    #[schemars(range(min = 1))]
    pub timeout_ms: u64,
    /// Longest answer that is read; bytes.
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
    /// Most pods that are asked at one time. Those that hang take a place until their time is over, and then are asked
    /// less and less often.
    #[schemars(range(min = 1, max = 65_536))]
    pub concurrency: u32,
    /// From which age on a report counts no more, as if there were none; milliseconds.
    pub stale_ms: u64,
    /// Scrapes in a row without an answer from which on a pod gets no requests, until it answers again.
    #[schemars(range(min = 1))]
    pub failures: u32,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            interval_ms: 1000,
            timeout_ms: 2000,
            max_bytes: 4 << 20,
            concurrency: 256,
            stale_ms: 5000,
            failures: 3,
        }
    }
}

/// How streams of events are followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsConfig {
    /// Threads that streams are spread over.
    #[schemars(range(min = 1, max = 256))]
    pub threads: u32,
    /// Batches a stream may hold back while it waits for a replay.
    #[schemars(range(min = 1))]
    pub max_held_batches: u32,
    /// Bytes those may have.
    #[schemars(range(min = 1))]
    pub max_held_bytes: u32,
    /// Longest message that is taken; bytes.
    #[schemars(range(min = 1))]
    pub max_message_bytes: u32,
}

impl Default for EventsConfig {
    fn default() -> Self {
        let options = SubscriberOptions::default();
        let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            threads: small(options.threads.get()),
            max_held_batches: small(options.max_held_batches),
            max_held_bytes: small(options.max_held_bytes),
            max_message_bytes: options.max_message_bytes,
        }
    }
}

impl EventsConfig {
    pub(super) fn options(&self) -> SubscriberOptions {
        SubscriberOptions {
            threads: NonZeroUsize::new(self.threads as usize).unwrap_or(NonZeroUsize::MIN),
            max_held_batches: self.max_held_batches as usize,
            max_held_bytes: self.max_held_bytes as usize,
            max_message_bytes: self.max_message_bytes,
            ..SubscriberOptions::default()
        }
    }
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            pods: Vec::new(),
            file: None,
            kubernetes: None,
            dns: DnsConfig::default(),
            known: KnownConfig::default(),
            learn: LearnConfig::default(),
            scrape: ScrapeConfig::default(),
            events: EventsConfig::default(),
            drain_ms: 30_000,
        }
    }
}

impl FleetDocument {
    /// Reads a document that is JSON if it begins with `{`, and YAML otherwise, and checks it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its path, line and column as far as they are known.
    pub fn parse(document: &str) -> Result<Self, Error> {
        config::read(document)
    }

    /// JSON Schema (draft 2020-12) of the documents.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

impl Document for FleetDocument {
    fn checked(&self) -> Result<(), Problem> {
        self.fleet.check_with(&self.router).map_err(|problem| problem.at("fleet"))?;
        Document::checked(&self.router).map_err(|problem| problem.at("router"))?;
        if self.router.pods.is_empty() {
            return Ok(());
        }
        Err(Problem::new("pods come from `fleet` here; none may be named").at("pods").at("router"))
    }
}

impl FleetConfig {
    /// Finds what is wrong with it that its types do not rule out, the router's cache domains included: for the
    /// [`Document::checked`] of embedders.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn check_with(&self, router: &Config) -> Result<(), Problem> {
        self.check(|name| router.domains.contains_key(name))
    }

    /// The same where the router's cache domains are those that `is_domain`.
    pub(super) fn check(&self, is_domain: impl Fn(&str) -> bool) -> Result<(), Problem> {
        let at_least = |least: u64, found: u64, section: &'static str, key: &'static str| {
            if found >= least {
                return Ok(());
            }
            Err(Problem::found(found, format!("{least} or more")).at(key).at(section))
        };
        at_least(10, self.dns.interval_ms, "dns", "interval_ms")?;
        at_least(1, self.dns.max.into(), "dns", "max")?;
        at_least(10, self.learn.interval_ms, "learn", "interval_ms")?;
        at_least(1, self.learn.timeout_ms, "learn", "timeout_ms")?;
        at_least(1, self.learn.max_bytes, "learn", "max_bytes")?;
        at_least(10, self.learn.retry_ms, "learn", "retry_ms")?;
        at_least(self.learn.retry_ms, self.learn.max_retry_ms, "learn", "max_retry_ms")?;
        at_least(10, self.scrape.interval_ms, "scrape", "interval_ms")?;
        at_least(1, self.scrape.timeout_ms, "scrape", "timeout_ms")?;
        at_least(1, self.scrape.max_bytes, "scrape", "max_bytes")?;
        at_least(1, self.scrape.concurrency.into(), "scrape", "concurrency")?;
        at_least(1, self.scrape.failures.into(), "scrape", "failures")?;
        at_least(self.scrape.interval_ms, self.scrape.stale_ms, "scrape", "stale_ms")?;
        at_least(1, self.events.threads.into(), "events", "threads")?;
        at_least(1, self.events.max_held_batches.into(), "events", "max_held_batches")?;
        at_least(1, self.events.max_held_bytes.into(), "events", "max_held_bytes")?;
        at_least(1, self.events.max_message_bytes.into(), "events", "max_message_bytes")?;
        if self.events.threads > 256 {
            return Err(Problem::found(self.events.threads, "256 at most").at("threads").at("events"));
        }
        if let Some(file) = &self.file {
            at_least(10, file.interval_ms, "file", "interval_ms")?;
        }
        if let Some(kubernetes) = &self.kubernetes {
            kubernetes.checked().map_err(|problem| problem.at("kubernetes"))?;
        }
        self.known.checked().map_err(|problem| problem.at("known"))?;
        check_pods(&self.pods, is_domain).map_err(|problem| problem.at("pods"))
    }
}
