//! Instructions, counted by callgrind: the same on a busy machine and on an idle one. A tree of 64 000 blocks, wholly
//! matched lookups of one length; and blocks stored and removed again one by one at the ends of chains.

use std::hint::black_box;

use kvroute_benches::Numbers;

use super::tree::{BLOCK_SIZE, PODS, chains, holdings};
use super::{Counts, Job, Workload, apply, lower};
use crate::change::{Chain, Change, stores};
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

/// Lookups a pass, or blocks that are stored and removed.
pub const COUNTED_ITEMS: usize = 192;
/// Passes of the longer one of the two runs that are compared.
pub const MOST_PASSES: usize = 11;

/// Chains of 64 blocks.
pub(super) static LOOKUP_64: Workload = Workload {
    name: "instructions-64",
    what: "a tree of 64 000 blocks on 32 pods: instructions of a wholly matched lookup of 64 blocks",
    subjects: &[Kind::Kvroute, Kind::ChainIndex, Kind::RadixTree, Kind::Crtc, Kind::DynamoTree],
    measures: &[lower("lookup", "instructions", Some(2.0))],
    counts: Counts::Instructions,
    run: |kind, job, _| lookups(kind, job, 64),
};

/// Chains of 512 blocks.
pub(super) static LOOKUP_512: Workload = Workload {
    name: "instructions-512",
    what: "the same for 512 blocks",
    run: |kind, job, _| lookups(kind, job, 512),
    ..LOOKUP_64
};

/// Chains of 4096 blocks.
pub(super) static LOOKUP_4096: Workload = Workload {
    name: "instructions-4096",
    what: "the same for 4096 blocks",
    run: |kind, job, _| lookups(kind, job, 4096),
    ..LOOKUP_64
};

/// Blocks at the ends of chains.
pub(super) static WRITE: Workload = Workload {
    name: "instructions-write",
    what: "instructions of storing a block at a chain's end, from tokens, and removing it: events of one block",
    measures: &[lower("store and remove", "instructions/block", Some(2.0))],
    run: |kind, job, _| {
        with_subject!(kind, [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree], write(job));
        Ok(())
    },
    ..LOOKUP_64
};

fn lookups(kind: Kind, job: &Job, length: usize) -> Result<(), String> {
    with_subject!(kind, [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree], look_up(job, length));
    Ok(())
}

fn filled<S: Subject>(holdings: &[(&Chain, usize)]) -> S {
    let feed = Feed::Tokens;
    let setup = Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: false };
    let mut subject = S::new(&setup);
    let all: Vec<_> =
        holdings.iter().flat_map(|&(chain, pod)| stores(pod, chain, 0..chain.len(), 512)).collect();
    apply(&mut subject, &all);
    subject
}

fn look_up<S: Subject>(job: &Job, length: usize) {
    let chains = chains(job.seed, 64_000);
    let subject: S = filled(&holdings(&chains, job.seed));
    let asked = chains.iter().map(|held| &held.chain).filter(|chain| chain.len() == length).cycle();
    let queries: Vec<_> = asked.take(COUNTED_ITEMS).map(|chain| subject.query(chain)).collect();
    let mut scratch = S::Scratch::default();
    for _ in 0..job.passes {
        for query in &queries {
            black_box(subject.find(black_box(query), &mut scratch));
        }
    }
}

fn write<S: Subject>(job: &Job) {
    let chains = chains(job.seed, 64_000);
    let holdings = holdings(&chains, job.seed);
    let mut subject: S = filled(&holdings);
    let mut numbers = Numbers::new(!job.seed);
    let ends: Vec<_> = holdings
        .iter()
        .filter(|(chain, _)| chain.len() <= 512)
        .take(COUNTED_ITEMS)
        .map(|&(chain, pod)| {
            let mut chain = chain.clone();
            chain.extend(&numbers.token_ids(BLOCK_SIZE));
            (chain, pod)
        })
        .collect();
    let last = |chain: &Chain| chain.len() - 1..chain.len();
    let stored: Vec<_> =
        ends.iter().map(|(chain, pod)| Change::Store { pod: *pod, chain, blocks: last(chain) }).collect();
    let removed: Vec<_> = ends
        .iter()
        .map(|(chain, pod)| Change::Remove { pod: *pod, hashes: chain.hashes[last(chain)].to_vec() })
        .collect();
    // As many are made whatever is asked for, so that making them is no part of the difference.
    let made = |changes: &[Change<'_>]| changes.iter().map(|change| subject.event(change)).collect();
    let passes: Vec<[Vec<S::Event>; 2]> = (0..MOST_PASSES).map(|_| [made(&stored), made(&removed)]).collect();
    for events in passes.into_iter().take(job.passes).flatten() {
        subject.apply(events);
    }
}
