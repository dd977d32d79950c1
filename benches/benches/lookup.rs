//! `lookup/{hit,partial,miss,holes}/{tokens}`: hashes to what each of 32 pods holds. `holes` is `hit` after
//! every prompt lost a fortieth of its blocks, at random. `lookup/bytes-per-block` is printed, not timed.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kvroute_benches::{Fleet, Numbers, Prompt, native_domain, prompts, removed, translated_domain};
use kvroute_core::BlockHash;
use kvroute_core::event::EventBatch;
use kvroute_core::index::MatchTable;

/// Different queries asked in turn.
const QUERIES: usize = 1024;

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for (tokens, count) in [(1024, 8192), (8192, 2048), (32_768, 512)] {
        let prompts = prompts(tokens, count).expect("a fixed workload");
        let fleet = Fleet::new(translated_domain().expect("a fixed scheme"));
        fleet.store_all(&prompts).expect("the pods are there");
        let native = Fleet::new(native_domain().expect("a fixed scheme"));
        native.store_all(&prompts).expect("the pods are there");
        println!(
            "lookup/bytes-per-block/{tokens}: {} blocks, {:.1} B a block in the index; in the views {:.1} B native, {:.1} B \
             translated",
            fleet.index.blocks(),
            fleet.index.bytes() as f64 / fleet.index.blocks() as f64,
            native.index.view_bytes() as f64 / fleet.index.blocks() as f64,
            fleet.index.view_bytes() as f64 / fleet.index.blocks() as f64,
        );
        let hits: Vec<_> = prompts.iter().take(QUERIES).map(|prompt| prompt.blocks.clone()).collect();
        let partial: Vec<_> = hits
            .iter()
            .map(|blocks| {
                let mut numbers = Numbers::new(blocks[0].0);
                let mut blocks = blocks.clone();
                let tail = blocks.len() * 3 / 4;
                blocks[tail..].fill_with(|| BlockHash(numbers.below(u64::MAX)));
                blocks
            })
            .collect();
        let mut numbers = Numbers::new(2);
        let misses: Vec<_> =
            hits.iter().map(|b| b.iter().map(|_| BlockHash(numbers.below(u64::MAX))).collect()).collect();

        group.throughput(Throughput::Elements(tokens as u64 / 16));
        ask(&mut group, &fleet, "hit", tokens, &hits);
        ask(&mut group, &native, "hit-native", tokens, &hits);
        ask(&mut group, &fleet, "partial", tokens, &partial);
        ask(&mut group, &fleet, "miss", tokens, &misses);
        punch_holes(&fleet, &prompts);
        ask(&mut group, &fleet, "holes", tokens, &hits);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn ask(group: &mut Group<'_>, fleet: &Fleet, name: &str, tokens: usize, queries: &[Vec<BlockHash>]) {
    let mut table = MatchTable::default();
    let mut next = queries.iter().cycle();
    group.bench_function(BenchmarkId::new(name, tokens), |b| {
        b.iter(|| {
            let query = next.next().expect("an endless cycle");
            fleet.index.lookup(&fleet.domain, query, &mut table);
            table.matches().len()
        });
    });
}

fn punch_holes(fleet: &Fleet, prompts: &[Prompt]) {
    let mut numbers = Numbers::new(3);
    for prompt in prompts {
        for _ in 0..prompt.blocks.len() / 40 {
            let at = numbers.below(prompt.blocks.len() as u64) as usize;
            let batch = EventBatch { events: vec![removed(prompt, at..at + 1)], ..EventBatch::default() };
            fleet.index.apply_events(fleet.pods[prompt.pod], &batch).expect("the pod is there");
        }
    }
}

criterion_group!(benches, lookup);
criterion_main!(benches);
