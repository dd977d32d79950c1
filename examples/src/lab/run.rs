//! One run: a policy, a fleet and a load, and what comes out.

use std::collections::BTreeMap;
use std::path::Path;

use kvroute_core::Role;
use kvroute_sim::fleet::{self, RequestRecord, Run, percentile};
use serde::Serialize;

use super::WARM_UP;
use super::policy::{Candidate, Instance};
use super::workload::Scene;
use crate::capture::Result;
use crate::simulated::overhead_us;

/// Points of a run's distribution of the time to first token.
pub const QUANTILES: usize = 101;

/// Windows of a run's hit rate over time.
pub const WINDOWS: usize = 20;

/// What one run came to. Times in milliseconds; all but `windows` without the warm-up, which is the first fifth
/// of the requests to arrive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Requests, warm-up included.
    pub requests: usize,
    /// Requests that were not answered, or not asked because one before them in their conversation was not.
    pub failed: usize,
    /// Requests that were sent again because their pod died.
    pub sent_again: usize,
    /// Share of the prompt tokens that were cached on the pod that computed the prompt, 0 to 1.
    pub hit_rate: f64,
    /// Time to first token: half were faster.
    pub ttft_p50: f64,
    /// Nine of ten were faster.
    pub ttft_p90: f64,
    /// 99 of 100 were faster.
    pub ttft_p99: f64,
    /// From arrival to the last token: median.
    pub end_to_end_p50: f64,
    /// Time between two tokens: median over requests of their mean.
    pub inter_token_p50: f64,
    /// The pod that got most requests, against the mean of those that answer.
    pub request_spread: f64,
    /// The pod whose engine was busy longest, against the mean of those that answer; warm-up included.
    pub busy_spread: f64,
    /// Time to first token at every hundredth of the requests, 0 to 100.
    pub ttft_quantiles: Vec<f64>,
    /// Share of the prompt tokens that were cached in each twentieth of the time in which requests arrive, if
    /// any did.
    pub windows: Vec<Option<f64>>,
    /// Figures of kvroute alone.
    pub routing: Option<Routing>,
}

/// What only kvroute can say of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Routing {
    /// Requests for which it expected other tokens to be cached, at the instant of its last decision, than the
    /// engine had.
    pub mismatches: usize,
    /// Real time of a whole dispatch: median, microseconds. Real time is all that differs between two runs of
    /// one seed.
    pub overhead_us_p50: f64,
    /// 99 of 100 took at most this.
    pub overhead_us_p99: f64,
}

/// Runs a candidate; writes its decision log to the file `log`, if it is kvroute.
///
/// # Errors
///
/// A configuration that cannot be built, or an error of the router's; there should be none. A log that cannot be
/// written.
pub fn run(scene: &Scene, candidate: &Candidate, seed: u64, log: Option<&Path>) -> Result<Measured> {
    match candidate.instance(seed, scene.is_split)? {
        Instance::Baseline(mut policy) => {
            let run = fleet::run_load(&scene.fleet, scene.script.play(), policy.as_mut())?;
            Ok(measure(scene, &run, None))
        }
        Instance::Kvroute(policy) => {
            let mut policy = if log.is_some() { policy.with_log() } else { *policy };
            let run = fleet::run_load(&scene.fleet, scene.script.play(), &mut policy)?;
            if let Some(file) = log {
                std::fs::write(file, policy.log()).map_err(|error| format!("{}: {error}", file.display()))?;
            }
            if let Some(error) = policy.errors().first() {
                return Err(format!("{}: {error}", candidate.name).into());
            }
            let (overhead_us_p50, overhead_us_p99) = overhead_us(policy.routed());
            // The last decision of each request, for some were sent again.
            let expected: BTreeMap<u64, usize> = policy
                .routed()
                .iter()
                .map(|routed| (routed.request, routed.decision.matched_tokens))
                .collect();
            let is_wrong = |record: &&RequestRecord| {
                record.decode.map(|used| used.announced_tokens) != expected.get(&record.id).copied()
            };
            let mismatches = run.records.iter().filter(is_wrong).count();
            Ok(measure(scene, &run, Some(Routing { mismatches, overhead_us_p50, overhead_us_p99 })))
        }
    }
}

fn measure(scene: &Scene, run: &Run, routing: Option<Routing>) -> Measured {
    let records = &run.records[(run.records.len() as f64 * WARM_UP) as usize..];
    let unsent = scene.script.len() - run.records.len();
    let sorted = |value: fn(&RequestRecord) -> Option<f64>| {
        let answered = records.iter().filter(|record| !record.is_failed());
        let mut values: Vec<_> = answered.filter_map(value).map(|seconds| seconds * 1e3).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let ttft = sorted(RequestRecord::time_to_first_token);
    let answering = |pod: usize| {
        // Pods that join answer.
        scene.fleet.pods.get(pod).is_none_or(|spec| spec.role.serves(Role::Decode))
    };
    let mut requests = vec![0.0; run.busy.len()];
    for used in records.iter().filter_map(|record| record.decode) {
        requests[used.pod] += 1.0;
    }
    let spread = |values: &[f64]| {
        let of_answering: Vec<_> =
            values.iter().enumerate().filter(|(pod, _)| answering(*pod)).map(|(_, &value)| value).collect();
        let mean = of_answering.iter().sum::<f64>() / (of_answering.len() as f64).max(1.0);
        if mean > 0.0 { of_answering.into_iter().fold(0.0, f64::max) / mean } else { 1.0 }
    };
    let in_window = |n: usize| {
        let width = scene.seconds / WINDOWS as f64;
        let (from, to) = (width * n as f64, width * (n + 1) as f64);
        cached_share(run.records.iter().filter(|record| (from..to).contains(&record.arrival)))
    };
    Measured {
        requests: run.records.len(),
        failed: unsent + run.records.iter().filter(|record| record.is_failed()).count(),
        sent_again: run.records.iter().map(|record| record.tries.saturating_sub(1) as usize).sum(),
        hit_rate: cached_share(records.iter()).unwrap_or(0.0),
        ttft_p50: percentile(&ttft, 0.5),
        ttft_p90: percentile(&ttft, 0.9),
        ttft_p99: percentile(&ttft, 0.99),
        end_to_end_p50: percentile(&sorted(RequestRecord::end_to_end), 0.5),
        inter_token_p50: percentile(&sorted(RequestRecord::inter_token), 0.5),
        request_spread: spread(&requests),
        busy_spread: spread(&run.busy),
        ttft_quantiles: (0..QUANTILES).map(|n| percentile(&ttft, n as f64 / 100.0)).collect(),
        windows: (0..WINDOWS).map(in_window).collect(),
        routing,
    }
}

/// Share of the prompt tokens that were cached where the prompt was computed; `None` of no tokens.
fn cached_share<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Option<f64> {
    let (mut cached, mut prompt) = (0, 0);
    for record in records.filter(|record| !record.is_failed()) {
        prompt += record.prompt_tokens;
        cached += record.prefill.or(record.decode).and_then(|used| used.cached_tokens).unwrap_or(0);
    }
    (prompt > 0).then(|| cached as f64 / prompt as f64)
}
