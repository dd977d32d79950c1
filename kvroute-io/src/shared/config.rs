//! What is shared, as data.

use std::path::PathBuf;
use std::time::Duration;

use kvroute_core::PeerOptions;
use kvroute_core::config::Problem;
use kvroute_core::config::value::present;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connection::ConnectionOptions;
use super::index::IndexConfig;

/// What this router shares with others that serve the same pods. Without `urls` nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SharedConfig {
    /// Redis or Valkey: `redis://[user][:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path`. Of several the
    /// first that is a primary is used.
    pub urls: Vec<String>,
    /// Certificates (PEM) that the server's is checked against, in place of the system's.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "PathBuf")]
    pub ca_file: Option<PathBuf>,
    /// What all keys begin with. Routers share state if they have the same.
    pub prefix: String,
    /// What this router calls itself, for people; none: a name drawn at random.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "String")]
    pub replica: Option<String>,
    /// Whether routers tell each other what they have in flight, sent a moment ago, and where conversations are at home.
    pub peers: bool,
    /// How they do.
    pub reports: ReportsConfig,
    /// What the router knows, stored for those that start; none: not stored.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "SnapshotsConfig")]
    pub snapshots: Option<SnapshotsConfig>,
    /// Which pods hold which blocks, for those who follow no events.
    pub index: IndexConfig,
    /// How long the server is waited for; no decision ever is.
    pub timeouts: SharedTimeouts,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            ca_file: None,
            prefix: "kvroute".to_owned(),
            replica: None,
            peers: true,
            reports: ReportsConfig::default(),
            snapshots: None,
            index: IndexConfig::default(),
            timeouts: SharedTimeouts::default(),
        }
    }
}

/// How routers tell each other what they do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReportsConfig {
    /// How long what happened waits to be told along with other things; milliseconds. With more than twenty routers
    /// longer: half a millisecond for each.
    #[schemars(range(min = 1))]
    pub interval_ms: u64,
    /// How often all that is in flight is stated, so that whatever was lost is put right; milliseconds.
    #[schemars(range(min = 10))]
    pub statement_ms: u64,
    /// How long a router may say nothing before it is forgotten; milliseconds. Three seconds at least.
    #[schemars(range(min = 3000))]
    pub silence_ms: u64,
    /// Most reports kept in the stream, roughly.
    #[schemars(range(min = 16))]
    pub max_reports: u64,
    /// Most blocks of a prompt that are told; 0: load and conversations only.
    pub max_blocks: usize,
}

impl Default for ReportsConfig {
    fn default() -> Self {
        Self {
            interval_ms: 10,
            statement_ms: 5000,
            silence_ms: 5000,
            max_reports: 4096,
            max_blocks: PeerOptions::default().max_blocks,
        }
    }
}

/// What the router knows, stored for those that start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotsConfig {
    /// How often one of the routers stores it; milliseconds.
    #[schemars(range(min = 100))]
    pub interval_ms: u64,
    /// Most bytes of a snapshot; a larger one is not stored.
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
}

impl Default for SnapshotsConfig {
    fn default() -> Self {
        Self { interval_ms: 60_000, max_bytes: 1 << 30 }
    }
}

/// How long the server is waited for, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SharedTimeouts {
    /// For a connection, login included.
    #[schemars(range(min = 1))]
    pub connect_ms: u64,
    /// For the answer to a command.
    #[schemars(range(min = 1))]
    pub command_ms: u64,
    /// For all answers to several that are sent together.
    #[schemars(range(min = 1))]
    pub pipeline_ms: u64,
}

impl Default for SharedTimeouts {
    fn default() -> Self {
        let millis = |time: Duration| time.as_millis() as u64;
        let options = ConnectionOptions::default();
        Self {
            connect_ms: millis(options.connect_timeout),
            command_ms: millis(options.command_timeout),
            pipeline_ms: millis(options.pipeline_timeout),
        }
    }
}

impl SharedConfig {
    /// Whether anything is shared.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.urls.is_empty()
    }

    /// # Errors
    ///
    /// What is wrong, with its path.
    pub fn checked(&self) -> Result<(), Problem> {
        let at_least = |least: u64, value: u64, name: &'static str| {
            (value >= least)
                .then_some(())
                .ok_or_else(|| Problem::new(format!("{value}; {least} is the least")).at(name))
        };
        if self.prefix.is_empty() || self.prefix.contains(['{', '}']) {
            return Err(Problem::new("a prefix is not empty and has no braces").at("prefix"));
        }
        if self.replica.as_ref().is_some_and(|name| name.is_empty() || name.len() > 256) {
            return Err(Problem::new("a name has 1 to 256 bytes").at("replica"));
        }
        let ReportsConfig { interval_ms, statement_ms, silence_ms, max_reports, .. } = self.reports;
        at_least(1, interval_ms, "interval_ms")
            .and_then(|()| at_least(10, statement_ms, "statement_ms"))
            .and_then(|()| at_least(3000, silence_ms, "silence_ms"))
            .and_then(|()| at_least(16, max_reports, "max_reports"))
            .map_err(|problem| problem.at("reports"))?;
        if let Some(snapshots) = &self.snapshots {
            at_least(100, snapshots.interval_ms, "interval_ms")
                .and_then(|()| at_least(1, snapshots.max_bytes, "max_bytes"))
                .map_err(|problem| problem.at("snapshots"))?;
        }
        self.index.checked().map_err(|problem| problem.at("index"))?;
        let SharedTimeouts { connect_ms, command_ms, pipeline_ms } = self.timeouts;
        at_least(1, connect_ms, "connect_ms")
            .and_then(|()| at_least(1, command_ms, "command_ms"))
            .and_then(|()| at_least(1, pipeline_ms, "pipeline_ms"))
            .map_err(|problem| problem.at("timeouts"))
    }

    pub(super) fn connection(&self) -> ConnectionOptions {
        let SharedTimeouts { connect_ms, command_ms, pipeline_ms } = self.timeouts;
        ConnectionOptions {
            urls: self.urls.clone(),
            ca_file: self.ca_file.clone(),
            connect_timeout: Duration::from_millis(connect_ms),
            command_timeout: Duration::from_millis(command_ms),
            pipeline_timeout: Duration::from_millis(pipeline_ms),
            ..ConnectionOptions::default()
        }
    }

    /// A key of ours. All of them have one hash tag, so a cluster keeps them on one node.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.prefix)
    }
}
