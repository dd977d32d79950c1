//! The demo on simulated pods: requests in phases, under kvroute and under policies that know no caches.

mod outcome;
mod scale;
mod three_pods;

use std::sync::Arc;

use kvroute_core::hash::{HashSeed, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_core::{
    BlockHasher, CacheDomain, OwnScheme, Policy, PrefillPolicy, Profile, Role, Router, RouterOptions,
};
use kvroute_sim::engine::EngineOptions;
use kvroute_sim::fleet::{
    self, FleetOptions, KvroutePolicy, LeastInFlight, PodSpec, Prefilled, RandomChoice, RequestRecord,
    RoundRobin,
};
use kvroute_sim::timing::Timing;
use kvroute_sim::workload::{Asked, FleetRequest, Phase};

use crate::capture::Result;

pub use outcome::{Outcome, PodOutcome, PolicyOutcome, Row, overhead_us, share};
pub use scale::{Scaled, Window, scale};
pub use three_pods::{WithKvroute, three_pods};

/// Tokens a block, in engines and router.
pub const BLOCK_SIZE: usize = 16;

/// A decode pod computes prompts itself up to so many uncached tokens; 8B pods take about 20 ms for them.
pub const MAX_UNCACHED_TOKENS: usize = 512;

/// The pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pods that answer.
    pub decode: usize,
    /// Pods that compute long prompts for them.
    pub prefill: usize,
}

/// Blocks of a pod's KV cache: a few pods together hold all that is asked about, and no pod does alone.
pub const BLOCKS: u32 = 6500;

/// A pod of vLLM with an 8B model on an H200 and a KV cache of [`BLOCKS`] blocks of 16 tokens.
///
/// # Errors
///
/// None that these options could bring about.
pub fn pod(role: Role, number: usize) -> Result<PodSpec> {
    // The fastest of the engine's hashes; the router hashes by its own scheme in any case.
    let scheme =
        VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &HashSeed::Value("0".into()))?;
    let engine = EngineOptions {
        block_size: BLOCK_SIZE as u32,
        num_blocks: BLOCKS,
        scheme,
        ..EngineOptions::default()
    };
    let name = format!("{}-{number}", role.name());
    Ok(PodSpec { name, role, engine, timing: Timing::H200_LLAMA_8B, models: Vec::new() })
}

/// Those pods, decode pods first.
///
/// # Errors
///
/// As [`pod`].
pub fn pods(size: Size) -> Result<FleetOptions> {
    let decode = (0..size.decode).map(|n| pod(if size.prefill == 0 { Role::Both } else { Role::Decode }, n));
    let prefill = (0..size.prefill).map(|n| pod(Role::Prefill, n));
    Ok(FleetOptions::new(decode.chain(prefill).collect::<Result<_>>()?))
}

/// kvroute with the preset of llm-d's demo; long uncached prompts go through a prefill pod.
///
/// # Errors
///
/// None that these options could bring about.
pub fn kvroute() -> Result<KvroutePolicy> {
    let [decode, prefill] = [Role::Decode, Role::Prefill].map(Profile::llm_d_demo);
    let prefill = Some(PrefillPolicy::new(prefill, MAX_UNCACHED_TOKENS));
    let router = Router::new(RouterOptions::default(), Policy { prefill, ..Policy::from(decode) })?;
    let hasher = BlockHasher::new(OwnScheme::default(), BLOCK_SIZE as u32)?;
    Ok(KvroutePolicy::new(router, Arc::new(CacheDomain::new("llama-3.1-8b", hasher)?)))
}

/// The policies that know no caches, by name. Where there are prefill pods, they send long prompts there too.
fn others(seed: u64) -> [(&'static str, Box<dyn fleet::Policy>); 3] {
    [
        ("round-robin", Box::new(Prefilled::new(RoundRobin::default(), MAX_UNCACHED_TOKENS))),
        ("random", Box::new(Prefilled::new(RandomChoice::seeded(seed), MAX_UNCACHED_TOKENS))),
        ("least-loaded", Box::new(Prefilled::new(LeastInFlight::seeded(seed), MAX_UNCACHED_TOKENS))),
    ]
}

/// Runs the phases under kvroute, then the same requests under the other policies.
///
/// # Errors
///
/// A message that names what went wrong; nothing should.
pub fn phases(size: Size, seed: u64) -> Result<(Vec<Row>, Outcome)> {
    play(size, kvroute_sim::workload::phases(seed), kvroute()?.with_sessions(), seed)
}

/// Runs a trace's requests under kvroute and the other policies; all count as [`Phase::Populate`].
///
/// # Errors
///
/// A message that names what went wrong; nothing should.
pub fn trace(size: Size, requests: Vec<FleetRequest>, seed: u64) -> Result<(Vec<Row>, Outcome)> {
    let asked = |request| Asked { phase: Phase::Populate, prefix_tokens: 0, previous: None, request };
    play(size, requests.into_iter().map(asked).collect(), kvroute()?, seed)
}

fn play(size: Size, asked: Vec<Asked>, kvroute: KvroutePolicy, seed: u64) -> Result<(Vec<Row>, Outcome)> {
    let fleet = pods(size)?;
    let requests = || asked.iter().map(|asked| asked.request.clone());
    let mut kvroute = kvroute.with_explanations().with_log();
    let records = fleet::run(&fleet, requests(), &mut kvroute)?;
    if let Some(error) = kvroute.errors().first() {
        return Err(error.clone().into());
    }
    let mut policies = vec![PolicyOutcome::of("kvroute", &asked, &records, size.decode)];
    for (name, mut policy) in others(seed) {
        let records = fleet::run(&fleet, requests(), policy.as_mut())?;
        policies.push(PolicyOutcome::of(name, &asked, &records, size.decode));
    }
    let overhead = overhead_us(kvroute.routed());
    let log = kvroute.log().to_owned();
    let rows = asked.into_iter().zip(kvroute.into_routed()).zip(records);
    let rows: Vec<_> = rows.map(|((asked, routed), record)| Row { asked, routed, record }).collect();
    let outcome = Outcome {
        requests: rows.len(),
        expected_cached_mismatches: rows.iter().filter(|row| !row.is_exact()).count(),
        drifted_until_admission: rows.iter().filter(|row| row.drift() != 0).count(),
        hit_phase_on_right_pod: share(of_phase(&rows, Phase::Hit), |row| row.is_on_right_pod(BLOCK_SIZE)),
        follow_up_on_same_pod: share(of_phase(&rows, Phase::FollowUp), |row| {
            let previous = row.asked.previous.and_then(|id| rows.get(id as usize));
            previous.is_some_and(|previous| previous.pod() == row.pod())
        }),
        ttft_reduction_hit_vs_miss: reduction(&policies[0]),
        overhead_us_p50: overhead.0,
        overhead_us_p99: overhead.1,
        pods: fleet.pods.iter().enumerate().map(|(place, spec)| pod_outcome(place, spec, &rows)).collect(),
        policies,
        log,
    };
    Ok((rows, outcome))
}

/// The rows of one phase.
fn of_phase(rows: &[Row], phase: Phase) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| row.asked.phase == phase)
}

/// By how much the median hit is faster than the median miss: both phases ask for the same lengths.
fn reduction(policy: &PolicyOutcome) -> f64 {
    let of = |phase: Phase| policy.ttft_ms_p50_by_phase.get(phase.name()).copied().unwrap_or(0.0);
    if of(Phase::Miss) > 0.0 { 1.0 - of(Phase::Hit) / of(Phase::Miss) } else { 0.0 }
}

fn pod_outcome(place: usize, spec: &PodSpec, rows: &[Row]) -> PodOutcome {
    let uses = |record: &RequestRecord| {
        [record.decode, record.prefill].into_iter().flatten().find(|used| used.pod == place)
    };
    let (mut requests, mut prompt_tokens, mut cached_tokens) = (0, 0, 0);
    for (row, used) in rows.iter().filter_map(|row| Some((row, uses(&row.record)?))) {
        requests += 1;
        prompt_tokens += row.record.prompt_tokens;
        cached_tokens += used.cached_tokens.unwrap_or(0);
    }
    let hit_rate = cached_tokens as f64 / (prompt_tokens as f64).max(1.0);
    PodOutcome { pod: spec.name.clone(), role: spec.role.name(), requests, hit_rate }
}
