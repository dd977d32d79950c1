//! Published bytes into the index: decoding, hashing, applying.

use kvroute_benches::{PODS, prompts, published};

use super::{Counts, Job, Measure, Report, Workload, lower};
use crate::subject::{Feed, Kind, Setup, Wire};
use crate::with_subject;

const MEASURES: &[Measure] = &[lower("512-block batches", "ns/block", Some(2.0))];

/// From tokens.
pub(super) static TOKENS: Workload = Workload {
    name: "raw",
    what: "batches as vLLM publishes them (msgpack), 2048 prompts of 8k tokens: bytes to index",
    subjects: &[Kind::Kvroute, Kind::Crtc, Kind::DynamoTree],
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| run_for(kind, job, report, Feed::Tokens),
};

/// From hashes.
pub(super) static HASHES: Workload = Workload {
    name: "raw-hashes",
    what: "the same where engine hashes are those that requests compute; Dynamo hashes tokens all the same",
    run: |kind, job, report| run_for(kind, job, report, Feed::Hashes),
    ..TOKENS
};

fn run_for(kind: Kind, job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    with_subject!(kind, [Kvroute, Crtc, DynamoTree], run(job, report, feed))
}

fn run<S: Wire>(job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    let setup = Setup { pods: PODS, block_size: 16, feed, writers: 1, as_set: false };
    let prompts = prompts(8192, job.size(2048, 256)).map_err(|error| error.to_string())?;
    let blocks: usize = prompts.iter().map(|prompt| prompt.blocks.len()).sum();
    let mut numbers = [0; PODS];
    let batches: Vec<_> = prompts
        .iter()
        .map(|prompt| {
            numbers[prompt.pod] += 1;
            (prompt.pod, numbers[prompt.pod] - 1, published(prompt))
        })
        .collect();
    let mut subject = S::new(&setup);
    report.put("512-block batches", subject.apply_published(&batches).as_nanos() as f64 / blocks as f64);
    Ok(())
}
