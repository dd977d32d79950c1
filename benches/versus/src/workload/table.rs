//! Prompts of one length: 32 pods, 64 groups of prompts, each three quarters its group's prefix and one quarter its own,
//! on one of the group's four pods.

use kvroute_benches::Numbers;

use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::{Chain, Change, removals};
use crate::measure::{each_wall, per_item, quantile};
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

const PODS: usize = 32;
const GROUPS: usize = 64;
const BLOCK_SIZE: usize = 16;
const QUERIES: usize = 1024;

const MEASURES: &[Measure] = &[
    lower("insert", "ns/block", Some(2.0)),
    lower("hit", "ns", Some(2.0)),
    lower("hit p99, wall", "ns", None),
    lower("partial", "ns", Some(2.0)),
    lower("miss", "ns", None),
    lower("evict", "ns/block", Some(2.0)),
];

/// 1k tokens.
pub(super) static SHORT: Workload = Workload {
    name: "table-1k",
    what: "8192 prompts of 1k tokens, 32 pods: insert, look up, evict the last quarter",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| tokens(kind, job, report, 1024, 8192),
};

/// 8k tokens.
pub(super) static MIDDLE: Workload = Workload {
    name: "table-8k",
    what: "2048 prompts of 8k tokens",
    run: |kind, job, report| tokens(kind, job, report, 8192, 2048),
    ..SHORT
};

/// 32k tokens.
pub(super) static LONG: Workload = Workload {
    name: "table-32k",
    what: "512 prompts of 32k tokens",
    run: |kind, job, report| tokens(kind, job, report, 32_768, 512),
    ..SHORT
};

/// 32k tokens, hashes given.
pub(super) static LONG_HASHES: Workload = Workload {
    name: "table-32k-hashes",
    what: "the same, contents hashed before and engine hashes that requests compute, too",
    run: |kind, job, report| {
        with_subject!(
            kind,
            [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
            run(job, report, Feed::Hashes, 32_768, 512)
        );
        Ok(())
    },
    ..SHORT
};

fn tokens(kind: Kind, job: &Job, report: &mut Report, length: usize, count: usize) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        run(job, report, Feed::Tokens, length, count)
    );
    Ok(())
}

/// Prompts with their pods.
pub(super) fn prompts(
    seed: u64,
    pods: usize,
    length: usize,
    count: usize,
    block_size: usize,
) -> Vec<(Chain, usize)> {
    let mut numbers = Numbers::new(seed);
    let groups: Vec<_> = (0..GROUPS)
        .map(|_| {
            let pods: Vec<_> = (0..4).map(|_| numbers.below(pods as u64) as usize).collect();
            (Chain::new(numbers.token_ids(length * 3 / 4), block_size), pods)
        })
        .collect();
    (0..count)
        .map(|n| {
            let (prefix, pods) = &groups[n % GROUPS];
            let mut chain = prefix.clone();
            chain.extend(&numbers.token_ids(length - length * 3 / 4));
            (chain, pods[n / GROUPS % 4])
        })
        .collect()
}

fn run<S: Subject>(job: &Job, report: &mut Report, feed: Feed, length: usize, count: usize) {
    let setup = Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: false };
    let prompts = prompts(job.seed, PODS, length, job.size(count, count / 8), BLOCK_SIZE);
    let mut subject = S::new(&setup);
    let stores: Vec<_> = prompts
        .iter()
        .map(|(chain, pod)| Change::Store { pod: *pod, chain, blocks: 0..chain.len() })
        .collect();
    report.put("insert", apply(&mut subject, &stores));

    let mut numbers = Numbers::new(!job.seed);
    let asked: Vec<&Chain> = prompts.iter().map(|(chain, _)| chain).take(QUERIES).collect();
    let hits: Vec<_> = asked.iter().map(|chain| subject.query(chain)).collect();
    let partial: Vec<_> = asked
        .iter()
        .map(|chain| {
            let mut other = Chain::new(chain.tokens(0..chain.len() * 3 / 4).to_vec(), BLOCK_SIZE);
            other.extend(&numbers.token_ids(length / 4));
            subject.query(&other)
        })
        .collect();
    let misses: Vec<_> = asked
        .iter()
        .map(|chain| subject.query(&Chain::new(numbers.token_ids(chain.len() * BLOCK_SIZE), BLOCK_SIZE)))
        .collect();
    let mut scratch = S::Scratch::default();
    report.put("hit", per_item(&hits, job.passes, |query| subject.find(query, &mut scratch)));
    let walls = each_wall(&hits, |query| subject.find(query, &mut scratch));
    report.put("hit p99, wall", quantile(&walls, 0.99));
    report.put("partial", per_item(&partial, job.passes, |query| subject.find(query, &mut scratch)));
    report.put("miss", per_item(&misses, job.passes, |query| subject.find(query, &mut scratch)));

    let evicted: Vec<_> = prompts
        .iter()
        .flat_map(|(chain, pod)| removals(*pod, chain, chain.len() * 3 / 4..chain.len(), 32))
        .collect();
    report.put("evict", apply(&mut subject, &evicted));
}
