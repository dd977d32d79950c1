//! Hashing alone: most of what a decision costs.

use super::table::prompts;
use super::{Counts, Job, Report, Workload, lower};
use crate::measure::per_item;
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

/// Prompts of each length.
const LENGTHS: [(&str, usize, usize); 4] = [
    ("1k tokens", 1024, 1024),
    ("8k tokens", 8192, 256),
    ("32k tokens", 32_768, 64),
    ("128k tokens", 131_072, 64),
];
const BLOCK_SIZE: usize = 16;

/// All of a prompt's blocks.
pub(super) static HASH: Workload = Workload {
    name: "hash",
    what: "token ids to block hashes, blocks of 16 (kvroute: contents and chain; peers: contents alone)",
    subjects: &[Kind::Kvroute, Kind::ChainIndex, Kind::Crtc],
    measures: &[
        lower("1k tokens", "ns/block", None),
        lower("8k tokens", "ns/block", None),
        lower("32k tokens", "ns/block", None),
        lower("128k tokens", "ns/block", None),
    ],
    counts: Counts::Time,
    run: |kind, job, report| {
        with_subject!(kind, [Kvroute, ChainIndex, Crtc], run(job, report));
        Ok(())
    },
};

fn run<S: Subject>(job: &Job, report: &mut Report) {
    let setup =
        Setup { pods: 1, block_size: BLOCK_SIZE as u32, feed: Feed::Tokens, writers: 1, as_set: false };
    let (subject, mut scratch) = (S::new(&setup), S::Scratch::default());
    for (name, length, count) in LENGTHS {
        let prompts = prompts(job.seed, 1, length, count, BLOCK_SIZE);
        let hashed = |token_ids: &[u32], scratch: &mut S::Scratch| {
            std::hint::black_box(subject.hash(token_ids, scratch));
            1
        };
        let time = per_item(&prompts, job.passes, |(chain, _)| hashed(&chain.token_ids, &mut scratch));
        report.put(name, time * BLOCK_SIZE as f64 / length as f64);
    }
}
