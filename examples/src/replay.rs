//! Replaying a capture: every batch through decode and apply, every query asked, every answer compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kvroute_core::index::{
    ApplyReport, BlockIndex, CopyPolicy, GapPolicy, MatchTable, Outcome, PodId, PodOptions, ResyncReason,
};
use kvroute_core::{BlockHash, CacheDomain};
use serde::Serialize;

use crate::capture::{Answer, Capture, Item, Mode, Query, Result};

/// How a capture is replayed.
#[derive(Clone, Copy, Debug)]
pub struct ReplayOptions {
    /// How the index knows blocks.
    pub mode: Mode,
    /// What a store means of a block that the pod holds already.
    pub copies: CopyPolicy,
}

/// What a replay found. Its JSON form is the last line that `cargo replay` prints.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Queries asked.
    pub queries: u64,
    /// Answers compared: one a query and pod.
    pub answers: u64,
    /// Answers equal to the engine's.
    pub exact: u64,
    /// Answers above the engine's.
    pub over: u64,
    /// Answers below the engine's.
    pub under: u64,
    /// Batches applied.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Blocks those stored or removed.
    pub blocks: u64,
    /// Blocks a second and core: raw bytes in, index changed, nothing else timed.
    pub blocks_per_second: f64,
    /// Answers with a hit.
    #[serde(skip)]
    pub hits: u64,
    /// Gaps that the capture could not fill.
    #[serde(skip)]
    pub lost: u64,
    /// The answers that differ.
    #[serde(skip)]
    pub differences: Vec<Difference>,
}

/// An answer that differs from the engine's.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The query's name.
    pub query: String,
    /// The pod's name.
    pub pod: String,
    /// Tokens the index says: with the cut before the last token, and without.
    pub index: (u32, u32),
    /// What the engine said.
    pub engine: Answer,
}

/// Replays `capture` and compares every answer.
///
/// # Errors
///
/// A pod whose hashes cannot be reproduced (native mode), or a query that cannot be hashed.
pub fn replay(capture: &Capture, options: ReplayOptions) -> Result<Summary> {
    let mut replay = Replay::new(capture, options)?;
    for (at, item) in capture.items.iter().enumerate() {
        match item {
            Item::Batch { pod, sequence, payload } => replay.batch(at, *pod, *sequence, payload)?,
            Item::Query(query) => replay.query(query)?,
        }
    }
    let mut summary = replay.summary;
    summary.blocks_per_second = summary.blocks as f64 / replay.apply_time.as_secs_f64().max(1e-9);
    Ok(summary)
}

/// What the replay sockets could serve: the batches that each engine published, wherever they stand in the
/// capture. (Engines keep the last 10 000; captures are not that long between a loss and its discovery.)
struct Recorded<'a> {
    engines: Vec<Engine<'a>>,
    /// Which engine published the item at this place.
    engine_at: Vec<usize>,
}

/// A pod's engine from one start to the next.
#[derive(Default)]
struct Engine<'a> {
    batches: HashMap<u64, &'a [u8]>,
    /// The greatest number met in the replay so far.
    newest: u64,
}

impl<'a> Recorded<'a> {
    /// A number that comes again with other bytes is that of a restarted engine.
    fn new(capture: &'a Capture) -> Self {
        let mut engines: Vec<_> = capture.pods.iter().map(|_| Engine::default()).collect();
        let mut running: Vec<_> = (0..engines.len()).collect();
        let mut engine_at = Vec::with_capacity(capture.items.len());
        for item in &capture.items {
            let Item::Batch { pod, sequence, payload } = item else {
                engine_at.push(usize::MAX);
                continue;
            };
            let known = engines[running[*pod]].batches.get(sequence);
            if known.is_some_and(|known| known != payload) {
                running[*pod] = engines.len();
                engines.push(Engine::default());
            }
            engines[running[*pod]].batches.insert(*sequence, payload);
            engine_at.push(running[*pod]);
        }
        Self { engines, engine_at }
    }
}

struct Replay<'a> {
    capture: &'a Capture,
    index: BlockIndex,
    pods: Vec<PodId>,
    domains: Vec<Arc<CacheDomain>>,
    recorded: Recorded<'a>,
    table: MatchTable,
    hashes: Vec<BlockHash>,
    apply_time: Duration,
    summary: Summary,
}

impl<'a> Replay<'a> {
    fn new(capture: &'a Capture, options: ReplayOptions) -> Result<Self> {
        let index = BlockIndex::default();
        let domains = capture.pods.iter().map(|pod| pod.domain(options.mode)).collect::<Result<Vec<_>>>()?;
        let pod_options =
            PodOptions { copies: options.copies, on_gap: GapPolicy::Replay, ..PodOptions::default() };
        let pods =
            domains.iter().map(|domain| index.add_pod(Arc::clone(domain), pod_options.clone())).collect();
        Ok(Self {
            capture,
            index,
            pods,
            domains,
            recorded: Recorded::new(capture),
            table: MatchTable::default(),
            hashes: Vec::new(),
            apply_time: Duration::ZERO,
            summary: Summary::default(),
        })
    }

    fn batch(&mut self, at: usize, pod: usize, sequence: u64, payload: &[u8]) -> Result<()> {
        let engine = self.recorded.engine_at[at];
        let newest = &mut self.recorded.engines[engine].newest;
        *newest = sequence.max(*newest);
        let newest = *newest;
        let from = match self.apply(pod, sequence, payload)?.outcome {
            Outcome::NeedsResync(ResyncReason::Gap { replay_from }) => replay_from,
            Outcome::NeedsResync(ResyncReason::Restarted) => 0,
            _ => return Ok(()),
        };
        // What a subscriber would now ask the engine's replay socket for, up to what was published so
        // far: from the last applied batch on or, once other bytes there tell of a restart, from the
        // start.
        let (mut number, mut from_start) = (from, from == 0);
        while number <= newest {
            let recorded = self.recorded.engines[engine].batches.get(&number).copied();
            let outcome = match recorded {
                Some(payload) => Some(self.apply(pod, number, payload)?.outcome),
                None => None,
            };
            match outcome {
                Some(Outcome::NeedsResync(ResyncReason::Restarted)) if !from_start => {
                    (number, from_start) = (0, true);
                }
                // Lost for good: nobody has it, or what came before it.
                None | Some(Outcome::NeedsResync(ResyncReason::Gap { .. } | ResyncReason::Restarted)) => {
                    self.summary.lost += 1;
                    self.index.abandon_gap(self.pods[pod], sequence)?;
                    self.apply(pod, sequence, payload)?;
                    break;
                }
                Some(_) => number += 1,
            }
        }
        Ok(())
    }

    fn apply(&mut self, pod: usize, sequence: u64, payload: &[u8]) -> Result<ApplyReport> {
        let start = Instant::now();
        let report = self.index.apply_batch(self.pods[pod], sequence, payload)?;
        self.apply_time += start.elapsed();
        self.summary.batches += u64::from(report.events > 0);
        self.summary.events += report.events;
        self.summary.blocks += report.blocks_stored + report.blocks_removed;
        Ok(report)
    }

    fn query(&mut self, query: &Query) -> Result<()> {
        self.summary.queries += 1;
        for answer in &query.answers {
            let index = (self.ask(answer.pod, query, true)?, self.ask(answer.pod, query, false)?);
            self.summary.answers += 1;
            self.summary.hits += u64::from(answer.cached > 0);
            let pairs = [(index.0, Some(answer.cached)), (index.1, answer.full)];
            let known = || pairs.iter().filter_map(|&(ours, theirs)| Some((ours, theirs?)));
            if known().all(|(ours, theirs)| ours == theirs) {
                self.summary.exact += 1;
                continue;
            }
            if known().any(|(ours, theirs)| ours > theirs) {
                self.summary.over += 1;
            } else {
                self.summary.under += 1;
            }
            self.summary.differences.push(Difference {
                query: query.name.clone(),
                pod: self.capture.pods[answer.pod].name.clone(),
                index,
                engine: answer.clone(),
            });
        }
        Ok(())
    }

    /// Tokens of the prompt the index says the pod has.
    fn ask(&mut self, pod: usize, query: &Query, cut: bool) -> Result<u32> {
        let domain = &self.domains[pod];
        domain.hasher().hash_into(&query.token_ids, &query.context, &mut self.hashes)?;
        let most = if cut { domain.searchable_blocks(query.token_ids.len()) } else { self.hashes.len() };
        let blocks = &self.hashes[..most.min(self.hashes.len())];
        self.index.lookup(domain, blocks, &mut self.table);
        Ok(self.table.blocks(self.pods[pod]).total() * domain.block_size())
    }
}
