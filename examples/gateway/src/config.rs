//! The gateway's document: a router and what feeds it, as everywhere, and the section `gateway`, which is its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use kvroute_core::Error;
use kvroute_core::config::value::{mapping, present};
use kvroute_core::config::{self, Config, Problem};
use kvroute_io::fleet::FleetConfig;
use kvroute_io::pods::{PodConfig, PodUrl};
use kvroute_io::shared::SharedConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::watch::{TracesConfig, WatchConfig};

/// All that can be said of a gateway. Only pods have to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "kvroute-gateway configuration")]
pub struct Document {
    /// How requests are received and sent on.
    pub gateway: GatewayConfig,
    /// How pods are chosen. Its `pods` stay empty: here pods come from the fleet.
    pub router: Config,
    /// Where pods come from, and how they are asked.
    pub fleet: FleetConfig,
    /// What this gateway shares with others in front of the same pods.
    pub shared: SharedConfig,
    /// Tokenizers by served model. Prompts of other models are known as text, and go where such a text went before.
    #[serde(deserialize_with = "mapping")]
    pub tokenizers: BTreeMap<String, TokenizerConfig>,
}

impl Document {
    /// Reads a document that is JSON if it begins with `{`, and YAML otherwise, and checks it.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its path, line and column as far as they are known.
    pub fn parse(document: &str) -> Result<Self, Error> {
        config::read(document)
    }

    /// The document that says nothing but where pods are.
    ///
    /// # Errors
    ///
    /// If one is there twice.
    pub fn of_pods(urls: impl IntoIterator<Item = PodUrl>) -> Result<Self, Error> {
        let mut document = Self::default();
        document.fleet.pods = urls.into_iter().map(PodConfig::new).collect();
        config::Document::checked(&document)?;
        Ok(document)
    }

    /// JSON Schema (draft 2020-12) of the documents.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }
}

impl config::Document for Document {
    fn checked(&self) -> Result<(), Problem> {
        self.gateway.checked().map_err(|p| p.at("gateway"))?;
        self.shared.checked().map_err(|p| p.at("shared"))?;
        self.fleet.check_with(&self.router).map_err(|p| p.at("fleet"))?;
        config::Document::checked(&self.router).map_err(|p| p.at("router"))?;
        if !self.router.pods.is_empty() {
            return Err(Problem::new("pods come from `fleet` here; none may be named")
                .at("pods")
                .at("router"));
        }
        if self.gateway.session.token_cookie.is_some() && self.router.sessions.key.is_none() {
            let problem = Problem::new("session tokens need a key: `router.sessions.key`");
            return Err(problem.at("token_cookie").at("session").at("gateway"));
        }
        Ok(())
    }
}

/// What makes token ids of a model's prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// The model's folder, with `tokenizer.json` and what lies beside it.
    pub path: PathBuf,
    /// A file with the chat template that the engines were given (`--chat-template`), in place of the model's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "PathBuf")]
    pub chat_template: Option<PathBuf>,
}

/// How requests are received and sent on. All of it has defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Certificate and key, to serve HTTPS.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "TlsConfig")]
    pub tls: Option<TlsConfig>,
    /// How pods are chosen.
    pub routing: Routing,
    /// How KV gets from the pod that prefills to the pod that decodes.
    pub prefill: PrefillProtocol,
    /// Most times a request is sent to another pod, when one fails before it answers.
    pub retries: u32,
    /// Bounds of what is taken in.
    pub limits: LimitsConfig,
    /// How long things may take.
    pub timeouts: TimeoutsConfig,
    /// How a request says which conversation it belongs to.
    pub session: SessionConfig,
    /// Whether answers say where they come from and why, in headers `x-kvroute-...`.
    pub answer_headers: bool,
    /// The log on standard error.
    pub log: LogConfig,
    /// A file of decisions, for `whatif`; none: not written.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "DecisionLogConfig")]
    pub decision_log: Option<DecisionLogConfig>,
    /// A file with what the router knows, to start from; none: not written.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "SnapshotConfig")]
    pub snapshot: Option<SnapshotConfig>,
    /// What people can see of it.
    pub watch: WatchConfig,
    /// How often the configuration's file is looked at, milliseconds; 0: only at SIGHUP.
    pub reload_ms: u64,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            tls: None,
            routing: Routing::default(),
            prefill: PrefillProtocol::default(),
            retries: 2,
            limits: LimitsConfig::default(),
            timeouts: TimeoutsConfig::default(),
            session: SessionConfig::default(),
            answer_headers: false,
            log: LogConfig::default(),
            decision_log: None,
            snapshot: None,
            watch: WatchConfig::default(),
            reload_ms: 5000,
        }
    }
}

/// How pods are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Routing {
    /// By the router's policy.
    #[default]
    Policy,
    /// In turn, whatever the request is: to compare with.
    RoundRobin,
}

/// How KV gets from the pod that prefills to the pod that decodes, where the policy uses two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PrefillProtocol {
    /// llm-d's: the request goes to the decode pod, whose routing sidecar reads the prefill pod's address in the header
    /// `x-prefiller-host-port` and does the rest (llm-d-inference-scheduler, `pkg/sidecar/proxy`).
    #[default]
    Sidecar,
    /// vLLM's: the gateway sends the request to the prefill pod first, for one token and with `kv_transfer_params`,
    /// and hands those of the answer to the decode pod (vLLM, `tests/v1/kv_connector/nixl_integration`).
    Vllm,
}

/// Bounds of what is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Longest body of a request, bytes.
    #[schemars(range(min = 1))]
    pub max_body_bytes: usize,
    /// Most bytes of requests' bodies that are held at once; what would go beyond is answered with 503.
    #[schemars(range(min = 1))]
    pub max_buffered_bytes: usize,
    /// Most connections of clients; more wait to be accepted.
    #[schemars(range(min = 1))]
    pub max_connections: usize,
    /// Longest head of a request, bytes; 8192 at least.
    #[schemars(range(min = 8192))]
    pub max_head_bytes: usize,
}

impl Default for LimitsConfig {
    /// 32 MiB is a prompt of a few million token ids.
    fn default() -> Self {
        Self {
            max_body_bytes: 32 << 20,
            max_buffered_bytes: 1 << 30,
            max_connections: 10_000,
            max_head_bytes: 64 << 10,
        }
    }
}

/// How long things may take, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsConfig {
    /// For the head of a request to arrive, and for the next one on an idle connection.
    #[schemars(range(min = 1))]
    pub head_ms: u64,
    /// For the body of a request to arrive.
    #[schemars(range(min = 1))]
    pub body_ms: u64,
    /// For a client to take what is sent to it.
    #[schemars(range(min = 1))]
    pub write_ms: u64,
    /// For a connection to a pod.
    #[schemars(range(min = 1))]
    pub connect_ms: u64,
    /// For the first byte of a pod's answer; of one that is no stream that is when all of it is generated.
    #[schemars(range(min = 1))]
    pub first_byte_ms: u64,
    /// Between two pieces of a pod's answer.
    #[schemars(range(min = 1))]
    pub idle_ms: u64,
    /// For a request as a whole.
    #[schemars(range(min = 1))]
    pub total_ms: u64,
    /// For requests in flight to end when the gateway is told to stop.
    #[schemars(range(min = 1))]
    pub drain_ms: u64,
}

impl Default for TimeoutsConfig {
    /// The total is as long as the router by default remembers a request (`requests.ttl_seconds`).
    fn default() -> Self {
        Self {
            head_ms: 30_000,
            body_ms: 30_000,
            write_ms: 30_000,
            connect_ms: 2_000,
            first_byte_ms: 600_000,
            idle_ms: 120_000,
            total_ms: 600_000,
            drain_ms: 30_000,
        }
    }
}

/// How a request says which conversation it belongs to: by an id in a header, else by one in a cookie, else by a token
/// of the router's in a cookie that the gateway sets. Names are passed over without regard to case where HTTP does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionConfig {
    /// Header with an id; vLLM reads `x-session-id` too (0.30).
    pub header: Option<String>,
    /// Cookie with an id.
    pub cookie: Option<String>,
    /// Cookie with the router's sealed token, which the gateway sets where a client sends no id. Needs `sessions.key`.
    pub token_cookie: Option<String>,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self { header: Some("x-session-id".to_owned()), cookie: None, token_cookie: None }
    }
}

/// The log on standard error: one line a request, with no text of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// How lines are written.
    pub format: LogFormat,
    /// What is written, as `tracing_subscriber::EnvFilter` reads it: `info`, `kvroute_gateway=debug,warn`.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".to_owned() }
    }
}

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A file of decisions and their outcomes ([`kvroute_core::record`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionLogConfig {
    /// The file. When it is full it is renamed, with `.1` behind its name, in place of the one before.
    pub path: PathBuf,
    /// Bytes at which it is full; there are two of them at most.
    #[serde(default = "DecisionLogConfig::default_max_bytes")]
    #[schemars(range(min = 1))]
    pub max_bytes: u64,
}

impl DecisionLogConfig {
    const fn default_max_bytes() -> u64 {
        256 << 20
    }
}

/// A file with what the router knows: read at the start, written while running and at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotConfig {
    /// The file. Who can write it can make the gateway believe it: keep it where the configuration is kept.
    pub path: PathBuf,
    /// How often it is written, milliseconds; 0: only at the end.
    #[serde(default = "SnapshotConfig::default_interval_ms")]
    pub interval_ms: u64,
}

impl SnapshotConfig {
    const fn default_interval_ms() -> u64 {
        60_000
    }
}

/// Certificate and key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Chain of certificates, the server's first.
    pub certificate: PathBuf,
    /// Private key of the first.
    pub key: PathBuf,
}

impl GatewayConfig {
    /// Finds what is wrong with it that its types do not rule out.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and its path.
    pub fn checked(&self) -> Result<(), Problem> {
        self.timeouts.checked().map_err(|p| p.at("timeouts"))?;
        self.limits.checked().map_err(|p| p.at("limits"))?;
        self.session.checked().map_err(|p| p.at("session"))?;
        self.watch.checked().map_err(|p| p.at("watch"))?;
        if self.decision_log.as_ref().is_some_and(|log| log.max_bytes == 0) {
            return Err(Problem::found(0, "1 or more").at("max_bytes").at("decision_log"));
        }
        Ok(())
    }
}

impl TimeoutsConfig {
    fn checked(&self) -> Result<(), Problem> {
        let all = [
            ("head_ms", self.head_ms),
            ("body_ms", self.body_ms),
            ("write_ms", self.write_ms),
            ("connect_ms", self.connect_ms),
            ("first_byte_ms", self.first_byte_ms),
            ("idle_ms", self.idle_ms),
            ("total_ms", self.total_ms),
            ("drain_ms", self.drain_ms),
        ];
        match all.iter().find(|(_, ms)| !(1..=LONGEST_MS).contains(ms)) {
            Some(&(key, ms)) => Err(Problem::found(ms, format!("1 to {LONGEST_MS}")).at(key)),
            None => Ok(()),
        }
    }
}

impl LimitsConfig {
    fn checked(&self) -> Result<(), Problem> {
        /// Least that hyper can work with.
        const LEAST_HEAD: usize = 8192;
        let all = [
            ("max_body_bytes", self.max_body_bytes, 1),
            ("max_buffered_bytes", self.max_buffered_bytes, 1),
            ("max_connections", self.max_connections, 1),
            ("max_head_bytes", self.max_head_bytes, LEAST_HEAD),
        ];
        for (key, found, least) in all {
            if found < least {
                return Err(Problem::found(found, format!("{least} or more")).at(key));
            }
        }
        Ok(())
    }
}

impl SessionConfig {
    fn checked(&self) -> Result<(), Problem> {
        let all = [("header", &self.header), ("cookie", &self.cookie), ("token_cookie", &self.token_cookie)];
        for (key, name) in all {
            if let Some(name) = name
                && hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err()
            {
                return Err(Problem::found(format!("{name:?}"), "a name that HTTP allows").at(key));
            }
        }
        Ok(())
    }
}

/// Longest time that can be configured: a week. Far below what clocks can add.
const LONGEST_MS: u64 = 7 * 24 * 3600 * 1000;

/// Something that is wrong with what a configuration names, found when it is used.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Problem::new(message).into()
}
