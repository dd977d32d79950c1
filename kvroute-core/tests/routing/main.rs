//! The router: who is picked and why, what it remembers of what it sent, and a request's whole life.

mod affinity;
mod contention;
mod costs;
mod decisions;
mod embedding;
mod explanations;
mod filters;
mod guards;
mod known;
mod lifecycle;
mod live_policy;
mod peers;
mod pickers;
mod predictions;
mod prefill;
mod profiles;
mod records;
mod replays;
mod reproducible;
mod sampling;
mod scorers;
mod sessions;
mod several_domains;
mod snapshots;
mod speculation;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use kvroute_core::decision::Explanation;
use kvroute_core::event::{BlockStored, EventBatch, KvEvent};
use kvroute_core::index::{IndexOptions, TrustLevel};
use kvroute_core::load::Bookings;
use kvroute_core::pod::{Audit, RoutedPod};
use kvroute_core::{
    BlockHasher, CacheDomain, Decision, Dispatch, EngineHash, Finish, HashContext, KnownPrefix, LoadReport,
    OwnScheme, PodId, PodSpec, Policy, PrefillPolicy, Profile, Request, Role, Router, RouterOptions, Session,
    SessionKey, Ticket, Tier, Workspace,
};

pub(crate) const BLOCK_SIZE: u32 = 4;

pub(crate) fn domain(name: &str, block_size: u32) -> Arc<CacheDomain> {
    let hasher = BlockHasher::new(OwnScheme::default(), block_size).unwrap();
    Arc::new(CacheDomain::new(name, hasher).unwrap())
}

/// Most tests reckon with the weights of llm-d's demo: each scorer's part can be told from the total.
pub(crate) fn demo_policy() -> Policy {
    Profile::llm_d_demo(Role::Decode).into()
}

pub(crate) fn demo_router() -> Router {
    Router::new(RouterOptions::default(), demo_policy()).unwrap()
}

pub(crate) fn router_of(pods: &[&str]) -> (Router, Vec<PodId>) {
    router_with(RouterOptions::default(), pods)
}

pub(crate) fn router_with(options: RouterOptions, pods: &[&str]) -> (Router, Vec<PodId>) {
    let router = Router::new(options, demo_policy()).unwrap();
    let domain = domain("model", BLOCK_SIZE);
    let ids = pods.iter().map(|&pod| router.add_pod(PodSpec::new(pod, Arc::clone(&domain))).unwrap());
    let ids = ids.collect();
    (router, ids)
}

/// A router that chooses by `policy`, with default options.
pub(crate) fn router_by(policy: impl Into<Policy>, pods: &[&str]) -> (Router, Vec<PodId>) {
    let router = Router::new(RouterOptions::default(), policy).unwrap();
    let domain = domain("model", BLOCK_SIZE);
    let ids = pods.iter().map(|&pod| router.add_pod(PodSpec::new(pod, Arc::clone(&domain))).unwrap());
    let ids = ids.collect();
    (router, ids)
}

/// Why a request would go where it would go.
pub(crate) fn explained(router: &Router, request: &Request<'_>, now: Duration) -> Explanation {
    let mut workspace = Workspace::default();
    // Where every pod is dropped, the explanation says so as well.
    let _ = router.decide(request, now, &mut workspace);
    router.explain(&workspace)
}

/// What a pod announces that stored the first `blocks` of a prompt.
pub(crate) fn stored(token_ids: &[u32], blocks: usize, tier: Tier) -> BlockStored {
    let block_hashes = token_ids
        .chunks_exact(BLOCK_SIZE as usize)
        .take(blocks)
        .scan(17_u64, |hash, block| {
            *hash = block.iter().fold(*hash, |h, &t| h.wrapping_mul(31).wrapping_add(u64::from(t) + 1));
            Some(EngineHash(*hash))
        })
        .collect();
    BlockStored {
        block_hashes,
        token_ids: token_ids[..blocks * BLOCK_SIZE as usize].to_vec(),
        block_size: BLOCK_SIZE,
        tier: Some(tier),
        ..BlockStored::default()
    }
}

pub(crate) fn apply(router: &Router, pod: PodId, event: KvEvent) {
    let batch = EventBatch { events: vec![event], ..EventBatch::default() };
    router.index().apply_events(pod, &batch).unwrap();
}

/// Lets a pod store the first `blocks` of a prompt.
pub(crate) fn store(router: &Router, pod: PodId, token_ids: &[u32], blocks: usize, tier: Tier) {
    apply(router, pod, KvEvent::Stored(stored(token_ids, blocks, tier)));
}

pub(crate) fn load(running: u32, waiting: u32) -> LoadReport {
    LoadReport { running, waiting, kv_usage: 0.5 }
}

pub(crate) fn prompt(seed: u32) -> Vec<u32> {
    (0..41).map(|i| seed * 1000 + i).collect()
}

/// Removes all of what [`store`] stores.
pub(crate) fn clear(router: &Router, pod: PodId) {
    apply(router, pod, KvEvent::Cleared);
}

pub(crate) fn bookings(router: &Router, pod: PodId) -> Bookings {
    router.pod_by_id(pod).unwrap().bookings()
}

pub(crate) fn of(requests: u32, prefill_tokens: u64) -> Bookings {
    Bookings { requests, prefill_tokens }
}

/// Blocks predicted for a pod.
pub(crate) fn predicted(router: &Router, pod: PodId) -> usize {
    router.index().predicted(pod).unwrap().blocks
}

pub(crate) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Decides about a prompt at time 0.
pub(crate) fn decide(router: &Router, token_ids: &[u32]) -> Decision {
    let context = HashContext::default();
    router.decide(&Request::new(token_ids, &context), Duration::ZERO, &mut Workspace::default()).unwrap()
}
