//! Other fleets: many pods, of which few hold a prompt of 512 blocks, or all do; and prompts of 128 blocks that share
//! nothing with each other.

use std::ops::Range;

use kvroute_benches::Numbers;

use super::table::prompts;
use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::{Chain, Change, removals};
use crate::measure::{each_wall, per_item, quantile};
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

const MEASURES: &[Measure] = &[
    lower("store", "ns/block", Some(2.0)),
    lower("hit", "ns", Some(2.0)),
    lower("hit p99, wall", "ns", None),
    lower("evict", "ns/block", Some(2.0)),
];
const BLOCK_SIZE: usize = 16;
/// Prompts that are asked for.
const QUERIES: usize = 2048;

/// 100 pods.
pub(super) static HUNDRED: Workload = Workload {
    name: "pods-100",
    what: "2048 prompts of 8k tokens on 100 pods, each on one of the four that its group is at home on; the last quarter \
           evicted",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| grouped(kind, job, report, 100),
};

/// 1000 pods.
pub(super) static THOUSAND: Workload = Workload {
    name: "pods-1000",
    what: "the same on 1000 pods",
    run: |kind, job, report| grouped(kind, job, report, 1000),
    ..HUNDRED
};

/// 1000 pods that have it all.
pub(super) static ALL_SHARED: Workload = Workload {
    name: "all-shared",
    what: "16 prompts of 8k tokens that each of 1000 pods has",
    run: |kind, job, report| {
        let pods = job.size(1000, 250);
        let prompts = prompts(job.seed, pods, 8192, 16, BLOCK_SIZE);
        let held = prompts.into_iter().map(|(chain, _)| (chain, 0..pods)).collect();
        run_for(kind, job, report, pods, held)
    },
    ..HUNDRED
};

/// Nothing shared.
pub(super) static UNSHARED: Workload = Workload {
    name: "unshared",
    what: "25 600 prompts of 2k tokens on 32 pods, none like another",
    run: |kind, job, report| {
        let (pods, mut numbers) = (32, Numbers::new(job.seed));
        let mut chain = || Chain::new(numbers.token_ids(2048), BLOCK_SIZE);
        let held = (0..job.size(25_600, 2560)).map(|n| (chain(), n % pods..n % pods + 1)).collect();
        run_for(kind, job, report, pods, held)
    },
    ..HUNDRED
};

/// A prompt and the pods that hold it.
type Held = (Chain, Range<usize>);

fn grouped(kind: Kind, job: &Job, report: &mut Report, pods: usize) -> Result<(), String> {
    let prompts = prompts(job.seed, pods, 8192, job.size(2048, 256), BLOCK_SIZE);
    run_for(kind, job, report, pods, prompts.into_iter().map(|(chain, pod)| (chain, pod..pod + 1)).collect())
}

fn run_for(kind: Kind, job: &Job, report: &mut Report, pods: usize, held: Vec<Held>) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        run(job, report, pods, &held)
    );
    Ok(())
}

fn run<S: Subject>(job: &Job, report: &mut Report, pods: usize, held: &[Held]) {
    let setup = Setup { pods, block_size: BLOCK_SIZE as u32, feed: Feed::Tokens, writers: 1, as_set: false };
    let mut subject = S::new(&setup);
    let pairs = || held.iter().flat_map(|(chain, pods)| pods.clone().map(move |pod| (chain, pod)));
    let stores: Vec<_> =
        pairs().map(|(chain, pod)| Change::Store { pod, chain, blocks: 0..chain.len() }).collect();
    report.put("store", apply(&mut subject, &stores));
    let queries: Vec<_> = held.iter().take(QUERIES).map(|(chain, _)| subject.query(chain)).collect();
    let mut scratch = S::Scratch::default();
    report.put("hit", per_item(&queries, job.passes, |query| subject.find(query, &mut scratch)));
    let walls = each_wall(&queries, |query| subject.find(query, &mut scratch));
    report.put("hit p99, wall", quantile(&walls, 0.99));
    let last = |chain: &Chain| chain.len() * 3 / 4..chain.len();
    let evicted: Vec<_> = pairs().flat_map(|(chain, pod)| removals(pod, chain, last(chain), 32)).collect();
    report.put("evict", apply(&mut subject, &evicted));
}
