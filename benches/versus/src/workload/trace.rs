//! Requests that a service really got (Mooncake's conversations), served by simulated engines: each request is looked up,
//! then its engine evicts what is oldest and stores what is new.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::GzDecoder;
use kvroute_benches::Numbers;
use serde::Deserialize;

use super::{Counts, Job, Measure, Report, Workload, apply, lower};
use crate::change::{Chain, Change};
use crate::measure::quantile;
use crate::subject::{Feed, Kind, Setup, Subject};
use crate::with_subject;

pub(super) const PODS: usize = 16;
/// Tokens that one id of a trace stands for.
const CHUNK: usize = 512;
/// Blocks of an engine's cache.
const CAPACITY: usize = 16_384;
pub(super) const BLOCK_SIZE: usize = 16;
/// Blocks of an event at most: what a scheduler's step computes.
const STEP: usize = 512;

/// The committed part of a trace, from the repository's root.
const COMMITTED: &str = "testdata/traces/mooncake-conversation-2000.jsonl.gz";

const MEASURES: &[Measure] = &[
    lower("query mean, wall", "ns", Some(2.0)),
    lower("query p50, wall", "ns", Some(2.0)),
    lower("query p99, wall", "ns", None),
    lower("store", "ns/block", Some(2.0)),
    lower("remove", "ns/block", Some(2.0)),
];

/// The oldest blocks go first, of a prompt its last.
pub(super) static TAILS: Workload = Workload {
    name: "trace",
    what: "Mooncake's conversations on 16 engines of 16 384 blocks of 16 tokens, oldest evicted, tails first",
    subjects: &Kind::ALL,
    measures: MEASURES,
    counts: Counts::Time,
    run: |kind, job, report| run_for(kind, job, report, Eviction::Tails),
};

/// Any block goes.
pub(super) static RANDOM: Workload = Workload {
    name: "trace-random",
    what: "the same with blocks evicted at random, so that there are holes",
    run: |kind, job, report| run_for(kind, job, report, Eviction::Random),
    ..TAILS
};

/// A line of a trace, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line {
    input_length: usize,
    hash_ids: Vec<u64>,
}

/// A prompt: its length in tokens, and what stands for each 512 of them.
#[derive(Debug)]
pub(super) struct Prompt {
    tokens: usize,
    ids: Vec<u64>,
}

impl Prompt {
    /// Its whole blocks. Equal ids at one place are equal tokens.
    pub(super) fn chain(&self, block_size: usize) -> Chain {
        let chunks = self.ids.iter().flat_map(|&id| Numbers::new(id).token_ids(CHUNK));
        Chain::new(chunks.take(self.tokens).collect(), block_size)
    }
}

/// The requests of the trace, or of the first part of it that is committed.
pub(super) fn prompts(job: &Job) -> Result<Vec<Prompt>, String> {
    // `cargo versus` runs in the root; its tests do not, and it may be carried to a machine without the sources.
    let here = PathBuf::from(COMMITTED);
    let committed = if here.exists() {
        here
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(COMMITTED)
    };
    let path = job.trace.as_ref().unwrap_or(&committed);
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| fault(&error))?;
    let is_packed = path.extension().is_some_and(|extension| extension == "gz");
    let bytes: Box<dyn Read> = if is_packed { Box::new(GzDecoder::new(file)) } else { Box::new(file) };
    let most = job.size(usize::MAX, 400);
    let lines = BufReader::new(bytes).lines().take(most).map(|line| {
        let line: Line =
            serde_json::from_str(&line.map_err(|error| fault(&error))?).map_err(|error| fault(&error))?;
        Ok(Prompt { tokens: line.input_length, ids: line.hash_ids })
    });
    lines.collect()
}

/// Which block goes first, of those that were used last at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eviction {
    /// The last of a prompt, as vLLM and SGLang do.
    Tails,
    /// The first of a prompt.
    Heads,
    /// Any, whenever it was used.
    Random,
}

/// An engine's cache.
#[derive(Debug)]
pub(super) struct Engine {
    /// Block -> its place in `order`.
    held: HashMap<u64, (u64, u64)>,
    /// What goes first -> block.
    order: BTreeMap<(u64, u64), u64>,
    capacity: usize,
    eviction: Eviction,
    numbers: Numbers,
    now: u64,
    /// Work it was given lately, blocks.
    load: f64,
}

impl Engine {
    pub(super) fn new(capacity: usize, eviction: Eviction, seed: u64) -> Self {
        Self {
            held: HashMap::new(),
            order: BTreeMap::new(),
            capacity,
            eviction,
            numbers: Numbers::new(seed),
            now: 0,
            load: 0.0,
        }
    }

    /// Blocks it has.
    pub(super) fn blocks(&self) -> usize {
        self.held.len()
    }

    /// Leading blocks of the chain it has.
    fn matched(&self, chain: &Chain) -> usize {
        chain.hashes.iter().take_while(|hash| self.held.contains_key(hash)).count()
    }

    /// Serves a prompt: evicts, and stores everything after what it had of it.
    pub(super) fn serve<'a>(&mut self, pod: usize, chain: &'a Chain) -> (Vec<Change<'a>>, Vec<Change<'a>>) {
        self.now += 1;
        let matched = self.matched(chain);
        for (i, &hash) in chain.hashes.iter().enumerate() {
            let place = match self.eviction {
                Eviction::Tails => (self.now, (chain.len() - i) as u64),
                Eviction::Heads => (self.now, i as u64),
                Eviction::Random => (self.numbers.below(u64::MAX), hash),
            };
            if let Some(old) = self.held.insert(hash, place) {
                self.order.remove(&old);
            }
            self.order.insert(place, hash);
        }
        let mine: std::collections::HashSet<u64> = chain.hashes.iter().copied().collect();
        let surplus = self.held.len().saturating_sub(self.capacity);
        let others = self.order.iter().filter(|(_, hash)| !mine.contains(hash));
        let evicted: Vec<_> = others.map(|(&place, &hash)| (place, hash)).take(surplus).collect();
        for (place, hash) in &evicted {
            self.order.remove(place);
            self.held.remove(hash);
        }
        let hashes: Vec<u64> = evicted.into_iter().map(|(_, hash)| hash).collect();
        let removed =
            hashes.chunks(STEP).map(|piece| Change::Remove { pod, hashes: piece.to_vec() }).collect();
        (removed, crate::change::stores(pod, chain, matched..chain.len(), STEP).collect())
    }
}

/// Where a prompt goes: much of it cached, little work.
pub(super) fn place(engines: &mut [Engine], chain: &Chain) -> usize {
    let value = |engine: &Engine| engine.matched(chain) as f64 - engine.load;
    let best = engines.iter().map(value).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let pod = best.map_or(0, |(pod, _)| pod);
    let new = chain.len() - engines[pod].matched(chain);
    engines.iter_mut().for_each(|engine| engine.load *= 0.9);
    engines[pod].load += new as f64;
    pod
}

/// The engines of the replay.
pub(super) fn engines(job: &Job, eviction: Eviction) -> Vec<Engine> {
    (0..PODS).map(|pod| Engine::new(CAPACITY, eviction, job.seed ^ pod as u64)).collect()
}

fn run_for(kind: Kind, job: &Job, report: &mut Report, eviction: Eviction) -> Result<(), String> {
    with_subject!(
        kind,
        [Kvroute, ChainIndex, RadixTree, Crtc, DynamoTree, Dashmap, Oracle],
        run(job, report, eviction)
    )
}

fn run<S: Subject>(job: &Job, report: &mut Report, eviction: Eviction) -> Result<(), String> {
    let feed = Feed::Tokens;
    let setup = Setup { pods: PODS, block_size: BLOCK_SIZE as u32, feed, writers: 1, as_set: false };
    let mut engines = engines(job, eviction);
    let (mut subject, mut scratch) = (S::new(&setup), S::Scratch::default());
    let (mut queries, mut stored, mut removed) = (Vec::new(), (0.0, 0), (0.0, 0));
    for prompt in prompts(job)? {
        let chain = prompt.chain(BLOCK_SIZE);
        let query = subject.query(&chain);
        let start = Instant::now();
        std::hint::black_box(subject.find(&query, &mut scratch));
        queries.push(start.elapsed().as_nanos() as f64);
        let pod = place(&mut engines, &chain);
        let (removals, stores) = engines[pod].serve(pod, &chain);
        for (changes, sum) in [(removals, &mut removed), (stores, &mut stored)] {
            let blocks: usize = changes.iter().map(Change::blocks).sum();
            if blocks > 0 {
                sum.0 += apply(&mut subject, &changes) * blocks as f64;
                sum.1 += blocks;
            }
        }
    }
    report.put("query mean, wall", queries.iter().sum::<f64>() / queries.len() as f64);
    queries.sort_unstable_by(f64::total_cmp);
    report.put("query p50, wall", quantile(&queries, 0.5));
    report.put("query p99, wall", quantile(&queries, 0.99));
    report.put("store", stored.0 / stored.1.max(1) as f64);
    report.put("remove", removed.0 / removed.1.max(1) as f64);
    Ok(())
}
