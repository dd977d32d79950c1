//! `apply/...`: events into the index, counted in blocks. `store` and `remove` take typed events of so
//! many blocks; `raw` takes the bytes vLLM publishes, decoding included; `translated` hashes the token
//! ids anew.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvroute_benches::{Fleet, Prompt, native_domain, prompts, published, removed, stored, translated_domain};
use kvroute_core::CacheDomain;
use kvroute_core::event::{EventBatch, KvEvent};

/// The events of all prompts, cut into pieces of so many blocks: (pod, event).
fn cut(
    prompts: &[Prompt],
    piece: usize,
    event: fn(&Prompt, std::ops::Range<usize>) -> KvEvent,
) -> Vec<(usize, EventBatch)> {
    let mut events = Vec::new();
    for prompt in prompts {
        for start in (0..prompt.blocks.len()).step_by(piece) {
            let range = start..(start + piece).min(prompt.blocks.len());
            let batch = EventBatch { events: vec![event(prompt, range)], ..EventBatch::default() };
            events.push((prompt.pod, batch));
        }
    }
    events
}

fn apply_all(fleet: &Fleet, events: &[(usize, EventBatch)]) {
    for (pod, batch) in events {
        fleet.index.apply_events(fleet.pods[*pod], batch).expect("the pod is there");
    }
}

fn apply(c: &mut Criterion) {
    let prompts = prompts(8192, 256).expect("a fixed workload");
    let blocks: usize = prompts.iter().map(|prompt| prompt.blocks.len()).sum();
    let native = native_domain().expect("a fixed scheme");
    let translated = translated_domain().expect("a fixed scheme");
    let mut group = c.benchmark_group("apply");
    group.sample_size(10);
    group.throughput(Throughput::Elements(blocks as u64));
    let filled = |domain: &Arc<CacheDomain>| {
        let fleet = Fleet::new(Arc::clone(domain));
        fleet.store_all(&prompts).expect("the pods are there");
        fleet
    };
    for (name, domain) in [("", &native), ("-translated", &translated)] {
        for piece in [1, 32, 512] {
            let stores = cut(&prompts, piece, stored);
            group.bench_function(BenchmarkId::new(format!("store{name}"), piece), |b| {
                b.iter_batched_ref(
                    || Fleet::new(Arc::clone(domain)),
                    |fleet| apply_all(fleet, &stores),
                    BatchSize::PerIteration,
                );
            });
        }
        for piece in [1, 32] {
            let mut removals = cut(&prompts, piece, removed);
            // Engines evict tails first.
            removals.reverse();
            group.bench_function(BenchmarkId::new(format!("remove{name}"), piece), |b| {
                b.iter_batched_ref(
                    || filled(domain),
                    |fleet| apply_all(fleet, &removals),
                    BatchSize::PerIteration,
                );
            });
        }
        let payloads: Vec<_> = prompts.iter().map(|prompt| (prompt.pod, published(prompt))).collect();
        group.bench_function(BenchmarkId::new(format!("raw{name}"), 512), |b| {
            b.iter_batched_ref(
                || (Fleet::new(Arc::clone(domain)), [0; kvroute_benches::PODS]),
                |(fleet, next)| {
                    for (pod, payload) in &payloads {
                        let sequence = &mut next[*pod];
                        fleet
                            .index
                            .apply_batch(fleet.pods[*pod], *sequence, payload)
                            .expect("the pod is there");
                        *sequence += 1;
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
