//! How a gateway is watched, as data.

use hyper::Uri;
use kvroute_core::config::Problem;
use kvroute_core::config::value::present;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What people can see of the gateway. It is served where the API is: switch it off, or keep its paths inside, where
/// clients are not to be trusted with the names of pods and models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Metrics for Prometheus, at `/metrics`.
    pub metrics: bool,
    /// The status page at `/`, with `/status.json` and `/decisions/N`.
    pub page: bool,
    /// Whether the metrics that llm-d's endpoint picker has as well are there by its names too (`llm_d_epp_...`,
    /// `inference_objective_...`, `inference_pool_...`, `inference_extension_...`), for dashboards made for it.
    pub llm_d_names: bool,
    /// Traces, a span a request; none: not kept.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    #[schemars(with = "TracesConfig")]
    pub traces: Option<TracesConfig>,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { metrics: true, page: true, llm_d_names: false, traces: None }
    }
}

impl WatchConfig {
    /// Finds what is wrong with it that its types do not rule out.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and its path.
    pub(crate) fn checked(&self) -> Result<(), Problem> {
        self.traces.as_ref().map_or(Ok(()), TracesConfig::checked).map_err(|p| p.at("traces"))
    }
}

/// Traces, sent to an OpenTelemetry collector: OTLP 1.x over HTTP, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Where spans are sent, as a whole: `http://collector:4318/v1/traces`.
    pub endpoint: String,
    /// What the gateway calls itself (`service.name`).
    #[serde(default = "TracesConfig::default_service")]
    pub service: String,
    /// One request in so many begins a trace, where its client has none; one that has says itself whether it is kept.
    #[serde(default = "TracesConfig::default_one_in")]
    #[schemars(range(min = 1))]
    pub one_in: u32,
    /// Most spans that wait to be sent; more are dropped, and counted.
    #[serde(default = "TracesConfig::default_max_queued")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_queued: usize,
}

impl TracesConfig {
    fn default_service() -> String {
        "kvroute-gateway".to_owned()
    }

    const fn default_one_in() -> u32 {
        1
    }

    const fn default_max_queued() -> usize {
        4096
    }

    /// The endpoint as requests need it.
    pub(super) fn uri(&self) -> Option<Uri> {
        let uri: Uri = self.endpoint.parse().ok()?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        (is_http && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
    }

    fn checked(&self) -> Result<(), Problem> {
        if self.uri().is_none() {
            let found = format!("{:?}", self.endpoint);
            return Err(Problem::found(found, "a URL such as http://collector:4318/v1/traces").at("endpoint"));
        }
        if self.one_in == 0 {
            return Err(Problem::found(0, "1 or more").at("one_in"));
        }
        if !(1..=1_000_000).contains(&self.max_queued) {
            return Err(Problem::found(self.max_queued, "1 to 1000000").at("max_queued"));
        }
        Ok(())
    }
}
