//! What became of a request, for those who watch: the log, and whatever else observes the gateway.

use std::sync::Arc;
use std::time::Duration;

use kvroute_core::Finish;
use kvroute_core::decision::{Explanation, Reason};

use crate::request::Endpoint;
use crate::watch::TraceContext;

/// A request that is over, whatever became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RequestOutcome {
    /// What it was for.
    pub endpoint: Endpoint,
    /// The model it named.
    pub model: Option<String>,
    /// Its `x-request-id`, if it had one.
    pub request_id: Option<String>,
    /// The pod that it was last sent to; `None` if it was sent to none.
    pub pod: Option<Arc<str>>,
    /// That pod's data-parallel rank.
    pub dp_rank: u32,
    /// The pod that prefilled.
    pub prefill_pod: Option<Arc<str>>,
    /// That pod's data-parallel rank.
    pub prefill_dp_rank: u32,
    /// Why it was that pod.
    pub prefill_reason: Option<Reason>,
    /// Status of the answer; 0 if the client went away before there was one.
    pub status: u16,
    /// How it ended.
    pub end: Finish,
    /// How its prompt was known: `token-ids`, `text` or `none`.
    pub prompt: &'static str,
    /// Why it was known as text only, where a tokenizer was asked.
    pub untokenized: Option<&'static str>,
    /// Length of its prompt, tokens; of a text, estimated.
    pub prompt_tokens: usize,
    /// Tokens that the pod's view said would be cached.
    pub expected_cached_tokens: usize,
    /// Tokens that the pod was expected to compute.
    pub uncached_tokens: usize,
    /// Tokens that the engine says it took from its cache, where it told and counted what was expected.
    pub engine_cached_tokens: Option<usize>,
    /// Length of its prompt as the engine counted it, tokens; where `engine_cached_tokens` is known.
    pub engine_prompt_tokens: Option<usize>,
    /// Whether it was found in a cache.
    pub cache: CacheStatus,
    /// Why it went to that pod.
    pub reason: Option<Reason>,
    /// The pod's weighted sum of scores.
    pub total: f64,
    /// How far the best pod's total was ahead of the next best, where there were two.
    pub margin: Option<f64>,
    /// How many pods were considered.
    pub candidates: usize,
    /// What tokenizing it took, waiting included; where a tokenizer was asked.
    pub tokenization: Option<Duration>,
    /// Its place in a trace, where traces are kept.
    pub trace: Option<TraceContext>,
    /// What reading, tokenizing and routing it took, from its last byte to its being sent; of the last try.
    pub overhead: Duration,
    /// From its last byte to the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// From its last byte to its end.
    pub duration: Duration,
    /// How often it was sent to another pod.
    pub retries: u32,
    /// Why it went where it went, where an [`Observer`] wants to know.
    pub explanation: Option<Box<Explanation>>,
}

impl RequestOutcome {
    /// Nothing happened to it yet.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            model: None,
            request_id: None,
            pod: None,
            dp_rank: 0,
            prefill_pod: None,
            prefill_dp_rank: 0,
            prefill_reason: None,
            status: 0,
            end: Finish::Cancelled,
            prompt: "none",
            untokenized: None,
            prompt_tokens: 0,
            expected_cached_tokens: 0,
            uncached_tokens: 0,
            engine_cached_tokens: None,
            engine_prompt_tokens: None,
            cache: CacheStatus::Unknown,
            reason: None,
            total: 0.0,
            margin: None,
            candidates: 0,
            tokenization: None,
            trace: None,
            overhead: Duration::ZERO,
            first_byte: None,
            duration: Duration::ZERO,
            retries: 0,
            explanation: None,
        }
    }
}

/// Whether a prompt was found in a cache: by the engine's count where there is one, else by what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheStatus {
    /// Nine tenths of it or more.
    Hit,
    /// Less, but something.
    Partial,
    /// Nothing.
    Miss,
    /// It has no prompt, or went to a pod without a decision.
    Unknown,
}

impl CacheStatus {
    /// Of a prompt of so many tokens.
    #[must_use]
    pub fn of(cached_tokens: usize, prompt_tokens: usize) -> Self {
        match (cached_tokens, prompt_tokens) {
            (_, 0) => Self::Unknown,
            (0, _) => Self::Miss,
            _ if cached_tokens.saturating_mul(10) >= prompt_tokens.saturating_mul(9) => Self::Hit,
            _ => Self::Partial,
        }
    }

    /// Name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Partial => "partial",
            Self::Miss => "miss",
            Self::Unknown => "unknown",
        }
    }
}

/// Sees every request to the API when it is over.
pub trait Observer: Send + Sync {
    /// Takes a look; called on the threads that serve, so it should take microseconds and never wait.
    fn finished(&self, outcome: &RequestOutcome);

    /// Whether outcomes should come with an explanation, which costs some microseconds a pod.
    fn wants_explanations(&self) -> bool {
        false
    }
}

/// Writes a line for each request, with nothing of its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestLog;

impl Observer for RequestLog {
    fn finished(&self, outcome: &RequestOutcome) {
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        tracing::info!(
            endpoint = outcome.endpoint.name(),
            model = outcome.model.as_deref(),
            request_id = outcome.request_id.as_deref(),
            pod = outcome.pod.as_deref(),
            dp_rank = outcome.dp_rank,
            prefill_pod = outcome.prefill_pod.as_deref(),
            status = outcome.status,
            end = end_name(outcome.end),
            prompt = outcome.prompt,
            untokenized = outcome.untokenized,
            prompt_tokens = outcome.prompt_tokens,
            expected_cached_tokens = outcome.expected_cached_tokens,
            engine_cached_tokens = outcome.engine_cached_tokens,
            cache = outcome.cache.name(),
            reason = outcome.reason.map(Reason::name),
            overhead_ms = millis(outcome.overhead),
            first_byte_ms = outcome.first_byte.map(millis),
            duration_ms = millis(outcome.duration),
            retries = outcome.retries,
            "request"
        );
    }
}

/// Name in logs, metrics and traces.
pub(crate) fn end_name(end: Finish) -> &'static str {
    match end {
        Finish::Completed => "completed",
        Finish::Failed => "failed",
        Finish::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_tenths_of_a_prompt_are_a_hit() {
        for (cached, prompt, status) in [
            (0, 0, CacheStatus::Unknown),
            (0, 100, CacheStatus::Miss),
            (16, 100, CacheStatus::Partial),
            (89, 100, CacheStatus::Partial),
            (90, 100, CacheStatus::Hit),
            (usize::MAX, usize::MAX, CacheStatus::Hit),
        ] {
            assert_eq!(CacheStatus::of(cached, prompt), status, "{cached} of {prompt}");
        }
    }
}
