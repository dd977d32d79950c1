//! Memory: exact live bytes of the heap for each block held, and what is left once everything was removed.

use kvroute_benches::Numbers;

use super::trace::{self, Eviction, engines, place, prompts};
use super::tree::{BLOCK_SIZE, PODS, all_removals, chains, holdings};
use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::{Chain, Change, removals, stores};
use crate::measure::resident;
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

const NO_COUNT: &str = "this workload needs the binary that counts the heap";

const MEASURES: &[Measure] = &[
    lower("held", "B/entry", Some(1.0)),
    lower("half evicted", "B/entry", None),
    lower("all evicted", "B/entry", None),
    lower("resident at most", "B/entry", None),
];

/// The tree, from tokens.
pub(super) static SHARED: Workload = Workload {
    name: "heap-tree",
    what: "the tree's memory, for each block and pod that holds it (1.9 pods a chain): loaded, evicted by halves",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Heap,
    run: |kind, job, report| shared_for(kind, job, report, Feed::Tokens),
};

/// The tree, from hashes.
pub(super) static SHARED_HASHES: Workload = Workload {
    name: "heap-tree-hashes",
    what: "the same from hashes",
    run: |kind, job, report| shared_for(kind, job, report, Feed::Hashes),
    ..SHARED
};

/// Nothing shared, from tokens.
pub(super) static UNSHARED: Workload = Workload {
    name: "heap-unshared",
    what: "32 pods, 102 400 blocks each in chains of 128, none shared",
    run: |kind, job, report| unshared_for(kind, job, report, Feed::Tokens),
    ..SHARED
};

/// Nothing shared, from hashes.
pub(super) static UNSHARED_HASHES: Workload = Workload {
    name: "heap-unshared-hashes",
    what: "the same from hashes",
    run: |kind, job, report| unshared_for(kind, job, report, Feed::Hashes),
    ..SHARED
};

/// An index that has been in use.
pub(super) static TRACE: Workload = Workload {
    name: "heap-trace",
    what: "Mooncake's conversations, as in `trace`: memory for each block held at the end",
    measures: &[lower("at the end", "B/entry", Some(1.0)), lower("tidied up", "B/entry", None)],
    run: |kind, job, report| {
        with_subject!(
            kind,
            [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
            replayed(job, report)
        )
    },
    ..SHARED
};

/// Pods of an index where nothing is held.
const IDLE_PODS: usize = 1000;

/// An index where nothing is held.
pub(super) static IDLE: Workload = Workload {
    name: "heap-idle",
    what: "1000 pods that hold nothing (kvroute: a whole router; Dynamo knows no pod before its first event)",
    measures: &[lower("held", "B/pod", None)],
    run: |kind, job, report| {
        with_subject!(
            kind,
            [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
            idle(job, report)
        )
    },
    ..SHARED
};

fn shared_for(kind: Kind, job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        shared(job, report, feed)
    )
}

fn unshared_for(kind: Kind, job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        unshared(job, report, feed)
    )
}

fn shared<S: Subject>(job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    let chains = chains(job.seed, job.size(3_200_000, 320_000));
    let holdings = holdings(&chains, job.seed);
    let stores: Vec<_> =
        holdings.iter().flat_map(|&(chain, pod)| stores(pod, chain, 0..chain.len(), 512)).collect();
    run::<S>(job, report, feed, &stores, &all_removals(&holdings))
}

fn unshared<S: Subject>(job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    const LENGTH: usize = 128;
    let mut numbers = Numbers::new(job.seed);
    let chains: Vec<_> = (0..PODS * job.size(800, 80))
        .map(|_| Chain::new(numbers.token_ids(LENGTH * BLOCK_SIZE), BLOCK_SIZE))
        .collect();
    let pairs = || chains.iter().enumerate().map(|(n, chain)| (chain, n % PODS));
    let stores: Vec<_> = pairs().flat_map(|(chain, pod)| stores(pod, chain, 0..LENGTH, 512)).collect();
    let removals: Vec<_> = pairs().flat_map(|(chain, pod)| removals(pod, chain, 0..LENGTH, 16)).collect();
    run::<S>(job, report, feed, &stores, &removals)
}

fn replayed<S: Subject>(job: &Job, report: &mut Report) -> Result<(), String> {
    let live = job.live.ok_or(NO_COUNT)?;
    let chains: Vec<_> = prompts(job)?.iter().map(|prompt| prompt.chain(trace::BLOCK_SIZE)).collect();
    let (mut engines, mut changes) = (engines(job, Eviction::Tails), Vec::new());
    for chain in &chains {
        let pod = place(&mut engines, chain);
        let (removed, stored) = engines[pod].serve(pod, chain);
        changes.extend(removed.into_iter().chain(stored));
    }
    let blocks: usize = engines.iter().map(trace::Engine::blocks).sum();
    let (feed, block_size) = (Feed::Tokens, trace::BLOCK_SIZE as u32);
    let setup = Setup { pods: trace::PODS, block_size, feed, writers: 1, as_set: false };
    let before = live();
    let mut subject = S::new(&setup);
    apply(&mut subject, &changes);
    report.put("at the end", each(live(), before, blocks));
    subject.tidy();
    report.put("tidied up", each(live(), before, blocks));
    Ok(())
}

fn idle<S: Subject>(job: &Job, report: &mut Report) -> Result<(), String> {
    let live = job.live.ok_or(NO_COUNT)?;
    let feed = Feed::Tokens;
    let setup = Setup { pods: IDLE_PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: false };
    let before = live();
    let _idle = S::new(&setup);
    report.put("held", each(live(), before, IDLE_PODS));
    Ok(())
}

/// What was allocated since, for each of so many.
fn each(bytes: u64, before: u64, count: usize) -> f64 {
    (bytes as f64 - before as f64) / count as f64
}

fn run<S: Subject>(
    job: &Job,
    report: &mut Report,
    feed: Feed,
    stores: &[Change<'_>],
    removals: &[Change<'_>],
) -> Result<(), String> {
    let live = job.live.ok_or(NO_COUNT)?;
    let setup = Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: false };
    let blocks: usize = removals.iter().map(Change::blocks).sum();
    let resident_before = resident().unwrap_or(0);
    let before = live();
    let mut subject = S::new(&setup);
    apply(&mut subject, stores);
    let resident_most = resident().unwrap_or(0);
    report.put("held", each(live(), before, blocks));
    let (first, second) = removals.split_at(removals.len() / 2);
    apply(&mut subject, first);
    subject.tidy();
    report.put("half evicted", each(live(), before, blocks));
    apply(&mut subject, second);
    subject.tidy();
    report.put("all evicted", each(live(), before, blocks));
    report.put("resident at most", each(resident_most, resident_before, blocks));
    Ok(())
}
