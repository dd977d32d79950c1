//! What people see of a gateway: metrics for Prometheus, a status page, traces.
//!
//! ```text
//! RequestOutcome -> Tallies   -> GET /metrics, with what router and fleet say at that moment
//!                -> Recent    -> GET / (page), /status.json, /decisions/N
//!                -> Traces    -> OTLP over HTTP, where configured
//! ```
//!
//! All of it is bounded: series by [`MAX_PODS`] and [`MAX_MODELS`], decisions by `Recent::KEPT`, spans by a queue. None
//! of it waits: what does not fit is left out and counted.

mod config;
mod decisions;
mod exposition;
mod index;
mod llm_d;
mod page;
mod pods;
mod shared;
mod sheet;
mod status;
mod streams;
mod tallies;
mod traces;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{HeaderMap, Response};
use kvroute_core::Error;

use crate::answer::AnswerBody;
use crate::config::GatewayConfig;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::outcome::{Observer, RequestOutcome};
pub use config::{TracesConfig, WatchConfig};
use decisions::Recent;
use tallies::Tallies;
pub use traces::TraceContext;
use traces::Traces;

/// Most pods with series of their own in the metrics.
pub const MAX_PODS: usize = 1024;

/// Most models with series of their own in the metrics.
pub const MAX_MODELS: usize = 64;

/// Watches a gateway, and shows what it saw.
#[derive(Debug)]
pub struct Watch {
    config: WatchConfig,
    begun: Instant,
    tallies: Tallies,
    recent: Recent,
    traces: Option<Traces>,
}

impl Watch {
    /// Starts to watch; inside a tokio runtime where traces are configured.
    pub(crate) fn start(config: &GatewayConfig) -> Result<Self, Error> {
        let traces = config.watch.traces.as_ref().map(|traces| Traces::start(traces, config)).transpose()?;
        Ok(Self {
            config: config.watch.clone(),
            begun: Instant::now(),
            tallies: Tallies::default(),
            recent: Recent::default(),
            traces,
        })
    }

    /// A request arrived.
    pub(crate) fn started(&self) {
        self.tallies.started();
    }

    /// The shared index was asked, and this is how long it was waited for.
    pub(crate) fn looked_up(&self, took: Duration) {
        self.tallies.index_lookups.observe(took.as_secs_f64());
    }

    /// Gives a request its place in a trace: that of the headers, or a new one; puts it into them for the pod. Without
    /// traces the headers stay as the client sent them.
    #[must_use]
    pub fn enter_trace(&self, headers: &mut HeaderMap) -> Option<TraceContext> {
        self.traces.as_ref().map(|traces| traces.enter(headers))
    }

    /// Sends the spans that still wait; gives up after some seconds.
    pub async fn flush(&self) {
        if let Some(traces) = &self.traces {
            traces.flush().await;
        }
    }
}

impl Observer for Watch {
    fn finished(&self, outcome: &RequestOutcome) {
        self.tallies.finished(outcome);
        if self.config.page {
            self.recent.keep(outcome);
        }
        if let Some(traces) = &self.traces {
            traces.finished(outcome);
        }
    }

    fn wants_explanations(&self) -> bool {
        self.config.page && self.recent.wants_one()
    }
}

/// Whether something is shown at this path, unless it is switched off.
pub(crate) fn serves(path: &str) -> bool {
    matches!(path, "/" | "/page.css" | "/page.js" | "/status.json" | "/metrics")
        || path.starts_with("/decisions/")
}

/// What is shown at a path.
pub(crate) async fn answer(gateway: &Arc<Gateway>, path: &str) -> Response<AnswerBody> {
    let config = &gateway.watch().config;
    let is_on = if path == "/metrics" { config.metrics } else { config.page };
    if !is_on {
        return ApiError::unknown_path(path).into_response();
    }
    match path {
        "/metrics" => gathered(gateway, exposition::KIND, exposition::text).await,
        "/status.json" => gathered(gateway, page::JSON, status::json).await,
        _ => match path.strip_prefix("/decisions/") {
            None => page::asset(path),
            Some(number) => match number.parse().ok().and_then(|number| gateway.watch().recent.get(number)) {
                Some(decision) => page::shown(page::JSON, decision.explained()),
                None => ApiError::unknown_path(path).into_response(),
            },
        },
    }
}

/// Gathers on a thread where that disturbs nobody: with a thousand pods it takes milliseconds.
async fn gathered(
    gateway: &Arc<Gateway>,
    kind: &'static str,
    gather: fn(&Arc<Gateway>) -> String,
) -> Response<AnswerBody> {
    let gateway = Arc::clone(gateway);
    match tokio::task::spawn_blocking(move || gather(&gateway)).await {
        Ok(text) => page::shown(kind, text),
        Err(_) => ApiError::internal("It could not be gathered").into_response(),
    }
}
