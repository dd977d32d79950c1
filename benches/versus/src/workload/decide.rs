//! From token ids to a decision: kvroute hashes, looks up, scores all pods and picks one; the peers have no decision, so
//! theirs is hashing and lookup alone.

use super::table::prompts;
use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::{Chain, Change};
use crate::measure::per_item;
use crate::subject::{Feed, Kind, KvrouteSubject, Setup, Subject};
use crate::with_subject;

const SUBJECTS: &[Kind] = &[Kind::Kvroute, Kind::ChainIndex, Kind::RadixTree, Kind::Crtc, Kind::DynamoTree];

/// The fleets, and what they are called.
const FLEETS: [(&str, usize); 4] = [("1 pod", 1), ("8 pods", 8), ("64 pods", 64), ("512 pods", 512)];

const MEASURES: &[Measure] = &[
    lower("1 pod", "ns", None),
    lower("8 pods", "ns", None),
    lower("64 pods", "ns", None),
    lower("512 pods", "ns", None),
];

const AIMED: &[Measure] = &[
    lower("1 pod", "ns", Some(2.0)),
    lower("8 pods", "ns", Some(2.0)),
    lower("64 pods", "ns", Some(2.0)),
    lower("512 pods", "ns", Some(2.0)),
];

/// 1k tokens.
pub(super) static TOKENS_1K: Workload = Workload {
    name: "decide-1k",
    what: "token ids to decision, 1k tokens (peers: hashing and lookup, no decision)",
    subjects: SUBJECTS,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| run(kind, job, report, 1024, 2048),
};

/// 8k tokens.
pub(super) static TOKENS_8K: Workload = Workload {
    name: "decide-8k",
    what: "the same for 8k tokens",
    run: |kind, job, report| run(kind, job, report, 8192, 512),
    ..TOKENS_1K
};

/// 32k tokens.
pub(super) static TOKENS_32K: Workload = Workload {
    name: "decide-32k",
    what: "the same for 32k tokens",
    measures: AIMED,
    run: |kind, job, report| run(kind, job, report, 32_768, 128),
    ..TOKENS_1K
};

/// 128k tokens.
pub(super) static TOKENS_128K: Workload = Workload {
    name: "decide-128k",
    what: "the same for 128k tokens",
    measures: AIMED,
    run: |kind, job, report| run(kind, job, report, 131_072, 64),
    ..TOKENS_1K
};

/// 1000 pods that hold nothing.
pub(super) static IDLE: Workload = Workload {
    name: "decide-idle",
    what: "token ids to decision, 8k tokens that none of 1000 pods holds (peers: hashing and lookup)",
    measures: &[lower("1000 pods", "ns", None)],
    run: |kind, job, report| {
        let setup = setup(1000, 16);
        let prompts = prompts(job.seed, 1000, 8192, 64, 16);
        report.put("1000 pods", act_on(kind, job, &setup, &prompts, &[])?);
        Ok(())
    },
    ..TOKENS_1K
};

/// 240k tokens in blocks of 64.
pub(super) static TOKENS_240K: Workload = Workload {
    name: "decide-240k",
    what: "the same for 240k tokens in blocks of 64, 96 pods",
    measures: &[lower("96 pods", "ns", Some(2.0))],
    run: |kind, job, report| {
        report.put("96 pods", measured(kind, job, 245_760, 64, 96, 64)?);
        Ok(())
    },
    ..TOKENS_1K
};

fn run(kind: Kind, job: &Job, report: &mut Report, length: usize, count: usize) -> Result<(), String> {
    for (name, pods) in FLEETS {
        report.put(name, measured(kind, job, length, count, pods, 16)?);
    }
    Ok(())
}

fn measured(
    kind: Kind,
    job: &Job,
    length: usize,
    count: usize,
    pods: usize,
    block_size: usize,
) -> Result<f64, String> {
    let prompts = prompts(job.seed, pods, length, job.size(count, count.min(64)), block_size);
    let stores: Vec<_> = prompts
        .iter()
        .map(|(chain, pod)| Change::Store { pod: *pod, chain, blocks: 0..chain.len() })
        .collect();
    act_on(kind, job, &setup(pods, block_size), &prompts, &stores)
}

fn setup(pods: usize, block_size: usize) -> Setup {
    Setup { pods, block_size: block_size as u32, feed: Feed::Tokens, writers: 1, as_set: false }
}

fn act_on(
    kind: Kind,
    job: &Job,
    setup: &Setup,
    prompts: &[(Chain, usize)],
    stores: &[Change<'_>],
) -> Result<f64, String> {
    if kind == Kind::Kvroute {
        return Ok(time(job, setup, prompts, stores, KvrouteSubject::decide));
    }
    Ok(with_subject!(
        kind,
        [ChainIndex, RadixTree, Crtc, DynamoTree],
        hash_and_find(job, setup, prompts, stores)
    ))
}

fn hash_and_find<S: Subject>(
    job: &Job,
    setup: &Setup,
    prompts: &[(Chain, usize)],
    stores: &[Change<'_>],
) -> f64 {
    time(job, setup, prompts, stores, |subject: &S, token_ids, scratch| {
        let query = subject.hash(token_ids, scratch);
        subject.find_once(query, scratch)
    })
}

fn time<S: Subject>(
    job: &Job,
    setup: &Setup,
    prompts: &[(Chain, usize)],
    stores: &[Change<'_>],
    act: impl Fn(&S, &[u32], &mut S::Scratch) -> usize,
) -> f64 {
    let mut subject = S::new(setup);
    apply(&mut subject, stores);
    let mut scratch = S::Scratch::default();
    per_item(prompts, job.passes, |(chain, _)| act(&subject, &chain.token_ids, &mut scratch))
}
