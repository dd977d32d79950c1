//! Many pods: prompts of 512 blocks that four pods of each group share, and prompts that every pod has.

use super::table::prompts;
use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::Change;
use crate::measure::{each_wall, per_item, quantile};
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

const MEASURES: &[Measure] = &[
    lower("store 512", "ns/block", Some(2.0)),
    lower("hit", "ns", Some(2.0)),
    lower("hit p99, wall", "ns", None),
];
const BLOCK_SIZE: usize = 16;

/// 100 pods.
pub(super) static HUNDRED: Workload = Workload {
    name: "pods-100",
    what: "2048 prompts of 8k tokens on 100 pods",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| run_for(kind, job, report, 100, false),
};

/// 1000 pods.
pub(super) static THOUSAND: Workload = Workload {
    name: "pods-1000",
    what: "the same on 1000 pods",
    run: |kind, job, report| run_for(kind, job, report, 1000, false),
    ..HUNDRED
};

/// 1000 pods that have it all.
pub(super) static ALL_SHARED: Workload = Workload {
    name: "all-shared",
    what: "16 prompts of 8k tokens that each of 1000 pods has",
    run: |kind, job, report| run_for(kind, job, report, 1000, true),
    ..HUNDRED
};

fn run_for(kind: Kind, job: &Job, report: &mut Report, pods: usize, by_all: bool) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        run(job, report, pods, by_all)
    );
    Ok(())
}

fn run<S: Subject>(job: &Job, report: &mut Report, pods: usize, by_all: bool) {
    let setup = Setup { pods, block_size: BLOCK_SIZE as u32, feed: Feed::Tokens, writers: 1, as_set: false };
    let count = if by_all { 16 } else { job.size(2048, 256) };
    let pods_used = if by_all { job.size(pods, pods / 4) } else { pods };
    let prompts = prompts(job.seed, pods, 8192, count, BLOCK_SIZE);
    let mut subject = S::new(&setup);
    let mut stores = Vec::new();
    for (chain, pod) in &prompts {
        let holders = if by_all { 0..pods_used } else { *pod..*pod + 1 };
        stores.extend(holders.map(|pod| Change::Store { pod, chain, blocks: 0..chain.len() }));
    }
    report.put("store 512", apply(&mut subject, &stores));
    let queries: Vec<_> = prompts.iter().map(|(chain, _)| subject.query(chain)).collect();
    let mut scratch = S::Scratch::default();
    report.put("hit", per_item(&queries, job.passes, |query| subject.find(query, &mut scratch)));
    let walls = each_wall(&queries, |query| subject.find(query, &mut scratch));
    report.put("hit p99, wall", quantile(&walls, 0.99));
}
