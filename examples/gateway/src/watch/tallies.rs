//! What requests came to, counted as they end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use kvroute_core::Finish;
use kvroute_core::decision::Reason;
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;

use super::{MAX_MODELS, MAX_PODS};
use crate::outcome::{CacheStatus, Observer, RequestOutcome};
use crate::request::Endpoint;

/// What stands for pods and models that have no series of their own.
pub(super) const OTHER: &str = "other";

/// A pod, by name and data-parallel rank.
pub(super) type PodKey = (Arc<str>, u32);

/// Counts and histograms of requests.
#[derive(Debug)]
pub(super) struct Tallies {
    in_flight: AtomicI64,
    pub(super) retries: AtomicU64,
    pub(super) disconnects: AtomicU64,
    pub(super) broken: AtomicU64,
    /// By form of the prompt: [`FORMS`].
    pub(super) prompts: [AtomicU64; FORMS.len()],
    pub(super) overhead: Histogram,
    pub(super) tokenization: Histogram,
    /// Lookups in the shared index.
    pub(super) index_lookups: Histogram,
    pub(super) margin: Histogram,
    pub(super) score: Histogram,
    /// By cache status: [`CACHES`].
    pub(super) first_byte: [Histogram; CACHES.len()],
    pub(super) duration: [Histogram; CACHES.len()],
    pub(super) counts: Mutex<Counts>,
}

/// How prompts are known.
pub(super) const FORMS: [&str; 3] = ["token-ids", "text", "none"];

/// What requests found in caches.
pub(super) const CACHES: [CacheStatus; 4] =
    [CacheStatus::Hit, CacheStatus::Partial, CacheStatus::Miss, CacheStatus::Unknown];

/// Counts by labels that are not known beforehand.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// By endpoint, model and status.
    pub(super) requests: HashMap<(Endpoint, Arc<str>, u16), u64>,
    models: HashMap<Arc<str>, ()>,
    pub(super) untokenized: HashMap<&'static str, u64>,
    pub(super) pods: HashMap<PodKey, PodTally>,
}

/// What went to one pod.
#[derive(Clone, Debug, Default)]
pub(super) struct PodTally {
    /// Requests by role (decode, prefill) and why they went there.
    pub(super) routed: HashMap<(&'static str, &'static str), u64>,
    /// Tokens of the prompts that it answered.
    pub(super) prompt_tokens: u64,
    /// Those of them that were expected in its cache.
    pub(super) expected_tokens: u64,
    /// The same two of requests of which the engine told what it had cached.
    pub(super) confirmed_prompt_tokens: u64,
    pub(super) confirmed_expected_tokens: u64,
    /// What it told.
    pub(super) confirmed_cached_tokens: u64,
    /// It was gone at the last scrape; at the next one it goes from here too.
    is_gone: bool,
}

/// From 10 us to 1 s.
const OVERHEAD_SECONDS: [f64; 16] =
    [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 1.0];
/// From a cached prompt's first token to a long answer's last.
const LATENCY_SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 600.0];
/// Weighted sums of scores: even choices are told from close ones.
const SCORES: [f64; 14] = [0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0];

impl Default for Tallies {
    fn default() -> Self {
        Self {
            in_flight: AtomicI64::new(0),
            retries: AtomicU64::new(0),
            disconnects: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            prompts: Default::default(),
            overhead: Histogram::new(OVERHEAD_SECONDS),
            tokenization: Histogram::new(OVERHEAD_SECONDS),
            index_lookups: Histogram::new(OVERHEAD_SECONDS),
            margin: Histogram::new(SCORES),
            score: Histogram::new(SCORES),
            first_byte: std::array::from_fn(|_| Histogram::new(LATENCY_SECONDS)),
            duration: std::array::from_fn(|_| Histogram::new(LATENCY_SECONDS)),
            counts: Mutex::default(),
        }
    }
}

impl Tallies {
    pub(super) fn started(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that began and have not ended.
    pub(super) fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn count_end(&self, outcome: &RequestOutcome) {
        self.retries.fetch_add(u64::from(outcome.retries), Ordering::Relaxed);
        let is_success = (200..300).contains(&outcome.status);
        match outcome.end {
            // A refusal ends as cancelled too, but with its status.
            Finish::Cancelled if outcome.status < 400 => &self.disconnects,
            Finish::Failed if is_success => &self.broken,
            _ => return,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    fn count_times(&self, outcome: &RequestOutcome) {
        if outcome.pod.is_some() {
            self.overhead.observe(outcome.overhead.as_secs_f64());
        }
        if let Some(tokenization) = outcome.tokenization {
            self.tokenization.observe(tokenization.as_secs_f64());
        }
        if outcome.reason.is_some() {
            self.score.observe(outcome.total);
        }
        if let Some(margin) = outcome.margin {
            self.margin.observe(margin);
        }
        // Times of errors say nothing of caches.
        if !(200..300).contains(&outcome.status) {
            return;
        }
        let Some(cache) = CACHES.iter().position(|cache| *cache == outcome.cache) else { return };
        if let Some(first_byte) = outcome.first_byte {
            self.first_byte[cache].observe(first_byte.as_secs_f64());
        }
        if outcome.end == Finish::Completed {
            self.duration[cache].observe(outcome.duration.as_secs_f64());
        }
    }
}

impl Observer for Tallies {
    fn finished(&self, outcome: &RequestOutcome) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.count_end(outcome);
        self.count_times(outcome);
        if let Some(form) = FORMS.iter().position(|form| *form == outcome.prompt) {
            self.prompts[form].fetch_add(1, Ordering::Relaxed);
        }
        self.counts.lock().finished(outcome);
    }
}

impl Counts {
    fn finished(&mut self, outcome: &RequestOutcome) {
        let model = self.model(outcome);
        *self.requests.entry((outcome.endpoint, model, outcome.status)).or_default() += 1;
        if let Some(reason) = outcome.untokenized {
            *self.untokenized.entry(reason).or_default() += 1;
        }
        if let Some(pod) = &outcome.pod {
            let tally = self.pod(pod, outcome.dp_rank);
            tally.routed("decode", outcome.reason);
            tally.tokens(outcome);
        }
        if let Some(pod) = &outcome.prefill_pod {
            self.pod(pod, outcome.prefill_dp_rank).routed("prefill", outcome.prefill_reason);
        }
    }

    /// The label of a request's model. Clients may name any: only models that a pod was found for count.
    fn model(&mut self, outcome: &RequestOutcome) -> Arc<str> {
        let name = outcome.model.as_deref().filter(|_| outcome.pod.is_some()).unwrap_or_default();
        if let Some((name, ())) = self.models.get_key_value(name) {
            return Arc::clone(name);
        }
        let name = if self.models.len() < MAX_MODELS { name } else { OTHER };
        let name: Arc<str> = name.chars().take(128).collect::<String>().into();
        self.models.insert(Arc::clone(&name), ());
        name
    }

    fn pod(&mut self, name: &Arc<str>, rank: u32) -> &mut PodTally {
        let key = (Arc::clone(name), rank);
        let is_full = self.pods.len() >= MAX_PODS && !self.pods.contains_key(&key);
        let key = if is_full { (OTHER.into(), 0) } else { key };
        self.pods.entry(key).or_default()
    }

    /// Forgets the pods that are gone, once their last counts were seen.
    pub(super) fn prune(&mut self, is_there: impl Fn(&str) -> bool) {
        self.pods.retain(|(name, _), tally| {
            let was_gone = std::mem::replace(&mut tally.is_gone, !is_there(name) && **name != *OTHER);
            !(was_gone && tally.is_gone)
        });
    }
}

impl PodTally {
    fn routed(&mut self, role: &'static str, reason: Option<Reason>) {
        let reason = reason.map_or("in-turn", Reason::name);
        *self.routed.entry((role, reason)).or_default() += 1;
    }

    fn tokens(&mut self, outcome: &RequestOutcome) {
        if outcome.reason.is_none() || !(200..300).contains(&outcome.status) {
            return;
        }
        self.prompt_tokens += outcome.prompt_tokens as u64;
        self.expected_tokens += outcome.expected_cached_tokens as u64;
        if let Some(cached) = outcome.engine_cached_tokens {
            let prompt = outcome.engine_prompt_tokens.unwrap_or(outcome.prompt_tokens);
            // What an engine says may be anything: a sum must not overflow, nor a share go beyond the whole.
            let prompt = prompt.min(MOST_TOKENS);
            self.confirmed_prompt_tokens += prompt as u64;
            self.confirmed_expected_tokens += outcome.expected_cached_tokens as u64;
            self.confirmed_cached_tokens += cached.min(prompt) as u64;
        }
    }
}

/// Beyond any prompt.
const MOST_TOKENS: usize = 1 << 28;

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pod: &str, model: &str) -> RequestOutcome {
        let mut outcome = RequestOutcome::new(Endpoint::Chat);
        (outcome.pod, outcome.model) = (Some(pod.into()), Some(model.into()));
        (outcome.status, outcome.end, outcome.reason) = (200, Finish::Completed, Some(Reason::Picked));
        outcome
    }

    #[test]
    fn names_that_clients_and_pods_make_up_do_not_multiply_series() {
        let tallies = Tallies::default();
        for number in 0..3 * MAX_PODS {
            tallies.finished(&outcome(&format!("pod-{number}"), &format!("model-{number}")));
        }
        let counts = tallies.counts.lock();
        assert_eq!((counts.pods.len(), counts.requests.len()), (MAX_PODS + 1, MAX_MODELS + 1));
        let sum: u64 = counts.requests.values().sum();
        assert_eq!(sum, 3 * MAX_PODS as u64, "all are counted");
    }

    #[test]
    fn a_model_that_no_pod_serves_has_no_series() {
        let tallies = Tallies::default();
        tallies.finished(&RequestOutcome { pod: None, status: 404, ..outcome("", "made up") });
        let counts = tallies.counts.lock();
        assert_eq!(counts.requests.keys().map(|(_, model, _)| &**model).collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn a_pod_that_left_is_seen_once_more_and_then_forgotten() {
        let tallies = Tallies::default();
        tallies.finished(&outcome("a", "m"));
        let mut counts = tallies.counts.lock();
        counts.prune(|name| name == "a");
        assert_eq!(counts.pods.len(), 1, "it is there");
        counts.prune(|_| false);
        assert_eq!(counts.pods.len(), 1, "its last counts are still to be seen");
        counts.prune(|_| false);
        assert!(counts.pods.is_empty());
    }

    #[test]
    fn what_an_engine_claims_cannot_exceed_the_prompt_nor_overflow() {
        let tallies = Tallies::default();
        let (engine_cached_tokens, engine_prompt_tokens) = (Some(usize::MAX), Some(usize::MAX));
        for _ in 0..3 {
            tallies.finished(&RequestOutcome {
                engine_cached_tokens,
                engine_prompt_tokens,
                ..outcome("a", "m")
            });
        }
        let counts = tallies.counts.lock();
        let tally = &counts.pods[&("a".into(), 0)];
        assert_eq!(tally.confirmed_cached_tokens, tally.confirmed_prompt_tokens);
    }

    #[test]
    fn refusals_are_no_disconnects() {
        let tallies = Tallies::default();
        let end = |end, status| tallies.finished(&RequestOutcome { end, status, ..outcome("a", "m") });
        end(Finish::Cancelled, 400);
        end(Finish::Cancelled, 0);
        end(Finish::Cancelled, 200);
        end(Finish::Failed, 200);
        end(Finish::Failed, 502);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!((read(&tallies.disconnects), read(&tallies.broken)), (2, 1));
    }
}
