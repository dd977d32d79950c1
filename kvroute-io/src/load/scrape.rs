//! Fetching pages of metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use xxhash_rust::xxh3::xxh3_64;

use super::Metrics;
use crate::http::{Bounds, HttpClient, HttpError, Lines};
use crate::pods::PodUrl;

/// Fetches and reads `/metrics` of pods, a bounded number of them at one time. Connections are kept. Cheap to clone;
/// clones share bounds and connections.
#[derive(Clone, Debug)]
pub struct Scraper {
    client: HttpClient,
    lines: Arc<Lines>,
    bounds: Bounds,
}

impl Scraper {
    /// A scraper that waits `timeout` for an answer, reads `max_bytes` of it, and asks `concurrency` pods at one time,
    /// and a quarter as many suspects.
    #[must_use]
    pub fn new(timeout: Duration, max_bytes: usize, concurrency: usize) -> Self {
        Self::with_client(HttpClient::new(), Bounds { timeout, max_bytes }, concurrency)
    }

    /// A scraper over a client's connections.
    pub(crate) fn with_client(client: HttpClient, bounds: Bounds, concurrency: usize) -> Self {
        Self { client, lines: Arc::new(Lines::new(concurrency)), bounds }
    }

    /// What the pod's metrics say now. The time that others are waited for does not count. A suspect is one that did not
    /// answer last time: those wait for each other, and keep nobody else waiting.
    ///
    /// # Errors
    ///
    /// If there was no answer within the bounds, or not a page of metrics.
    pub async fn scrape(&self, url: &PodUrl, is_suspect: bool) -> Result<Metrics, ScrapeError> {
        let _place = self.lines.enter(is_suspect).await;
        let answer = self.client.get(url, "/metrics", None, self.bounds).await.map_err(ScrapeError::Http)?;
        if answer.status != StatusCode::OK {
            return Err(ScrapeError::Status(answer.status.as_u16()));
        }
        Ok(Metrics::parse(&answer.body))
    }
}

/// Why a scrape brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScrapeError {
    /// The pod did not answer.
    Http(HttpError),
    /// It answered with this status.
    Status(u16),
}

impl ScrapeError {
    /// Whether the pod is there all the same: it answered, only not with metrics (SGLang and trtllm-serve have to be
    /// told to keep any). A server's own failure, 5xx, is no such answer.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Status(status) if *status < 500)
    }
}

impl fmt::Display for ScrapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => write!(f, "GET /metrics: {error}"),
            Self::Status(status) => write!(f, "GET /metrics: status {status}"),
        }
    }
}

impl std::error::Error for ScrapeError {}

/// When in an interval a pod is asked: spread by name, and the same after a restart.
#[must_use]
pub fn phase(name: &str, interval: Duration) -> Duration {
    // 53 bits, as many as a number of this kind has exactly; below 1.
    interval.mul_f64((xxh3_64(name.as_bytes()) >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_pods_are_spread_over_the_interval() {
        let interval = Duration::from_secs(1);
        let mut tenths = [0; 10];
        for pod in 0..1000 {
            let phase = phase(&format!("10.0.{}.{}:8000", pod / 250, pod % 250), interval);
            assert!(phase < interval);
            tenths[phase.as_millis() as usize / 100] += 1;
        }
        assert!(tenths.iter().all(|pods| (60..=140).contains(pods)), "{tenths:?}");
    }
}
