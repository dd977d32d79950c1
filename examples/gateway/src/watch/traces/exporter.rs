//! The task that sends spans to a collector.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Counts;
use super::span::Span;
use crate::client::Client;

/// What the task is told.
#[derive(Debug)]
pub(super) enum Message {
    /// A span that has ended.
    Span(Box<Span>),
    /// All spans before this are to be sent now; somebody waits for it.
    Flush(oneshot::Sender<()>),
}

#[derive(Debug)]
pub(super) struct Exporter {
    client: Client,
    uri: Uri,
    service: String,
    counts: Arc<Counts>,
    /// It was said that the collector does not answer, and it has not answered since.
    has_complained: bool,
}

impl Exporter {
    /// Most spans in one request.
    const AT_ONCE: usize = 512;
    /// Longest that a span waits for others.
    const PAUSE: Duration = Duration::from_secs(1);
    /// Longest that a collector may take.
    const TIMEOUT: Duration = Duration::from_secs(10);

    pub(super) fn new(client: Client, uri: Uri, service: String, counts: Arc<Counts>) -> Self {
        Self { client, uri, service, counts, has_complained: false }
    }

    /// Sends spans until nobody is left who could hand any over.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(message) = messages.recv().await {
            let (mut spans, mut waiting) = (Vec::new(), Vec::new());
            let mut next = Some(message);
            let due = Instant::now() + Self::PAUSE;
            while let Some(message) = next {
                match message {
                    Message::Span(span) => spans.push(*span),
                    Message::Flush(done) => waiting.push(done),
                }
                let is_full = spans.len() >= Self::AT_ONCE || !waiting.is_empty();
                next = if is_full { None } else { timeout_at(due, messages.recv()).await.ok().flatten() };
            }
            self.send(spans).await;
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    /// Sends spans once: what a collector misses is counted, and the next ones come soon.
    async fn send(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if count == 0 {
            return;
        }
        let sent = timeout(Self::TIMEOUT, self.post(spans)).await;
        match sent.unwrap_or_else(|_| Err("it took too long".to_owned())) {
            Ok(()) => {
                self.has_complained = false;
                self.counts.sent.fetch_add(count, Ordering::Relaxed);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.has_complained, true) {
                    tracing::warn!(collector = %self.uri, error, "spans could not be sent");
                }
                self.counts.failed.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    async fn post(&self, spans: Vec<Span>) -> Result<(), String> {
        let body = Span::document(&self.service, spans).to_string();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.client.request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        // Read to its end, so that the connection can be used again; a collector has little to say.
        let _ = Limited::new(answer.into_body(), 64 << 10).collect().await;
        if status.is_success() { Ok(()) } else { Err(status.to_string()) }
    }
}
