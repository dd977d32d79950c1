//! Pods, a load and a policy in virtual time.
//!
//! A discrete-event simulation: [`run`] takes events in order of their time until every request is
//! answered or has failed. [`run_load`] does so for clients that wait for answers. No clock, no threads; the
//! same inputs give the same records, bit for bit.
//!
//! # What happens to a request
//!
//! It arrives at the gateway; the [`Policy`] chooses pods; the pod's API server parses it; the engine
//! queues, admits and computes it step by step ([`Engine`](crate::engine::Engine) says what,
//! [`Timing`](crate::timing::Timing) how long); tokens travel back. With a prefill pod in the placement
//! that one computes the prompt first, with an answer of one token that nobody gets; then the decode
//! pod admits the request, the KV of the blocks it does not hold travels, and it decodes.
//!
//! A request may name a served model, and a pod refuses those it does not serve. What shares KV on one pod is the
//! engine's affair: it hashes adapter and salt as vLLM does, and not the name.
//!
//! # What the gateway sees
//!
//! Each batch of KV events the moment its step ends, load reports at an interval, the first and last
//! token of answers, pods that come and go. Nothing is delayed or lost: a harness that wants that puts
//! it between.
//!
//! # What is not simulated
//!
//! Contention between transfers; prefill pods that keep blocks until they were read; clients that give
//! up; the gateway's own time.

mod baseline;
mod kvroute;
mod pod;
mod policy;
mod queue;
mod record;
mod replicas;
mod simulation;
mod three_pods;

pub use baseline::{HashRing, InfiniteCache, LeastInFlight, Prefilled, RandomChoice, RoundRobin, Sticky};
pub use kvroute::{KvroutePolicy, Routed};
pub use pod::PodSpec;
pub use policy::{Finish, Placement, PodEvent, PodView, Policy};
pub use record::{PodUse, RequestRecord, Run, Summary, percentile};
pub use replicas::Replicas;
pub use three_pods::{MEASURED, Measured, Row, Strategy, ThreePods};

use crate::engine::EngineError;
use crate::workload::{FleetRequest, Load};
use simulation::Simulation;

/// A fleet and what will happen to it.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetOptions {
    /// The pods that are there from the beginning.
    pub pods: Vec<PodSpec>,
    /// Seconds between two load reports of a pod; above 0.
    pub report_interval: f64,
    /// What happens to pods, with its time in seconds, in any order. What would happen after the last
    /// request has ended does not.
    pub changes: Vec<(f64, PodChange)>,
}

impl FleetOptions {
    /// These pods, which report every second and stay.
    #[must_use]
    pub fn new(pods: Vec<PodSpec>) -> Self {
        Self { pods, report_interval: 1.0, changes: Vec::new() }
    }
}

/// Something that happens to a pod. Pods are named by their place: those of the options first, then
/// those that join, in order of time. What cannot happen (a pod that is there returns, say) does not.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a run has a handful of them")]
pub enum PodChange {
    /// A new pod joins.
    Join(PodSpec),
    /// The pod takes no new requests and finishes those it has.
    Drain(usize),
    /// The pod is gone. Its requests fail and are placed again, those too that it prefills for others.
    Die(usize),
    /// A pod that died is there again; its cache is empty and its batches are numbered from 0. A pod that
    /// drained accepts again; its cache is as it was.
    Return(usize),
}

/// Runs a load on a fleet: one record per request, in order of arrival. `requests` are in order of
/// arrival.
///
/// # Errors
///
/// Those of [`EngineOptions::check`](crate::engine::EngineOptions::check) for the options of any pod.
pub fn run(
    options: &FleetOptions,
    requests: impl IntoIterator<Item = FleetRequest>,
    policy: &mut dyn Policy,
) -> Result<Vec<RequestRecord>, EngineError> {
    Ok(run_load(options, requests.into_iter(), policy)?.records)
}

/// The same for a load whose clients may wait for answers before they go on.
///
/// # Errors
///
/// Those of [`run`].
pub fn run_load(
    options: &FleetOptions,
    load: impl Load,
    policy: &mut dyn Policy,
) -> Result<Run, EngineError> {
    Simulation::new(options, load, policy)?.run()
}
