//! What the requests of a simulated run add up to.

use std::collections::BTreeMap;

use kvroute_sim::fleet::{RequestRecord, Routed, Summary, percentile};
use kvroute_sim::workload::{Asked, Phase};
use serde::Serialize;

/// One request under kvroute.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it was there to show.
    pub asked: Asked,
    /// What the router decided.
    pub routed: Routed,
    /// What became of it.
    pub record: RequestRecord,
}

impl Row {
    /// Prompt tokens that the router expected to be cached on the pod that answers.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.routed.decision.matched_tokens
    }

    /// Prompt tokens that were cached there at the instant of the decision, as the engine itself counts.
    #[must_use]
    pub fn actual(&self) -> usize {
        self.record.decode.map_or(0, |used| used.announced_tokens)
    }

    /// Tokens by which that changed until the engine admitted the request.
    #[must_use]
    pub fn drift(&self) -> i64 {
        let used = self.record.decode;
        let at_admission = used.and_then(|used| used.cached_tokens).unwrap_or_else(|| self.actual());
        at_admission as i64 - self.actual() as i64
    }

    /// Whether router and engines agreed at the instant of the decision, on both pods.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let prefill = self.routed.decision.prefill.map(|prefill| prefill.matched_tokens);
        self.expected() == self.actual() && prefill == self.record.prefill.map(|used| used.announced_tokens)
    }

    /// The pod that answered.
    #[must_use]
    pub fn pod(&self) -> Option<usize> {
        self.record.decode.map(|used| used.pod)
    }

    /// Whether that pod held the whole blocks of the topic's prefix.
    #[must_use]
    pub fn is_on_right_pod(&self, block_size: usize) -> bool {
        self.actual() >= self.asked.prefix_tokens / block_size * block_size
    }
}

/// One policy's figures.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyOutcome {
    /// Its name.
    pub policy: &'static str,
    /// Share of prompt tokens that the pod which computed the prompt had cached, 0..=1.
    pub hit_rate: f64,
    /// Time to first token, milliseconds.
    pub ttft_ms_p50: f64,
    /// Nine of ten were faster.
    pub ttft_ms_p90: f64,
    /// 99 of 100 were faster.
    pub ttft_ms_p99: f64,
    /// The same by phase: median, milliseconds.
    pub ttft_ms_p50_by_phase: BTreeMap<&'static str, f64>,
    /// From arrival to the last token: median, milliseconds.
    pub end_to_end_ms_p50: f64,
    /// Busiest pod's share of the requests, divided by an even one.
    pub imbalance: f64,
    /// Requests that were never answered.
    pub failed: usize,
}

impl PolicyOutcome {
    /// The figures of `records`, whose phases are those of `asked` in order; `pods` answer.
    #[must_use]
    pub fn of(policy: &'static str, asked: &[Asked], records: &[RequestRecord], pods: usize) -> Self {
        let all = Summary::of(records);
        let by_phase = Phase::ALL.into_iter().filter_map(|phase| {
            let of_phase = asked.iter().zip(records).filter(|(asked, _)| asked.phase == phase);
            let of_phase: Vec<_> = of_phase.map(|(_, record)| record).collect();
            (!of_phase.is_empty()).then(|| (phase.name(), Summary::of(of_phase).ttft_p50 * 1e3))
        });
        let mut served = BTreeMap::<usize, usize>::new();
        for used in records.iter().filter_map(|record| record.decode) {
            *served.entry(used.pod).or_default() += 1;
        }
        let busiest = served.values().max().copied().unwrap_or(0) as f64;
        Self {
            policy,
            hit_rate: all.cached_share,
            ttft_ms_p50: all.ttft_p50 * 1e3,
            ttft_ms_p90: all.ttft_p90 * 1e3,
            ttft_ms_p99: all.ttft_p99 * 1e3,
            ttft_ms_p50_by_phase: by_phase.collect(),
            end_to_end_ms_p50: all.end_to_end_p50 * 1e3,
            imbalance: busiest * pods as f64 / (records.len() as f64).max(1.0),
            failed: all.failed,
        }
    }
}

/// What the demo shows, in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Requests routed.
    pub requests: usize,
    /// Requests for which the router expected other tokens to be cached, at the instant of its decision, than
    /// the engine had.
    pub expected_cached_mismatches: usize,
    /// Requests whose cache changed between decision and admission.
    pub drifted_until_admission: usize,
    /// Share of the hit phase's requests that went to a pod with their topic's prefix.
    pub hit_phase_on_right_pod: f64,
    /// Share of follow-ups that went to the pod of the turn before.
    pub follow_up_on_same_pod: f64,
    /// By how much hits beat misses in median time to first token: a share of the misses' time.
    pub ttft_reduction_hit_vs_miss: f64,
    /// Real time of a whole dispatch (hash, look up, score, pick, book, record): median, microseconds.
    pub overhead_us_p50: f64,
    /// 99 of 100 took at most this.
    pub overhead_us_p99: f64,
    /// Requests, and the share of prompt tokens that were cached, by pod.
    pub pods: Vec<PodOutcome>,
    /// The same requests under each policy.
    pub policies: Vec<PolicyOutcome>,
    /// What kvroute decided and what came of it: the lines of a decision log.
    #[serde(skip)]
    pub log: String,
}

/// One pod's figures.
#[derive(Clone, Debug, Serialize)]
pub struct PodOutcome {
    /// Its name.
    pub pod: String,
    /// Its role.
    pub role: &'static str,
    /// Requests it answered, or prefilled.
    pub requests: usize,
    /// Share of their prompt tokens that it had cached, 0..=1.
    pub hit_rate: f64,
}

/// Median and 99th percentile of the dispatches' real time, microseconds.
#[must_use]
pub fn overhead_us(routed: &[Routed]) -> (f64, f64) {
    let mut times: Vec<_> = routed.iter().map(|routed| routed.overhead.as_secs_f64() * 1e6).collect();
    times.sort_by(f64::total_cmp);
    (percentile(&times, 0.5), percentile(&times, 0.99))
}

/// The share of `rows` for which `holds`; 1 of none.
#[must_use]
pub fn share<'a>(rows: impl Iterator<Item = &'a Row>, holds: impl Fn(&Row) -> bool) -> f64 {
    let (mut all, mut which) = (0, 0);
    for row in rows {
        all += 1;
        which += usize::from(holds(row));
    }
    if all == 0 { 1.0 } else { f64::from(which as u32) / f64::from(all) }
}
