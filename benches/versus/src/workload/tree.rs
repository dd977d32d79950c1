//! A fleet's prefix tree: 32 pods, 3.2 million blocks held, in chains of 64, 512 and 4096 blocks, a third each. A chain
//! is a quarter system prompt (8 a length), a quarter its tenant's (16 a prompt) and half its own; 1, 2 or 4 pods hold
//! it (50, 30 and 20 %).

use std::collections::HashSet;
use std::ops::Range;

use kvroute_benches::Numbers;

use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::{Chain, Change, removals, stores};
use crate::measure::{each_wall, per_item, quantile};
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

pub(super) const PODS: usize = 32;
pub(super) const BLOCK_SIZE: usize = 16;
const PROMPTS: usize = 8;
const TENANTS: usize = 16;
const QUERIES: usize = 512;
/// Chains that grow and shrink at their ends.
const DECODING: usize = 1024;
/// Blocks that each of them gets.
const DECODED: usize = 32;

const MEASURES: &[Measure] = &[
    lower("store 512", "ns/block", Some(2.0)),
    lower("lookup 64 full", "ns", Some(2.0)),
    lower("lookup 64 half", "ns", Some(2.0)),
    lower("lookup 64 miss", "ns", None),
    lower("lookup 512 full", "ns", Some(2.0)),
    lower("lookup 512 half", "ns", Some(2.0)),
    lower("lookup 512 miss", "ns", None),
    lower("lookup 4096 full", "ns", Some(2.0)),
    lower("lookup 4096 half", "ns", Some(2.0)),
    lower("lookup 4096 miss", "ns", None),
    lower("lookup p99, wall", "ns", None),
    lower("store 1", "ns/block", Some(2.0)),
    lower("remove 1", "ns/block", Some(2.0)),
    lower("store 32", "ns/block", Some(2.0)),
    lower("remove 32", "ns/block", Some(2.0)),
    lower("remove all", "ns/block", Some(2.0)),
];

/// From tokens.
pub(super) static TOKENS: Workload = Workload {
    name: "tree",
    what: "3.2 M blocks held by 32 pods, chains of 64, 512 and 4096 blocks: store, look up, remove",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| run_for(kind, job, report, Feed::Tokens),
};

/// From hashes.
pub(super) static HASHES: Workload = Workload {
    name: "tree-hashes",
    what: "the same, contents hashed before and engine hashes that requests compute, too",
    run: |kind, job, report| run_for(kind, job, report, Feed::Hashes),
    ..TOKENS
};

fn run_for(kind: Kind, job: &Job, report: &mut Report, feed: Feed) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        run(job, report, feed)
    );
    Ok(())
}

/// A chain, where its parts begin, and who holds it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) chain: Chain,
    pub(super) pods: Vec<usize>,
}

/// The tree's chains: about so many blocks held.
pub(super) fn chains(seed: u64, blocks: usize) -> Vec<Held> {
    let mut numbers = Numbers::new(seed);
    let mut all = Vec::new();
    for length in [64, 512, 4096] {
        let quarter = length / 4 * BLOCK_SIZE;
        let prompts: Vec<_> = (0..PROMPTS).map(|_| numbers.token_ids(quarter)).collect();
        let tenants: Vec<_> = (0..PROMPTS * TENANTS)
            .map(|tenant| {
                let mut prefix = Chain::new(prompts[tenant / TENANTS].clone(), BLOCK_SIZE);
                prefix.extend(&numbers.token_ids(quarter));
                prefix
            })
            .collect();
        let mut held = 0;
        while held < blocks / 3 {
            let mut chain = tenants[numbers.below(tenants.len() as u64) as usize].clone();
            chain.extend(&numbers.token_ids(2 * quarter));
            let copies = match numbers.below(10) {
                0..5 => 1,
                5..8 => 2,
                _ => 4,
            };
            let first = numbers.below(PODS as u64) as usize;
            // Steps that meet no pod twice.
            let pods: Vec<_> = (0..copies).map(|n| (first + n * 9) % PODS).collect();
            held += length * copies;
            all.push(Held { chain, pods });
        }
    }
    all
}

/// Each chain with each of its pods, in no order.
pub(super) fn holdings(chains: &[Held], seed: u64) -> Vec<(&Chain, usize)> {
    let pairs = chains.iter().flat_map(|held| held.pods.iter().map(|&pod| (&held.chain, pod)));
    let mut pairs: Vec<_> = pairs.collect();
    let mut numbers = Numbers::new(seed);
    for i in (1..pairs.len()).rev() {
        pairs.swap(i, numbers.below(i as u64 + 1) as usize);
    }
    pairs
}

/// Every block of every pod, once, what follows before what it follows.
pub(super) fn all_removals<'a>(holdings: &[(&'a Chain, usize)]) -> Vec<Change<'a>> {
    let parts: [fn(usize) -> Range<usize>; 3] = [|n| n / 2..n, |n| n / 4..n / 2, |n| 0..n / 4];
    let (mut seen, mut changes) = (HashSet::new(), Vec::new());
    for part in parts {
        for &(chain, pod) in holdings {
            let blocks = part(chain.len());
            if seen.insert((pod, chain.hashes[blocks.end - 1])) {
                changes.extend(removals(pod, chain, blocks, 16));
            }
        }
    }
    changes
}

fn run<S: Subject>(job: &Job, report: &mut Report, feed: Feed) {
    let setup = Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: false };
    let chains = chains(job.seed, job.size(3_200_000, 320_000));
    let holdings = holdings(&chains, job.seed);
    let mut subject = S::new(&setup);
    let all: Vec<_> =
        holdings.iter().flat_map(|&(chain, pod)| stores(pod, chain, 0..chain.len(), 512)).collect();
    report.put("store 512", apply(&mut subject, &all));
    drop(all);

    look_up(job, report, &subject, &chains);

    let ends = ends(job.seed, &holdings);
    let blocks = |chain: &Chain| chain.len() - DECODED..chain.len();
    let one_by_one: Vec<_> = (0..DECODED)
        .flat_map(|n| {
            ends.iter().map(move |(chain, pod)| {
                let at = blocks(chain).start + n;
                Change::Store { pod: *pod, chain, blocks: at..at + 1 }
            })
        })
        .collect();
    report.put("store 1", apply(&mut subject, &one_by_one));
    let backwards: Vec<_> = (1..=DECODED)
        .flat_map(|n| {
            ends.iter().map(move |(chain, pod)| Change::Remove {
                pod: *pod,
                hashes: vec![chain.hashes[chain.len() - n]],
            })
        })
        .collect();
    report.put("remove 1", apply(&mut subject, &backwards));
    let at_once: Vec<_> =
        ends.iter().map(|(chain, pod)| Change::Store { pod: *pod, chain, blocks: blocks(chain) }).collect();
    report.put("store 32", apply(&mut subject, &at_once));
    let removed: Vec<_> =
        ends.iter().flat_map(|(chain, pod)| removals(*pod, chain, blocks(chain), 32)).collect();
    report.put("remove 32", apply(&mut subject, &removed));
    report.put("remove all", apply(&mut subject, &all_removals(&holdings)));
}

/// Chains that are held, each with new blocks at its end, none the same.
fn ends(seed: u64, holdings: &[(&Chain, usize)]) -> Vec<(Chain, usize)> {
    let mut numbers = Numbers::new(seed ^ 5);
    let short = holdings.iter().filter(|(chain, _)| chain.len() <= 512);
    short
        .take(DECODING)
        .map(|&(chain, pod)| {
            let mut chain = chain.clone();
            chain.extend(&numbers.token_ids(DECODED * BLOCK_SIZE));
            (chain, pod)
        })
        .collect()
}

fn look_up<S: Subject>(job: &Job, report: &mut Report, subject: &S, chains: &[Held]) {
    let mut numbers = Numbers::new(!job.seed);
    let mut scratch = S::Scratch::default();
    let mut mixed = Vec::new();
    for length in [64, 512, 4096] {
        let known: Vec<_> =
            chains.iter().map(|held| &held.chain).filter(|chain| chain.len() == length).collect();
        let mut queries = |kept: usize| -> Vec<_> {
            (0..QUERIES)
                .map(|_| {
                    let chain = known[numbers.below(known.len() as u64) as usize];
                    let mut asked = Chain::new(chain.tokens(0..kept).to_vec(), BLOCK_SIZE);
                    asked.extend(&numbers.token_ids((length - kept) * BLOCK_SIZE));
                    subject.query(&asked)
                })
                .collect()
        };
        for (name, kept) in [("full", length), ("half", length / 2), ("miss", 0)] {
            let queries = queries(kept);
            let time = per_item(&queries, job.passes, |query| subject.find(query, &mut scratch));
            report.put(&format!("lookup {length} {name}"), time);
            if name == "full" {
                mixed.extend(queries);
            }
        }
    }
    let walls = each_wall(&mixed, |query| subject.find(query, &mut scratch));
    report.put("lookup p99, wall", quantile(&walls, 0.99));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::OracleSubject;

    #[test]
    fn removing_all_leaves_nothing_and_names_each_block_once() {
        let chains = chains(1, 30_000);
        let holdings = holdings(&chains, 1);
        let setup = Setup { pods: PODS, block_size: 16, feed: Feed::Tokens, writers: 1, as_set: false };
        let mut oracle = OracleSubject::new(&setup);
        let stored: Vec<_> =
            holdings.iter().flat_map(|&(chain, pod)| stores(pod, chain, 0..chain.len(), 512)).collect();
        apply(&mut oracle, &stored);
        let held = oracle.blocks();
        let removed = all_removals(&holdings);
        assert_eq!(removed.iter().map(Change::blocks).sum::<usize>(), held);
        apply(&mut oracle, &removed);
        assert_eq!(oracle.blocks(), 0);
    }
}
