//! The recorded demo: requests that real pods served, decided again by kvroute from the events seen so far.

use std::time::{Duration, Instant};

use kvroute_core::{LoadReport, PodId, PodSpec, Profile, Request, Role, Router, RouterOptions, Workspace};
use serde::Serialize;

use crate::capture::{Capture, Item, Mode, Query, Result};

/// One request of the demo.
#[derive(Clone, Debug, Serialize)]
pub struct Routed {
    /// Its name in the capture.
    pub request: String,
    /// Length of its prompt.
    pub prompt_tokens: usize,
    /// Where kvroute would send it.
    pub chosen: String,
    /// Tokens it expects to be cached there.
    pub expected: usize,
    /// The chosen pod's weighted sum of scores.
    pub score: f64,
    /// Each pod's expected tokens, scorer values in the profile's order.
    pub pods: Vec<PodRow>,
    /// Where the recording sent it.
    pub served_by: String,
    /// Tokens that engine took from its cache, by its own account.
    pub engine_cached: u32,
    /// Tokens kvroute expected there.
    pub expected_there: usize,
    /// Why the engine's account is known not to follow from its events.
    pub exception: Option<&'static str>,
    /// Time of the whole decision: hash, look up, score, pick.
    pub microseconds: f64,
}

impl Routed {
    /// Whether the expectation is the engine's own count.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.expected_there == self.engine_cached as usize
    }
}

/// A pod's part in one decision.
#[derive(Clone, Debug, Serialize)]
pub struct PodRow {
    /// Its name.
    pub pod: String,
    /// Tokens it is expected to have cached.
    pub expected: usize,
    /// Scorer and value.
    pub scores: Vec<(String, f64)>,
    /// Their weighted sum.
    pub total: f64,
}

/// What the requests add up to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Requests decided.
    pub requests: usize,
    /// Expectations equal to the engine's own count, for the pod that served.
    pub expectations_equal: usize,
    /// Expectations that differ for a reason known beforehand.
    pub expectations_explained: usize,
    /// Share of prompt tokens the recorded placement found cached.
    pub recorded_hit_rate: f64,
    /// Share of prompt tokens that were cached where kvroute would have sent each request, in the caches
    /// as they were then.
    pub kvroute_hit_rate: f64,
    /// Requests whose recorded placement had less cached than the best pod.
    pub recorded_missed_better_pod: usize,
    /// Half of the decisions took at most this.
    pub overhead_us_p50: f64,
    /// 99 of 100 decisions took at most this.
    pub overhead_us_p99: f64,
}

/// Plays a live capture; `each` is told of every request whose name begins with `prefix`.
///
/// # Errors
///
/// A pod whose hashes cannot be reproduced, or a request that cannot be decided.
pub fn play(capture: &Capture, mode: Mode, prefix: &str, mut each: impl FnMut(&Routed)) -> Result<Outcome> {
    let router = Router::new(RouterOptions::default(), Profile::llm_d_demo(Role::Decode))?;
    let mut pods = Vec::new();
    for pod in &capture.pods {
        let id = router.add_pod(PodSpec::new(pod.name.clone(), pod.domain(mode)?))?;
        // The recording sent one request at a time: every pod was idle.
        router.report_load(id, LoadReport { running: 0, waiting: 0, kv_usage: 0.0 })?;
        pods.push(id);
    }
    let mut workspace = Workspace::default();
    let mut routed = Vec::new();
    for item in &capture.items {
        match item {
            Item::Batch { pod, sequence, payload } => drop(router.apply(pods[*pod], *sequence, payload)?),
            Item::Query(query) if query.name.starts_with(prefix) => {
                let request = route(&router, &pods, query, &mut workspace)?;
                each(&request);
                routed.push(request);
            }
            Item::Query(_) => {}
        }
    }
    Ok(outcome(&routed))
}

fn route(router: &Router, pods: &[PodId], query: &Query, workspace: &mut Workspace) -> Result<Routed> {
    let request = Request::new(&query.token_ids, &query.context);
    let start = Instant::now();
    let decision = router.decide(&request, Duration::ZERO, workspace)?;
    let microseconds = start.elapsed().as_secs_f64() * 1e6;

    let explanation = router.explain(workspace);
    let row = |id: PodId| pods.iter().position(|&pod| pod == id).ok_or("decided for a pod of nobody");
    let rows: Vec<_> = explanation
        .pods
        .iter()
        .map(|pod| PodRow {
            pod: pod.pod.clone(),
            expected: pod.matched_blocks.iter().map(|m| m.1 as usize).sum::<usize>()
                * pod.block_size as usize,
            scores: pod.scores.iter().map(|s| (s.scorer.clone(), s.value)).collect(),
            total: pod.total,
        })
        .collect();
    let answer = query.answers.first().ok_or("a request that no pod served")?;
    let (chosen, served) = (&rows[row(decision.pod)?], &rows[answer.pod]);
    Ok(Routed {
        request: query.name.clone(),
        prompt_tokens: query.token_ids.len(),
        chosen: chosen.pod.clone(),
        expected: decision.matched_tokens,
        score: decision.total,
        served_by: served.pod.clone(),
        engine_cached: answer.cached,
        expected_there: served.expected,
        exception: answer.exception,
        microseconds,
        pods: rows,
    })
}

fn outcome(routed: &[Routed]) -> Outcome {
    let tokens = routed.iter().map(|r| r.prompt_tokens).sum::<usize>().max(1) as f64;
    let rate = |cached: usize| cached as f64 / tokens;
    let mut times: Vec<_> = routed.iter().map(|r| r.microseconds).collect();
    times.sort_by(f64::total_cmp);
    let percentile =
        |p: f64| times.get(((times.len() as f64 - 1.0) * p).round() as usize).copied().unwrap_or(0.0);
    Outcome {
        requests: routed.len(),
        expectations_equal: routed.iter().filter(|r| r.is_exact()).count(),
        expectations_explained: routed.iter().filter(|r| !r.is_exact() && r.exception.is_some()).count(),
        recorded_hit_rate: rate(routed.iter().map(|r| r.engine_cached as usize).sum()),
        kvroute_hit_rate: rate(routed.iter().map(|r| r.expected).sum()),
        recorded_missed_better_pod: routed
            .iter()
            .filter(|r| r.pods.iter().any(|pod| pod.expected > r.engine_cached as usize))
            .count(),
        overhead_us_p50: percentile(0.5),
        overhead_us_p99: percentile(0.99),
    }
}
