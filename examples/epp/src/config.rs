//! The picker's document: the gateway's, and the section `epp`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use kvroute_core::Error;
use kvroute_core::config::value::{mapping, present};
use kvroute_core::config::{self, Config, Problem};
use kvroute_gateway::config::{Document as Base, GatewayConfig, PrefillProtocol, TlsConfig, TokenizerConfig};
use kvroute_gateway::reload::Configured;
use kvroute_io::fleet::FleetConfig;
use kvroute_io::pods::PodUrl;
use kvroute_io::shared::SharedConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// All that can be said of a picker. Only pods have to be.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "Sections")]
pub struct Document {
    /// What it has in common with the gateway.
    pub base: Base,
    /// What it has not.
    pub epp: EppConfig,
    /// What does not map of llm-d's configuration, a line each.
    pub notes: Vec<String>,
}

/// The document as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "kvroute-epp configuration")]
struct Sections {
    /// How requests are read, bounded, logged and shown, as the gateway's. What is about sending requests to pods
    /// (`listen`, `tls`, `retries`, time limits of pods) counts for nothing here: Envoy does that.
    gateway: GatewayConfig,
    /// How pods are chosen. Its `pods` stay empty: here pods come from the fleet.
    router: Config,
    /// Where pods come from, and how they are asked.
    fleet: FleetConfig,
    /// What this picker shares with others in front of the same pods.
    shared: SharedConfig,
    /// Tokenizers by served model. Prompts of other models are known as text, and go where such a text went before.
    #[serde(deserialize_with = "mapping")]
    tokenizers: BTreeMap<String, TokenizerConfig>,
    /// What is the picker's alone.
    epp: EppConfig,
}

impl From<Sections> for Document {
    fn from(sections: Sections) -> Self {
        let Sections { gateway, router, fleet, shared, tokenizers, epp } = sections;
        let mut base = Base { gateway, router, fleet, shared, tokenizers };
        // Whoever takes this picker for llm-d's has its dashboards.
        base.gateway.watch.llm_d_names = true;
        Self { base, epp, notes: Vec::new() }
    }
}

/// What is the picker's alone. All of it has defaults; the ports are llm-d's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EppConfig {
    /// Where Envoy asks: external processing over gRPC, and gRPC health.
    pub listen: SocketAddr,
    /// Where probes ask: gRPC health, never over TLS.
    pub health: SocketAddr,
    /// Where people and Prometheus look: `/metrics`, the status page, `/explain`, `/health`, `/ready`; HTTP.
    pub watch: SocketAddr,
    /// Certificate and key, where Envoy asks over TLS.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "TlsConfig")]
    pub tls: Option<TlsConfig>,
    /// Which requests are answered with 429.
    pub shed: Shed,
    /// A file with an `EndpointPickerConfig` of llm-d's, in place of the section `router`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "PathBuf")]
    pub endpoint_picker_config: Option<PathBuf>,
}

impl Default for EppConfig {
    fn default() -> Self {
        let at = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Self {
            listen: at(9002),
            health: at(9003),
            watch: at(9090),
            tls: None,
            shed: Shed::default(),
            endpoint_picker_config: None,
        }
    }
}

/// Which requests are answered with 429, because there is too much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shed {
    /// None, but those for whose bodies there is no memory (`gateway.limits.max_buffered_bytes`).
    #[default]
    Never,
    /// Those that come while every pod that could answer has reached the bounds of `router.overload`.
    Saturated,
}

impl Document {
    /// Reads a document that is JSON if it begins with `{`, and YAML otherwise, and checks it; with the file that it may
    /// name in place of its router.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, with its path, line and column as far as they are known.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut document: Self = config::read(text)?;
        document.read_endpoint_picker_config()?;
        Ok(document)
    }

    /// The document that says nothing but where pods are.
    ///
    /// # Errors
    ///
    /// If one is there twice, or has no address.
    pub fn of_pods(urls: impl IntoIterator<Item = PodUrl>) -> Result<Self, Error> {
        let Base { gateway, router, fleet, shared, tokenizers } = Base::of_pods(urls)?;
        let document =
            Sections { gateway, router, fleet, shared, tokenizers, epp: EppConfig::default() }.into();
        config::Document::checked(&document)?;
        Ok(document)
    }

    /// Reads the router from the file that stands in its place, if there is one. What does not map is noted.
    ///
    /// # Errors
    ///
    /// That the file cannot be read, or what is wrong in it.
    pub fn read_endpoint_picker_config(&mut self) -> Result<(), Error> {
        let Some(path) = &self.epp.endpoint_picker_config else { return Ok(()) };
        let fail =
            |error: &dyn std::fmt::Display| Error::from(Problem::new(format!("{}: {error}", path.display())));
        let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
        let (router, notes) = Config::from_endpoint_picker(&text).map_err(|error| fail(&error))?;
        self.notes = notes.into_iter().map(|note| format!("{}: {note}", path.display())).collect();
        self.base.router = router;
        Ok(())
    }

    /// JSON Schema (draft 2020-12) of the documents.
    #[must_use]
    pub fn json_schema() -> Value {
        schemars::schema_for!(Sections).to_value()
    }
}

impl config::Document for Document {
    fn checked(&self) -> Result<(), Problem> {
        config::Document::checked(&self.base)?;
        if self.base.gateway.prefill != PrefillProtocol::Sidecar {
            let problem = "a picker sends no requests itself; expected `sidecar`";
            return Err(Problem::new(problem).at("prefill").at("gateway"));
        }
        if self.base.gateway.tls.is_some() {
            return Err(Problem::new(
                "Envoy's clients are Envoy's; for its own connection there is `epp.tls`",
            )
            .at("tls")
            .at("gateway"));
        }
        if self.base.gateway.listen != GatewayConfig::default().listen {
            return Err(Problem::new("a picker has `epp.listen` for Envoy and `epp.watch` for people")
                .at("listen")
                .at("gateway"));
        }
        for (at, pod) in self.base.fleet.pods.iter().enumerate() {
            if !pod.resolve && pod.url.host().parse::<IpAddr>().is_err() {
                let expected = "an address, because Envoy goes to addresses; or `resolve: true`";
                let problem = Problem::found(pod.url.host(), expected);
                return Err(problem.at("url").at(at).at("pods").at("fleet"));
            }
        }
        if self.epp.endpoint_picker_config.is_some() && self.base.router != Config::default() {
            let problem = "it stands in place of the section `router`, which says something too";
            return Err(Problem::new(problem).at("endpoint_picker_config").at("epp"));
        }
        Ok(())
    }
}

impl Configured for Document {
    fn parse(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }

    fn gateway(&self) -> &Base {
        &self.base
    }

    fn fixed(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("epp.listen", json!(self.epp.listen)),
            ("epp.health", json!(self.epp.health)),
            ("epp.watch", json!(self.epp.watch)),
            ("epp.tls", json!(self.epp.tls)),
            ("epp.shed", json!(self.epp.shed)),
        ]
    }
}
