//! What one decision costs when Rust asks for it: the measure of the bindings' crossings. `cargo xtask crossing` runs
//! this beside the same in C, Go and Python; each prints `crossing <language> <tokens> <nanoseconds>`.
//!
//! 64 pods of one domain with blocks of 16; the first holds the whole prompt of token ids 0, 1, 2, ...

use std::hint::black_box;
use std::time::{Duration, Instant};

use kvroute_core::event::{BlockStored, EventBatch, KvEvent};
use kvroute_core::{Config, EngineHash, HashContext, Request, Tier, Workspace};

const PODS: usize = 64;
const BLOCK_SIZE: u32 = 16;
const ROUNDS: usize = 15;

fn main() {
    let pods: Vec<String> = (0..PODS).map(|pod| format!("{{name: pod-{pod}, domain: m}}")).collect();
    let document = format!("{{domains: {{m: {{block_size: {BLOCK_SIZE}}}}}, pods: [{}]}}", pods.join(", "));
    let router = Config::from_yaml(&document).and_then(|config| config.build()).expect("a configuration");
    let first = router.pod("pod-0", 0).expect("the first pod").id();
    let all: Vec<u32> = (0..32 * 1024).collect();
    let stored = BlockStored {
        block_hashes: (1..=all.len() as u64 / u64::from(BLOCK_SIZE)).map(EngineHash).collect(),
        token_ids: all.clone(),
        block_size: BLOCK_SIZE,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    };
    let batch = EventBatch { events: vec![KvEvent::Stored(stored)], ..EventBatch::default() };
    router.apply_events(first, &batch).expect("the first pod");

    let (context, mut workspace) = (HashContext::default(), Workspace::default());
    for tokens in [16, 1024, 8 * 1024, 32 * 1024] {
        let request = Request::new(&all[..tokens], &context);
        let mut decide = || {
            black_box(router.decide(black_box(&request), Duration::ZERO, &mut workspace).expect("a pod"));
        };
        let calls = (2_000_000 / (tokens + 100)).max(20);
        (0..calls).for_each(|_| decide());
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                (0..calls).for_each(|_| decide());
                start.elapsed().as_nanos() as f64 / calls as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        println!("crossing rust {tokens} {:.0}", rounds[ROUNDS / 2]);
    }
}
