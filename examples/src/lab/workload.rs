//! The workloads: what is asked of which pods, at three loads each.

use std::io::Read;

use flate2::read::GzDecoder;
use kvroute_core::Role;
use kvroute_sim::engine::EngineOptions;
use kvroute_sim::fleet::{FleetOptions, InfiniteCache, PodChange, PodSpec, ThreePods};
use kvroute_sim::workload::{
    BurstLoad, ConversationLoad, HotPrefixLoad, MooncakeTrace, Script, SharedPrefixLoad, TenantLoad,
    UniqueLoad,
};

use super::WARM_UP;
use crate::capture::Result;
use crate::simulated::{self, BLOCK_SIZE};

/// Names of the loads, in order.
pub const LOADS: [&str; 3] = ["light", "busy", "saturated"];

/// Blocks of a pod's KV cache, as in the measured experiment: 144k tokens.
const BLOCKS: u32 = 9000;

/// The same for the trace, whose prompts are long and return late: 832k tokens, nearly what an H200 has room for
/// beside an 8B model (141 GB, nine tenths of it used, 16 GB of weights, 128 KiB a token).
const ALL_BLOCKS: u32 = 52_000;

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// What it is, in one line.
    pub what: &'static str,
    /// Arrivals a second at each of [`LOADS`].
    pub rates: [f64; 3],
    /// Requests of a run of size 1.
    count: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Chat,
    Agents,
    Tenants,
    HotPrefix,
    Bursts,
    Unique,
    ThreePods,
    Join,
    Death,
    Trace,
    Split,
}

/// One run's fleet and load.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The pods, and what happens to them.
    pub fleet: FleetOptions,
    /// What clients ask.
    pub script: Script,
    /// Whether pods are split in such as answer and such as prefill.
    pub is_split: bool,
    /// Seconds in which requests arrive, about.
    pub seconds: f64,
    /// Share of the prompt tokens that one cache of unlimited size would have had, warm-up left out.
    pub bound: f64,
}

/// All workloads.
///
/// # How the rates were chosen
///
/// Each workload was run at seven to fifteen rates, three seeds, under the preset `llm-d-demo` and all baselines. `saturated` is about nine tenths of the rate at which
/// the 99th percentile of the time to first token of the best policy leaves its plateau; `busy` is two thirds and
/// `light` a third of that. The measured experiment has its own three.
pub const WORKLOADS: [Workload; 11] = [
    workload(
        "chat",
        "conversations whose history grows with every turn",
        [18.0, 36.0, 54.0],
        2400,
        Kind::Chat,
    ),
    workload("agents", "agents in tool loops, three long preambles", [20.0, 40.0, 60.0], 2400, Kind::Agents),
    workload(
        "tenants",
        "300 tenants with a system prompt each, unequal",
        [30.0, 60.0, 90.0],
        2400,
        Kind::Tenants,
    ),
    workload(
        "hot-prefix",
        "four of five requests share 8000 tokens",
        [24.0, 48.0, 72.0],
        2400,
        Kind::HotPrefix,
    ),
    workload(
        "bursts",
        "questions about one text within two seconds",
        [34.0, 68.0, 100.0],
        2400,
        Kind::Bursts,
    ),
    workload("unique", "prompts that share nothing", [25.0, 50.0, 75.0], 2400, Kind::Unique),
    workload(
        "three-pods",
        "the load measured on three H200s: 60 groups",
        [12.0, 18.0, 24.0],
        800,
        Kind::ThreePods,
    ),
    workload("join", "60 groups; a fifth and a sixth pod join four", [18.0, 36.0, 52.0], 2400, Kind::Join),
    workload("death", "60 groups; one of six pods dies and returns", [24.0, 48.0, 68.0], 2400, Kind::Death),
    workload("trace", "real conversations: Mooncake's trace", [3.0, 6.0, 9.0], 1200, Kind::Trace),
    workload("split", "tenants; four pods prefill for four others", [20.0, 40.0, 60.0], 2400, Kind::Split),
];

const fn workload(
    name: &'static str,
    what: &'static str,
    rates: [f64; 3],
    count: u64,
    kind: Kind,
) -> Workload {
    Workload { name, what, rates, count, kind }
}

/// The trace that is committed: the first 2000 requests of Mooncake's `conversation_trace.jsonl`.
const COMMITTED_TRACE: &[u8] = include_bytes!("../../../testdata/traces/mooncake-conversation-2000.jsonl.gz");

/// Reads the committed trace.
///
/// # Errors
///
/// None, as it is committed.
pub fn committed_trace() -> Result<MooncakeTrace> {
    let mut text = String::new();
    GzDecoder::new(COMMITTED_TRACE).read_to_string(&mut text)?;
    Ok(MooncakeTrace::parse(&text)?)
}

impl Workload {
    /// The load and the fleet of one run: `rate` arrivals a second, `size` times the usual number of requests.
    /// All that is random is decided by the seed; of a trace it decides where to begin.
    ///
    /// # Errors
    ///
    /// None that the options could bring about.
    pub fn scene(&self, rate: f64, size: f64, seed: u64, trace: &MooncakeTrace) -> Result<Scene> {
        let count = (self.count as f64 * size).max(1.0) as u64;
        let seconds = count as f64 / rate;
        let groups = SharedPrefixLoad { rate, count, ..ThreePods::default().load(rate, seed) };
        let script = match self.kind {
            Kind::Chat => ConversationLoad::chat(rate, count, seed).script(),
            Kind::Agents => ConversationLoad::agents(rate, count, seed).script(),
            Kind::Tenants | Kind::Split => TenantLoad::new(rate, count, seed).script(),
            Kind::HotPrefix => HotPrefixLoad::new(rate, count, seed).script(),
            Kind::Bursts => BurstLoad::new(rate, count, seed).script(),
            Kind::Unique => UniqueLoad::new(rate, count, seed).script(),
            Kind::ThreePods | Kind::Join | Kind::Death => groups.requests().collect(),
            Kind::Trace => trace.excerpt(rate, count as usize, seed).collect(),
        };
        let blocks = if matches!(self.kind, Kind::Trace) { ALL_BLOCKS } else { BLOCKS };
        let pod = |role, number| pod(role, number, blocks);
        let pods = |count, role| (0..count).map(move |number| pod(role, number));
        let mut changes = Vec::new();
        let specs: Vec<_> = match self.kind {
            Kind::ThreePods => pods(3, Role::Both).collect(),
            Kind::Join => {
                for number in [4, 5] {
                    changes.push((0.5 * seconds, PodChange::Join(pod(Role::Both, number)?)));
                }
                pods(4, Role::Both).collect()
            }
            Kind::Death => {
                changes.push((0.5 * seconds, PodChange::Die(1)));
                changes.push((0.75 * seconds, PodChange::Return(1)));
                pods(6, Role::Both).collect()
            }
            Kind::Split => pods(4, Role::Decode).chain(pods(4, Role::Prefill)).collect(),
            _ => pods(8, Role::Both).collect(),
        };
        let fleet = FleetOptions { changes, ..FleetOptions::new(specs.into_iter().collect::<Result<_>>()?) };
        let requests = script.requests_if(0.1, 0.008);
        let left_out = (requests.len() as f64 * WARM_UP) as usize;
        let bound = InfiniteCache::new(BLOCK_SIZE as u32)?.share(&requests, left_out);
        Ok(Scene { fleet, script, is_split: matches!(self.kind, Kind::Split), seconds, bound })
    }
}

fn pod(role: Role, number: usize, num_blocks: u32) -> Result<PodSpec> {
    let spec = simulated::pod(role, number)?;
    Ok(PodSpec { engine: EngineOptions { num_blocks, ..spec.engine }, ..spec })
}
