//! Traces: a span for each request, sent to an OpenTelemetry collector.
//!
//! OTLP over HTTP in its JSON form is small and stable (opentelemetry-proto 1.x, `docs/specification.md`), so it is
//! written here, by the HTTP client that is here anyway: the OpenTelemetry SDK with its exporter would bring some forty
//! packages for one POST a second.

mod context;
mod exporter;
mod span;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use kvroute_core::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub use context::TraceContext;
use exporter::{Exporter, Message};
use span::Span;

use super::TracesConfig;
use crate::client::client;
use crate::config::{GatewayConfig, invalid};
use crate::outcome::{Observer, RequestOutcome};

/// Begins spans, and hands ended ones to a task that sends them.
#[derive(Debug)]
pub(super) struct Traces {
    one_in: u64,
    requests: AtomicU64,
    random: RandomState,
    drawn: AtomicU64,
    queue: mpsc::Sender<Message>,
    counts: Arc<Counts>,
}

/// What became of spans.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Traces {
    /// Starts the task; inside a tokio runtime. It ends when this is dropped.
    ///
    /// # Errors
    ///
    /// If the endpoint is no URL, or the machine's certificates cannot be read.
    pub(super) fn start(config: &TracesConfig, gateway: &GatewayConfig) -> Result<Self, Error> {
        let uri =
            config.uri().ok_or_else(|| invalid(format!("{:?} is no URL for traces", config.endpoint)))?;
        let (queue, messages) = mpsc::channel(config.max_queued);
        let counts = Arc::new(Counts::default());
        let exporter = Exporter::new(client(gateway)?, uri, config.service.clone(), Arc::clone(&counts));
        tokio::spawn(exporter.run(messages));
        Ok(Self {
            one_in: u64::from(config.one_in),
            requests: AtomicU64::new(0),
            random: RandomState::new(),
            drawn: AtomicU64::new(0),
            queue,
            counts,
        })
    }

    /// A request's place in the trace that its client began, or in one of its own; the pod gets it as its parent.
    pub(super) fn enter(&self, headers: &mut HeaderMap) -> TraceContext {
        let context = match TraceContext::of_client(headers) {
            Some(client) => client.child(self.draw()),
            None => {
                let is_sampled = self.requests.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in);
                TraceContext::root([self.draw(), self.draw()], self.draw(), is_sampled)
            }
        };
        context.pass_on(headers);
        context
    }

    /// A number that nobody else draws; never 0. Hashes of a counter under a random key: ids need no secrecy.
    fn draw(&self) -> u64 {
        self.random.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed)).max(1)
    }

    /// What became of spans so far.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        let Counts { sent, dropped, failed } = &*self.counts;
        let all = [("sent", sent), ("dropped", dropped), ("failed", failed)];
        all.map(|(result, count)| (result, count.load(Ordering::Relaxed))).to_vec()
    }

    /// Sends what waits, and gives up after five seconds.
    pub(super) async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = is_done.await;
            }
        };
        if timeout(Duration::from_secs(5), flush).await.is_err() {
            tracing::warn!("the last spans were not sent in time");
        }
    }
}

impl Observer for Traces {
    fn finished(&self, outcome: &RequestOutcome) {
        let Some(context) = outcome.trace.as_ref().filter(|context| context.is_sampled()) else { return };
        let span = Message::Span(Box::new(Span::new(context, outcome)));
        if self.queue.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
