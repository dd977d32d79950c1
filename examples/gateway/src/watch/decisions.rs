//! Recent decisions with their explanations, for people.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvroute_core::decision::{Explanation, Reason};
use parking_lot::Mutex;
use serde::Serialize;

use crate::outcome::{RequestOutcome, end_name};

/// A bounded ring of decisions. At most [`Recent::PER_SECOND`] a second are explained, so that a busy gateway pays next
/// to nothing for it.
#[derive(Debug)]
pub(super) struct Recent {
    begun: Instant,
    /// Milliseconds since `begun` from which on the next one may be explained.
    next: AtomicU64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Number of the next one.
    next: u64,
    kept: VecDeque<Arc<Decided>>,
}

/// A decision and what became of it.
#[derive(Debug, Serialize)]
pub(super) struct Decided {
    number: u64,
    /// When the request ended, seconds since 1970.
    ended: f64,
    endpoint: &'static str,
    model: Option<String>,
    request_id: Option<String>,
    pod: Option<String>,
    dp_rank: u32,
    prefill_pod: Option<String>,
    status: u16,
    end: &'static str,
    prompt: &'static str,
    prompt_tokens: usize,
    expected_cached_tokens: usize,
    engine_cached_tokens: Option<usize>,
    cache: &'static str,
    reason: Option<&'static str>,
    total: f64,
    margin: Option<f64>,
    candidates: usize,
    overhead_seconds: f64,
    first_byte_seconds: Option<f64>,
    duration_seconds: f64,
    retries: u32,
    #[serde(skip)]
    explanation: Explanation,
}

impl Default for Recent {
    fn default() -> Self {
        Self { begun: Instant::now(), next: AtomicU64::new(0), ring: Mutex::default() }
    }
}

impl Recent {
    /// Decisions that are kept.
    pub(super) const KEPT: usize = 100;
    /// Decisions that are explained in a second, at most.
    const PER_SECOND: u64 = 20;

    /// Whether the next decision should be explained; to be asked once for each.
    pub(super) fn wants_one(&self) -> bool {
        let now = self.begun.elapsed().as_millis() as u64;
        let next = self.next.load(Ordering::Relaxed);
        let after = now + 1000 / Self::PER_SECOND;
        // Of several that ask at once, one gets it.
        now >= next && self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Keeps a decision, if it was explained.
    pub(super) fn keep(&self, outcome: &RequestOutcome) {
        let Some(explanation) = &outcome.explanation else { return };
        let mut decided = Decided::new(outcome, (**explanation).clone());
        let mut ring = self.ring.lock();
        decided.number = ring.next;
        ring.next += 1;
        ring.kept.truncate(Self::KEPT - 1);
        ring.kept.push_front(Arc::new(decided));
    }

    /// All that are kept, the newest first.
    pub(super) fn all(&self) -> Vec<Arc<Decided>> {
        self.ring.lock().kept.iter().cloned().collect()
    }

    /// The one of a number, while it is kept.
    pub(super) fn get(&self, number: u64) -> Option<Arc<Decided>> {
        self.ring.lock().kept.iter().find(|decided| decided.number == number).cloned()
    }
}

impl Decided {
    fn new(outcome: &RequestOutcome, explanation: Explanation) -> Self {
        let short = |text: &String| text.chars().take(128).collect();
        Self {
            number: 0,
            ended: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
            endpoint: outcome.endpoint.name(),
            model: outcome.model.as_ref().map(short),
            request_id: outcome.request_id.clone(),
            pod: outcome.pod.as_deref().map(str::to_owned),
            dp_rank: outcome.dp_rank,
            prefill_pod: outcome.prefill_pod.as_deref().map(str::to_owned),
            status: outcome.status,
            end: end_name(outcome.end),
            prompt: outcome.prompt,
            prompt_tokens: outcome.prompt_tokens,
            expected_cached_tokens: outcome.expected_cached_tokens,
            engine_cached_tokens: outcome.engine_cached_tokens,
            cache: outcome.cache.name(),
            reason: outcome.reason.map(Reason::name),
            total: outcome.total,
            margin: outcome.margin,
            candidates: outcome.candidates,
            overhead_seconds: outcome.overhead.as_secs_f64(),
            first_byte_seconds: outcome.first_byte.as_ref().map(Duration::as_secs_f64),
            duration_seconds: outcome.duration.as_secs_f64(),
            retries: outcome.retries,
            explanation,
        }
    }

    /// It and its explanation, as JSON.
    pub(super) fn explained(&self) -> String {
        #[derive(Serialize)]
        struct Explained<'a> {
            decision: &'a Decided,
            explanation: &'a Explanation,
        }
        let explained = Explained { decision: self, explanation: &self.explanation };
        // All of it are numbers and texts; a number that JSON does not know becomes null.
        serde_json::to_string(&explained).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Endpoint;

    #[test]
    fn the_newest_are_kept_and_keep_their_numbers() {
        let recent = Recent::default();
        let mut outcome = RequestOutcome::new(Endpoint::Chat);
        recent.keep(&outcome);
        assert!(recent.all().is_empty(), "without an explanation there is nothing to open");
        outcome.explanation = Some(Box::default());
        outcome.model = Some("x".repeat(1 << 20));
        for _ in 0..Recent::KEPT + 3 {
            recent.keep(&outcome);
        }
        let numbers: Vec<u64> = recent.all().iter().map(|decided| decided.number).collect();
        assert_eq!(numbers, (3..Recent::KEPT as u64 + 3).rev().collect::<Vec<_>>());
        assert!(recent.get(2).is_none());
        assert!(
            recent.get(3).unwrap().explained().len() < 2000,
            "a client cannot fill the memory by its model's name"
        );
    }

    #[test]
    fn a_busy_gateway_explains_few() {
        let recent = Recent::default();
        let wanted = (0..10_000).filter(|_| recent.wants_one()).count() as u64;
        let seconds = recent.begun.elapsed().as_secs_f64();
        assert!((1..=2 + (seconds * Recent::PER_SECOND as f64) as u64).contains(&wanted), "{wanted}");
    }
}
