//! Several routers in front of one fleet, and what they tell each other.

use std::sync::Arc;

use kvroute_core::{BlockHasher, CacheDomain, OwnScheme, Role, Router};
use kvroute_sim::engine::EngineOptions;
use kvroute_sim::fleet::{self, FleetOptions, KvroutePolicy, PodSpec, Replicas, RequestRecord, Summary};
use kvroute_sim::timing::Timing;
use kvroute_sim::workload::SharedPrefixLoad;

fn play(replicas: usize, staleness: Option<f64>) -> Vec<RequestRecord> {
    let pods = (0..8).map(|n| PodSpec {
        name: format!("pod-{n}"),
        role: Role::Both,
        engine: EngineOptions { num_blocks: 4000, ..EngineOptions::default() },
        timing: Timing::H200_LLAMA_8B,
        models: Vec::new(),
    });
    // Prompts that share nothing, so that only load tells pods apart.
    let load = SharedPrefixLoad {
        groups: 1 << 40,
        prefix_tokens: 1500,
        own_tokens: 1..=500,
        output_tokens: 16,
        rate: 60.0,
        count: 600,
        seed: 3,
    };
    let hasher = BlockHasher::new(OwnScheme::default(), 16).unwrap();
    let domain = Arc::new(CacheDomain::new("model", hasher).unwrap());
    let make = |_| KvroutePolicy::new(Router::default(), Arc::clone(&domain));
    let mut policy = Replicas::new(replicas, staleness, 5, make);
    let records = fleet::run(&FleetOptions::new(pods.collect()), load.requests(), &mut policy).unwrap();
    assert_eq!(policy.errors().count(), 0);
    assert_eq!(policy.routed().count(), 600);
    records
}

#[test]
fn what_routers_tell_each_other_brings_them_nearer_to_one_that_knows_all() {
    let p99 = |replicas, staleness| Summary::of(&play(replicas, staleness)).ttft_p99;
    let (one, shared, alone) = (p99(1, None), p99(8, Some(0.01)), p99(8, None));
    let gap = (shared - one) / (alone - one);
    assert!(one < alone && gap < 2.0 / 3.0, "{shared} s with, {alone} s without, {one} s of one router");
}

#[test]
fn one_router_is_as_without_any_other() {
    assert_eq!(play(1, None), play(1, Some(0.1)));
}
