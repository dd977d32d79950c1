//! Are the answers right? The trace on small caches, every answer for every pod compared with sets of blocks.

use super::trace::{Engine, Eviction, PODS, place, prompts};
use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::subject::{Feed, Kind, OracleSubject, Setup, Subject};
use crate::with_subject;

const BLOCK_SIZE: usize = 64;
const CAPACITY: usize = 2048;

const MEASURES: &[Measure] = &[
    lower("credited too much", "% of answers", None),
    lower("credited too little", "% of answers", None),
    lower("wrong pod best", "% of queries", None),
];

/// Tails first.
pub(super) static TAILS: Workload = Workload {
    name: "exact-tails",
    what: "answers compared with sets of blocks: the trace on 16 engines of 2048 blocks of 64 tokens, tails evicted first",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| run_for(kind, job, report, Eviction::Tails),
};

/// Heads first.
pub(super) static HEADS: Workload = Workload {
    name: "exact-heads",
    what: "the same with heads evicted first",
    run: |kind, job, report| run_for(kind, job, report, Eviction::Heads),
    ..TAILS
};

/// Random blocks.
pub(super) static RANDOM: Workload = Workload {
    name: "exact-random",
    what: "the same with blocks evicted at random; what follows a hole is stored again when the prompt is",
    run: |kind, job, report| run_for(kind, job, report, Eviction::Random),
    ..TAILS
};

fn run_for(kind: Kind, job: &Job, report: &mut Report, eviction: Eviction) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        run(job, report, eviction)
    )
}

fn run<S: Subject>(job: &Job, report: &mut Report, eviction: Eviction) -> Result<(), String> {
    let feed = Feed::Tokens;
    let setup = Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: true };
    let mut engines: Vec<_> =
        (0..PODS).map(|pod| Engine::new(CAPACITY, eviction, job.seed ^ pod as u64)).collect();
    let (mut subject, mut oracle) = (S::new(&setup), OracleSubject::new(&setup));
    let (mut answers, mut queries, mut too_much, mut too_little, mut wrong_best) = (0, 0, 0, 0, 0);
    for prompt in prompts(job)? {
        let chain = prompt.chain(BLOCK_SIZE);
        let answer = by_pod(&subject.answer(&subject.query(&chain)));
        let truth = by_pod(&oracle.answer(&oracle.query(&chain)));
        let most = truth.iter().max();
        let chosen = answer.iter().zip(&truth).max_by_key(|(answer, _)| **answer).map(|(_, truth)| truth);
        answers += PODS;
        queries += 1;
        too_much += answer.iter().zip(&truth).filter(|(answer, truth)| answer > truth).count();
        too_little += answer.iter().zip(&truth).filter(|(answer, truth)| answer < truth).count();
        wrong_best += usize::from(chosen < most);
        let pod = place(&mut engines, &chain);
        let (removed, stored) = engines[pod].serve(pod, &chain);
        for changes in [removed, stored] {
            apply(&mut oracle, &changes);
            apply(&mut subject, &changes);
        }
    }
    let share = |count: usize, of: usize| count as f64 * 100.0 / of.max(1) as f64;
    report.put("credited too much", share(too_much, answers));
    report.put("credited too little", share(too_little, answers));
    report.put("wrong pod best", share(wrong_best, queries));
    Ok(())
}

fn by_pod(rows: &[(usize, u32)]) -> Vec<u32> {
    let mut depths = vec![0; PODS];
    rows.iter().for_each(|&(pod, depth)| depths[pod] = depth);
    depths
}
