//! What this router itself sent to a pod: the tier *predicted* of the same index.
//!
//! A request's blocks will be in the cache of the pod that computes it. Until the pod's events say so, and for
//! pods without events, that is predicted: each pod has one lane more for it, in the same forest of runs.
//!
//! The lane holds at most `capacity` blocks; the least recently used go first. Recency is exact to the
//! block, with the head of a prompt counted as used after its tail, so that what is left is always a set of
//! whole prefixes. Yet it costs a few words a *run*: of each run the lane holds leading blocks only, and uses
//! reach from its first block to some offset, so a run's recency is a staircase of (offset, time of use),
//! one step for each offset where prompts part.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use hashbrown::HashMap;

use super::chains::{Chains, LaneRuns};
use super::run::RunId;
use super::snapshot::Pieces;
use serde::Serialize;

use crate::BlockHash;
use crate::frame::FrameWriter;

/// How often blocks are dropped to make room for a prompt's.
const ROUNDS_FOR_ROOM: u32 = 3;

/// What is predicted for a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PredictedCounts {
    /// Blocks predicted now.
    pub blocks: usize,
    /// Blocks that were not, because the index was at its memory bound.
    pub refused: u64,
}

/// Names what one request's prediction added, so that it can be taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Times of use given to its runs, deepest first.
    oldest: u64,
    /// Time given to the run where new blocks begin.
    fresh: u64,
    /// Offset in that run.
    fresh_offset: usize,
}

#[derive(Debug)]
struct Step {
    /// Blocks before this offset were used at `time` or later.
    end: usize,
    time: u64,
}

#[derive(Debug)]
pub(super) struct Predictions {
    capacity: usize,
    /// Its column of the index, once it has one.
    pub(super) lane: Option<u32>,
    blocks: usize,
    /// Time of the last use.
    now: u64,
    /// Run -> its staircase, farthest and oldest step first.
    runs: HashMap<u32, Vec<Step>>,
    /// Time of use -> the run with a step of that time.
    uses: BTreeMap<u64, u32>,
    /// Blocks there was no room for.
    refused: u64,
}

/// The runs a prompt leads through, and up to which offset.
#[derive(Default)]
pub(super) struct Path {
    pub(super) runs: Vec<(u32, usize)>,
    /// Number of blocks the lane holds now.
    pub(super) held: usize,
}

impl LaneRuns for Path {
    const ANNOUNCED: bool = false;
    const LEAVES_ROOM: bool = true;

    fn entered(&mut self, _run: RunId) {}

    fn left(&mut self, _run: RunId) {}

    fn covered(&mut self, run: RunId, part: Range<usize>) {
        match self.runs.last_mut() {
            Some(last) if last.0 == run.0 => last.1 = part.end,
            _ => self.runs.push((run.0, part.end)),
        }
    }
}

impl Predictions {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            lane: None,
            blocks: 0,
            now: 0,
            runs: HashMap::new(),
            uses: BTreeMap::new(),
            refused: 0,
        }
    }

    /// Blocks predicted now, and those there was no room for.
    pub(super) fn counts(&self) -> PredictedCounts {
        PredictedCounts { blocks: self.blocks, refused: self.refused }
    }

    /// Bytes allocated; those of the tree are estimated.
    pub(super) fn bytes(&self) -> usize {
        let steps: usize = self.runs.values().map(|steps| steps.capacity() * size_of::<Step>()).sum();
        self.runs.allocation_size() + steps + self.uses.len() * 2 * size_of::<(u64, u32)>()
    }

    /// Notes that a prompt of these blocks was sent to the pod; `[n]`, of which the first `capacity` count. Their
    /// keys are the hashes xored with `salt`.
    pub(super) fn record(
        &mut self,
        chains: &Chains,
        lane: u32,
        blocks: &[BlockHash],
        salt: u64,
    ) -> Prediction {
        let counted = &blocks[..blocks.len().min(self.capacity)];
        let keys: Vec<u64> = counted.iter().map(|block| block.0 ^ salt).collect();
        let mut held_before = 0;
        let mut path = self.store(chains, lane, &keys, &mut held_before);
        let mut prediction = self.use_path(&path, held_before);
        // At the index's bound, what was used longest ago makes room. The bound counts bytes, and tables grow in
        // steps, so as many blocks as are missing may be too few.
        let mut more = keys.len() - path.held;
        for _ in 0..ROUNDS_FOR_ROOM {
            if path.held == keys.len() || self.blocks == path.held {
                break;
            }
            self.shrink_to(chains, lane, self.blocks.saturating_sub(more).max(path.held));
            path = self.store(chains, lane, &keys, &mut 0);
            prediction = self.use_path(&path, held_before);
            more *= 2;
        }
        self.refused += (keys.len() - path.held) as u64;
        self.shrink_to(chains, lane, self.capacity);
        prediction
    }

    fn store(&mut self, chains: &Chains, lane: u32, keys: &[u64], held_before: &mut usize) -> Path {
        let mut path = Path::default();
        path.held = chains.store(lane, None, keys, &mut path, |_| *held_before += 1).held;
        self.blocks += path.held - *held_before;
        path
    }

    /// Marks a path as used now, its head last; what comes after `held_before` blocks is new.
    fn use_path(&mut self, path: &Path, held_before: usize) -> Prediction {
        if path.runs.is_empty() {
            return Prediction::default();
        }
        let oldest = self.now + 1;
        self.now += path.runs.len() as u64;
        let mut prediction = Prediction { oldest, fresh: self.now, fresh_offset: 0 };
        let (mut time, mut before) = (self.now, 0);
        for &(run, end) in &path.runs {
            if (before..=before + end).contains(&held_before) {
                (prediction.fresh, prediction.fresh_offset) = (time, held_before - before);
            }
            self.touch(run, end, time);
            before += end;
            time -= 1;
        }
        prediction
    }

    /// Drops the blocks used longest ago until no more than `most` are left.
    fn shrink_to(&mut self, chains: &Chains, lane: u32, most: usize) {
        while self.blocks > most {
            let Some((&time, &run)) = self.uses.first_key_value() else { return };
            let surplus = self.blocks - most;
            let end = self.runs.get(&run).and_then(|steps| steps.first()).map_or(0, |step| step.end);
            self.cut(chains, lane, run, time, |nearer| nearer.max(end.saturating_sub(surplus)));
        }
    }

    /// Takes back what a prediction added, but for what was predicted again since.
    pub(super) fn revoke(&mut self, chains: &Chains, prediction: Prediction) {
        let Some(lane) = self.lane else { return };
        let added: Vec<_> =
            self.uses.range(prediction.oldest..=prediction.fresh).map(|(&time, &run)| (time, run)).collect();
        for (time, run) in added {
            let first = if time == prediction.fresh { prediction.fresh_offset } else { 0 };
            self.cut(chains, lane, run, time, |steps_end| steps_end.max(first));
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self, chains: &Chains) {
        if let Some(lane) = self.lane {
            for &run in self.runs.keys() {
                chains.remove_run(lane, RunId(run));
            }
        }
        self.runs = HashMap::new();
        self.uses = BTreeMap::new();
        self.blocks = 0;
    }

    /// Uses of its runs, oldest first: up to which offset.
    pub(super) fn uses(&self) -> impl Iterator<Item = (RunId, usize)> {
        self.uses.iter().filter_map(|(time, run)| {
            let step = self.runs.get(run)?.iter().find(|step| step.time == *time)?;
            Some((RunId(*run), step.end))
        })
    }

    /// Writes what is predicted: what was refused (0 first), then every use, oldest first: a piece, counted from 1,
    /// and up to which offset. A run of several pieces is used from the last one on, like the runs of a prompt.
    pub(super) fn save(&self, pieces: &Pieces, frames: &mut FrameWriter) {
        if self.refused > 0 {
            frames.number(0);
            frames.number(self.refused);
        }
        let mut parts = Vec::new();
        for (run, end) in self.uses() {
            pieces.split(run, 0..end, |piece, part| parts.push((piece, part.end)));
            for (piece, end) in parts.drain(..).rev() {
                frames.number(u64::from(piece) + 1);
                frames.number(end as u64);
                frames.next_record();
            }
        }
    }

    /// Whether nothing was ever predicted.
    pub(super) fn is_untouched(&self) -> bool {
        self.now == 0 && self.refused == 0
    }

    /// Takes in a use of a run up to an offset from a snapshot, later than all before; the run is kept in place
    /// meanwhile.
    pub(super) fn restore(&mut self, chains: &Chains, lane: u32, run: RunId, end: usize) {
        let held = self.runs.get(&run.0).and_then(|steps| steps.first()).map_or(0, |step| step.end);
        let mut path = Path::default();
        if held < end && !chains.cover_part(lane, run, held..end, &mut path) {
            self.refused += (end - held) as u64;
            return;
        }
        self.blocks += end.saturating_sub(held);
        self.now += 1;
        self.touch(run.0, end, self.now);
    }

    /// Takes in what a snapshot says was refused.
    pub(super) fn note_refused(&mut self, refused: u64) {
        self.refused = self.refused.saturating_add(refused);
    }

    /// Drops what is beyond the bound, once all uses were restored.
    pub(super) fn keep_bound(&mut self, chains: &Chains, lane: u32) {
        self.shrink_to(chains, lane, self.capacity);
    }

    fn touch(&mut self, run: u32, end: usize, time: u64) {
        let steps = self.runs.entry(run).or_default();
        while let Some(nearer) = steps.pop_if(|step| step.end <= end) {
            self.uses.remove(&nearer.time);
        }
        steps.push(Step { end, time });
        self.uses.insert(time, run);
    }

    /// Cuts the step of this time, the farthest of its run, back to `keep(end of the step before)`.
    fn cut(&mut self, chains: &Chains, lane: u32, run: u32, time: u64, keep: impl FnOnce(usize) -> usize) {
        let Some(steps) = self.runs.get_mut(&run) else { return };
        let nearer = steps.get(1).map_or(0, |step| step.end);
        let Some(step) = steps.first_mut().filter(|step| step.time == time) else { return };
        let (kept, end) = (keep(nearer), step.end);
        if kept >= end {
            return;
        }
        chains.remove_range(lane, RunId(run), kept..end);
        self.blocks -= end - kept;
        step.end = kept;
        if kept == nearer {
            steps.remove(0);
            self.uses.remove(&time);
            if steps.is_empty() {
                self.runs.remove(&run);
            }
        }
    }
}
