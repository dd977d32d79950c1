//! Published bytes into the index: decoding, hashing, applying.

use std::ops::Range;

use kvroute_benches::{PODS, Prompt, prompts, published_blocks};

use super::{Counts, Job, Measure, Report, Workload, lower};
use crate::subject::{Feed, Kind, Setup, Wire};
use crate::with_subject;

const MEASURES: &[Measure] =
    &[lower("480-block batches", "ns/block", Some(2.0)), lower("1-block batches", "ns/block", Some(2.0))];

/// Blocks of a prompt that come in one batch; the rest come one by one, all prompts in turn.
const AT_ONCE: usize = 480;
/// Blocks of a prompt.
const BLOCKS: usize = 512;

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
    let prompts = prompts(BLOCKS * 16, job.size(2048, 256)).map_err(|error| error.to_string())?;
    let mut numbers = [0; PODS];
    let mut batches = |blocks: Range<usize>| -> Vec<_> {
        let batch = |prompt: &Prompt| {
            numbers[prompt.pod] += 1;
            (prompt.pod, numbers[prompt.pod] - 1, published_blocks(prompt, blocks.clone()))
        };
        prompts.iter().map(batch).collect()
    };
    let at_once = batches(0..AT_ONCE);
    let one_by_one: Vec<_> = (AT_ONCE..BLOCKS).flat_map(|n| batches(n..n + 1)).collect();
    let mut subject = S::new(&setup);
    let time = subject.apply_published(&at_once).as_nanos() as f64;
    report.put("480-block batches", time / (at_once.len() * AT_ONCE) as f64);
    let time = subject.apply_published(&one_by_one).as_nanos() as f64;
    report.put("1-block batches", time / one_by_one.len() as f64);
    Ok(())
}
