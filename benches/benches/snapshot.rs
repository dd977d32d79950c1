//! `snapshot/...`: a router's knowledge to bytes and back, counted in blocks held. 64 pods, prompts of 64 to 2048
//! blocks, each on one pod (`apart`), or three quarters of it shared with three other pods (`shared`); pods publish
//! block hashes (`native`) or names of their own (`translated`). `KVROUTE_BENCH_BLOCKS` sets how many blocks are held;
//! bytes a block are printed.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvroute_benches::{Numbers, native_domain, translated_domain};
use kvroute_core::event::{BlockStored, EventBatch, KvEvent};
use kvroute_core::index::IndexOptions;
use kvroute_core::{
    BlockHash, CacheDomain, EngineHash, HashContext, PodSpec, Policy, Restore, Router, RouterOptions, Tier,
};

const PODS: usize = 64;
const NOW: Duration = Duration::from_secs(1);

fn router() -> Router {
    let index = IndexOptions { max_bytes: 16 << 30, ..IndexOptions::default() };
    Router::new(RouterOptions { index, ..RouterOptions::default() }, Policy::default())
        .expect("fixed options")
}

/// Token ids for translated pods, which are hashed; native ones are told any hashes.
fn event(domain: &CacheDomain, pod: usize, token_ids: &[u32]) -> KvEvent {
    let size = domain.block_size() as usize;
    let blocks: Vec<u64> = if domain.is_native() {
        let mut before = 0;
        let next = |block: &[u32]| {
            before = Numbers::new(before ^ u64::from(block[0]) << 32 ^ u64::from(block[1])).below(u64::MAX);
            before
        };
        token_ids.chunks_exact(size).map(next).collect()
    } else {
        let hashes = domain.hasher().hash(token_ids, &HashContext::default()).expect("the own scheme");
        hashes.iter().map(|BlockHash(hash)| hash.rotate_left(pod as u32 + 1)).collect()
    };
    KvEvent::Stored(BlockStored {
        block_hashes: blocks.into_iter().map(EngineHash).collect(),
        token_ids: token_ids.to_vec(),
        block_size: domain.block_size(),
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    })
}

/// A router whose pods hold about so many blocks.
fn filled(domain: &Arc<CacheDomain>, blocks: usize, shared: bool) -> Router {
    let router = router();
    let pods: Vec<_> = (0..PODS)
        .map(|n| router.add_pod(PodSpec::new(format!("pod-{n}"), Arc::clone(domain))).expect("a new name"))
        .collect();
    let (mut numbers, mut held) = (Numbers::new(7), 0);
    let size = domain.block_size() as usize;
    while held < blocks {
        let length = 64 + numbers.below(2048 - 64 + 1) as usize;
        let prefix = numbers.token_ids(length * size * 3 / 4 / size * size);
        let first = numbers.below(PODS as u64) as usize;
        for at in 0..if shared { 4 } else { 1 } {
            let pod = (first + at * 17) % PODS;
            let mut token_ids = prefix.clone();
            token_ids.extend(numbers.token_ids(length * size - prefix.len()));
            let batch = EventBatch { events: vec![event(domain, pod, &token_ids)], ..EventBatch::default() };
            router.apply_events(pods[pod], &batch).expect("the pod is there");
            held += length;
        }
    }
    router
}

fn written(router: &Router) -> Vec<Vec<u8>> {
    let (mut snapshot, mut chunks) = (router.snapshot(NOW), Vec::new());
    while let Some(chunk) = snapshot.next_chunk(router).expect("its own router") {
        chunks.push(chunk.to_vec());
    }
    chunks
}

fn restored(domain: &Arc<CacheDomain>, chunks: &[Vec<u8>]) -> Router {
    let router = router();
    router.add_domain(Arc::clone(domain)).expect("a new domain");
    let mut restore = Restore::default();
    chunks.iter().for_each(|chunk| restore.push(chunk).expect("a whole snapshot"));
    restore.finish(&router, NOW).expect("a whole snapshot");
    router
}

fn snapshot(c: &mut Criterion) {
    let blocks = std::env::var("KVROUTE_BENCH_BLOCKS").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let mut group = c.benchmark_group("snapshot");
    group.sample_size(10);
    let native = native_domain().expect("a fixed scheme");
    let translated = translated_domain().expect("a fixed scheme");
    for (name, domain, shared) in [
        ("native-apart", &native, false),
        ("native-shared", &native, true),
        ("translated-apart", &translated, false),
        ("translated-shared", &translated, true),
    ] {
        let router = filled(domain, blocks, shared);
        let chunks = written(&router);
        let held: u64 = router
            .pods()
            .iter()
            .map(|pod| router.index().counters(pod.id()).expect("a pod").blocks_stored)
            .sum();
        let bytes: usize = chunks.iter().map(Vec::len).sum();
        let distinct = router.index().blocks();
        let memory = router.index().bytes() + router.index().view_bytes();
        println!(
            "snapshot/{name}: {held} blocks held, {distinct} distinct; {bytes} bytes, {:.2} a block held; in memory {:.1}",
            bytes as f64 / held as f64,
            memory as f64 / held as f64,
        );
        group.throughput(Throughput::Elements(held));
        group.bench_function(BenchmarkId::new("write", name), |b| b.iter(|| written(&router).len()));
        drop(router);
        group.bench_function(BenchmarkId::new("restore", name), |b| {
            b.iter_batched(|| (), |()| restored(domain, &chunks), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
