//! Pods that come and go under load: what that does to hit rate and balance.

use std::collections::BTreeMap;

use kvroute_core::Role;
use kvroute_sim::fleet::{self, PodChange, RequestRecord, Summary};
use kvroute_sim::workload::SharedPrefixLoad;
use serde::Serialize;

use super::{Size, kvroute, others, overhead_us, pod, pods};
use crate::capture::Result;

/// A stretch of time, and the requests that arrived in it.
#[derive(Clone, Debug, Serialize)]
pub struct Window {
    /// What happens in it.
    pub what: String,
    /// Its first second and its last.
    pub seconds: (f64, f64),
    /// Requests that arrived.
    pub requests: usize,
    /// Share of their prompt tokens that were cached, 0..=1.
    pub hit_rate: f64,
    /// Their median time to first token, milliseconds.
    pub ttft_ms_p50: f64,
    /// 99 of 100 were faster.
    pub ttft_ms_p99: f64,
    /// The busiest pod's requests, divided by an even share among the pods that take requests at its end.
    pub imbalance: f64,
    /// Requests that had to be sent again because their pod died.
    pub sent_again: usize,
    /// Requests that were never answered.
    pub failed: usize,
    /// Requests by pod.
    pub by_pod: BTreeMap<String, usize>,
}

/// A run with pods that come and go, by policy.
#[derive(Clone, Debug, Serialize)]
pub struct Scaled {
    /// Requests.
    pub requests: usize,
    /// Requests for which the router expected other tokens to be cached, at the instant of its last decision,
    /// than the engine had.
    pub expected_cached_mismatches: usize,
    /// Real time of a dispatch: median, microseconds.
    pub overhead_us_p50: f64,
    /// 99 of 100 took at most this.
    pub overhead_us_p99: f64,
    /// What happened under kvroute, window by window.
    pub windows: Vec<Window>,
    /// Hit rate and median time to first token (milliseconds) of each policy, window by window.
    pub policies: Vec<(&'static str, Vec<(f64, f64)>)>,
    /// What kvroute decided and what came of it: the lines of a decision log.
    #[serde(skip)]
    pub log: String,
}

/// Seconds that each part of the run lasts.
const PART: f64 = 20.0;

/// Begins with `from` pods under a load that they can bear; pods join until there are `to`; then one drains,
/// one dies, and that one returns. Every part lasts 20 seconds.
///
/// # Errors
///
/// `from` is 0 or not below `to`.
pub fn scale(from: usize, to: usize, seed: u64) -> Result<Scaled> {
    if from == 0 || from >= to {
        return Err(format!("--scale {from}:{to}: from at least one pod to more").into());
    }
    let mut fleet = pods(Size { decode: from, prefill: 0 })?;
    let joins = to - from;
    for n in 0..joins {
        let time = PART + PART * n as f64 / joins as f64;
        fleet.changes.push((time, PodChange::Join(pod(Role::Both, from + n)?)));
    }
    let (drained, dying) = (0, 1.min(to - 1));
    fleet.changes.push((3.0 * PART, PodChange::Drain(drained)));
    fleet.changes.push((4.0 * PART, PodChange::Die(dying)));
    fleet.changes.push((5.0 * PART, PodChange::Return(dying)));
    // What happens, and how many pods take requests at its end.
    let parts = [
        (format!("{from} pods, caches filling"), from),
        (format!("{joins} pods join one by one"), to),
        (format!("{to} pods"), to),
        (format!("both-{drained} drains"), to - 1),
        (format!("both-{dying} dies"), to - 2),
        (format!("both-{dying} returns, empty"), to - 1),
    ];
    let rate = 5.0 * from as f64;
    let load = SharedPrefixLoad {
        groups: 15 * from as u64,
        prefix_tokens: 6000,
        own_tokens: 200..=500,
        output_tokens: 64,
        rate,
        count: (rate * PART * parts.len() as f64) as u64,
        seed,
    };
    let mut policy = kvroute()?.with_log();
    let records = fleet::run(&fleet, load.requests(), &mut policy)?;
    if let Some(error) = policy.errors().first() {
        return Err(error.clone().into());
    }
    // The last decision of each request, for some were sent again.
    let expected: BTreeMap<u64, usize> =
        policy.routed().iter().map(|routed| (routed.request, routed.decision.matched_tokens)).collect();
    let wrong = |record: &&RequestRecord| {
        record.decode.map(|used| used.announced_tokens) != expected.get(&record.id).copied()
    };
    let names: Vec<String> = (0..to).map(|n| format!("both-{n}")).collect();
    let windows = |records: &[RequestRecord]| -> Vec<Window> {
        parts.iter().enumerate().map(|(n, part)| window(&part.0, n, part.1, records, &names)).collect()
    };
    let of_kvroute = windows(&records);
    let brief = |windows: &[Window]| windows.iter().map(|w| (w.hit_rate, w.ttft_ms_p50)).collect();
    let mut policies = vec![("kvroute", brief(&of_kvroute))];
    for (name, mut policy) in others(seed) {
        let records = fleet::run(&fleet, load.requests(), policy.as_mut())?;
        policies.push((name, brief(&windows(&records))));
    }
    let (overhead_us_p50, overhead_us_p99) = overhead_us(policy.routed());
    Ok(Scaled {
        requests: records.len(),
        expected_cached_mismatches: records.iter().filter(wrong).count(),
        overhead_us_p50,
        overhead_us_p99,
        windows: of_kvroute,
        policies,
        log: policy.log().to_owned(),
    })
}

fn window(what: &str, number: usize, pods: usize, records: &[RequestRecord], names: &[String]) -> Window {
    let seconds = (PART * number as f64, PART * (number + 1) as f64);
    let inside: Vec<_> = records.iter().filter(|r| (seconds.0..seconds.1).contains(&r.arrival)).collect();
    let summary = Summary::of(inside.iter().copied());
    let mut by_pod = BTreeMap::<String, usize>::new();
    for used in inside.iter().filter_map(|record| record.decode) {
        *by_pod.entry(names[used.pod].clone()).or_default() += 1;
    }
    let busiest = by_pod.values().max().copied().unwrap_or(0) as f64;
    Window {
        what: what.to_owned(),
        seconds,
        requests: inside.len(),
        hit_rate: summary.cached_share,
        ttft_ms_p50: summary.ttft_p50 * 1e3,
        ttft_ms_p99: summary.ttft_p99 * 1e3,
        imbalance: busiest * pods as f64 / (inside.len() as f64).max(1.0),
        sent_again: inside.iter().map(|record| record.tries.saturating_sub(1) as usize).sum(),
        failed: summary.failed,
        by_pod,
    }
}
