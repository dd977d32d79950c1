//! What applying an event answers. Nothing is dropped silently: every reason is a counter.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use serde::{Deserialize, Serialize, Serializer};

use crate::Error;
use crate::event::{SkipReason, Skipped};
use crate::frame::{FrameWriter, Reader};

/// What became of an event, or of a batch as a whole (then the last of these that any of its events got).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Outcome {
    /// The index shows it.
    #[default]
    Applied,
    /// Its blocks wait for their parent.
    Parked,
    /// Some or all of it was left out.
    Ignored(IgnoreReason),
    /// The pod's view is no longer what the engine has; batches are needed that were not there.
    NeedsResync(ResyncReason),
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum IgnoreReason {
    /// The batch was applied before, byte for byte.
    Duplicate,
    /// The batch belongs to another data-parallel rank than this pod.
    OtherRank,
    /// An event with a tag no known engine sends.
    UnknownTag,
    /// An event with a missing or malformed field.
    Malformed,
    /// An announcement that is not about whole blocks of token ids.
    NotABlock,
    /// A store into a tier we do not know.
    UnknownTier,
    /// A block without tokens or parent whose place is not known; or a removal of a block the pod does
    /// not hold.
    UnknownBlock,
    /// Masked blocks were left out and the rest cannot be placed.
    Sparse,
    /// A block size other than the cache domain's.
    BlockSize,
    /// EAGLE pairs in place of token ids: such blocks depend on a token after them.
    Bigrams,
    /// A LoRA adapter named by a number that the pod's options do not list.
    UnknownAdapter,
    /// The index is at its memory bound.
    Memory,
    /// The place for blocks that wait for their parent is full.
    ParkedFull,
    /// A name was announced for another block than the one the pod holds under it.
    Contradiction,
    /// The pod named more KV-cache groups than any engine has (64).
    TooManyGroups,
}

impl IgnoreReason {
    /// Every reason, in the order of [`Counters::ignored`].
    pub const ALL: [Self; 15] = [
        Self::Duplicate,
        Self::OtherRank,
        Self::UnknownTag,
        Self::Malformed,
        Self::NotABlock,
        Self::UnknownTier,
        Self::UnknownBlock,
        Self::Sparse,
        Self::BlockSize,
        Self::Bigrams,
        Self::UnknownAdapter,
        Self::Memory,
        Self::ParkedFull,
        Self::Contradiction,
        Self::TooManyGroups,
    ];

    /// Name in reports and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::OtherRank => "other-rank",
            Self::UnknownTag => "unknown-tag",
            Self::Malformed => "malformed",
            Self::NotABlock => "not-a-block",
            Self::UnknownTier => "unknown-tier",
            Self::UnknownBlock => "unknown-block",
            Self::Sparse => "sparse",
            Self::BlockSize => "block-size",
            Self::Bigrams => "bigrams",
            Self::UnknownAdapter => "unknown-adapter",
            Self::Memory => "memory",
            Self::ParkedFull => "parked-full",
            Self::Contradiction => "contradiction",
            Self::TooManyGroups => "too-many-groups",
        }
    }
}

impl From<SkipReason> for IgnoreReason {
    fn from(reason: SkipReason) -> Self {
        match reason {
            SkipReason::UnknownTag => Self::UnknownTag,
            SkipReason::Malformed => Self::Malformed,
            SkipReason::NotABlock => Self::NotABlock,
        }
    }
}

/// Why batches are needed that were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ResyncReason {
    /// Batches are missing. Replay from here: the last applied batch (its bytes tell whether the engine
    /// restarted), or 0. If that cannot be had, `abandon_gap` drops the view and goes on.
    Gap {
        /// First sequence number to replay.
        replay_from: u64,
    },
    /// The engine restarted and its first batches were missed, or (with
    /// [`GapPolicy::Clear`](super::GapPolicy)) an old batch came late. The view was dropped and the batch
    /// not applied. Replay from 0; without replay nothing is to be done.
    Restarted,
    /// A batch could not be read at all, so what it said is lost, and replay would bring the same bytes.
    /// The view was dropped and heals as blocks are announced again; nothing is to be done.
    Undecodable,
}

/// How far a pod's view is to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "config", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum TrustLevel {
    /// Nothing is known of the pod's cache that could be credited; only its load counts.
    LoadOnly,
    /// No event came from the pod so far, or its engine keeps having less than its events said; what this
    /// router itself sent there says as much.
    Approximate,
    /// Something was lost or left out: matches may be too short until the view heals.
    Degraded,
    /// Every event since the engine's start (or its last clear) was applied.
    Exact,
}

impl TrustLevel {
    /// All of them, least trusted first.
    pub const ALL: [Self; 4] = [Self::LoadOnly, Self::Approximate, Self::Degraded, Self::Exact];

    /// Name in explanations.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LoadOnly => "load-only",
            Self::Approximate => "approximate",
            Self::Degraded => "degraded",
            Self::Exact => "exact",
        }
    }
}

/// A trust level that one thread sets and others read.
#[derive(Debug)]
pub(crate) struct TrustCell(AtomicU8);

impl TrustCell {
    pub(crate) fn new(level: TrustLevel) -> Self {
        Self(AtomicU8::new(level as u8))
    }

    pub(crate) fn get(&self) -> TrustLevel {
        TrustLevel::ALL[usize::from(self.0.load(Ordering::Relaxed)) % TrustLevel::ALL.len()]
    }

    pub(super) fn set(&self, level: TrustLevel) {
        self.0.store(level as u8, Ordering::Relaxed);
    }
}

/// What became of one batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyReport {
    /// The gravest outcome of any event in it.
    pub outcome: Outcome,
    /// Events that were applied, parked or ignored.
    pub events: u64,
    /// Blocks stored, further copies included.
    pub blocks_stored: u64,
    /// Blocks removed, copies included.
    pub blocks_removed: u64,
    /// What was wrong with a batch that could not be read.
    pub error: Option<Error>,
    /// The events that could not be read: where they stood, and what was found there.
    pub skipped: Vec<Skipped>,
    /// Events parked.
    pub(super) parked: u64,
    /// Events ignored by reason, if any were: a report is handed on often, and mostly without.
    pub(super) ignored: Option<Box<Ignored>>,
}

/// Counts in the order of [`IgnoreReason::ALL`].
type Ignored = [u64; IgnoreReason::ALL.len()];

impl ApplyReport {
    /// How many of its events (or the batch itself) were left out for `reason`.
    #[must_use]
    pub fn ignored_for(&self, reason: IgnoreReason) -> u64 {
        self.ignored.as_ref().map_or(0, |counts| counts[reason as usize])
    }

    pub(super) fn only(outcome: Outcome) -> Self {
        let mut report = Self { outcome, ..Self::default() };
        if let Outcome::Ignored(reason) = outcome {
            report.ignore(reason);
        }
        report
    }

    fn ignore(&mut self, reason: IgnoreReason) {
        self.ignored.get_or_insert_default()[reason as usize] += 1;
    }

    /// Sums up what became of several batches.
    pub(super) fn add_report(&mut self, other: Self) {
        self.outcome = self.outcome.max(other.outcome);
        self.events += other.events;
        self.blocks_stored += other.blocks_stored;
        self.blocks_removed += other.blocks_removed;
        self.error = self.error.take().or(other.error);
        self.skipped.extend(other.skipped);
        self.parked += other.parked;
        if let Some(more) = other.ignored {
            add_up(self.ignored.get_or_insert_default(), &more);
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        self.events += 1;
        self.outcome = self.outcome.max(outcome);
        match outcome {
            Outcome::Parked => self.parked += 1,
            Outcome::Ignored(reason) => self.ignore(reason),
            Outcome::Applied | Outcome::NeedsResync(_) => {}
        }
    }
}

/// What happened to a pod's stream so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Batches judged.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Blocks stored, further copies included.
    pub blocks_stored: u64,
    /// Blocks removed, copies and clears included.
    pub blocks_removed: u64,
    /// Blocks of stores that were left out.
    pub blocks_refused: u64,
    /// Removals of blocks the pod was not known to hold.
    pub unknown_removals: u64,
    /// Events whose blocks were parked.
    pub parked: u64,
    /// Times the whole view was dropped, by the engine or by us.
    pub clears: u64,
    /// Times batches were found missing.
    pub gaps: u64,
    /// Engine restarts noticed.
    pub restarts: u64,
    /// Batches answered with [`Outcome::NeedsResync`].
    pub resyncs: u64,
    /// Events and batches left out, in the order of [`IgnoreReason::ALL`]; serialized by name, where there are any.
    #[serde(serialize_with = "by_name")]
    pub ignored: Ignored,
}

fn add_up(sums: &mut Ignored, more: &Ignored) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

fn by_name<S: Serializer>(ignored: &Ignored, to: S) -> Result<S::Ok, S::Error> {
    let counts = IgnoreReason::ALL.into_iter().zip(ignored).filter(|(_, count)| **count > 0);
    to.collect_map(counts.map(|(reason, count)| (reason.name(), count)))
}

impl Counters {
    pub(super) fn count_batch(&mut self, report: &ApplyReport) {
        self.batches += 1;
        self.events += report.events;
        self.parked += report.parked;
        self.resyncs += u64::from(matches!(report.outcome, Outcome::NeedsResync(_)));
        if let Some(more) = &report.ignored {
            add_up(&mut self.ignored, more);
        }
    }

    /// How often something was left out for `reason`.
    #[must_use]
    pub fn ignored_for(&self, reason: IgnoreReason) -> u64 {
        self.ignored[reason as usize]
    }

    /// Writes them into a snapshot.
    pub(super) fn save(&self, frames: &mut FrameWriter) {
        let mut copy = self.clone();
        copy.fields().into_iter().for_each(|count| frames.number(*count));
        frames.number(self.ignored.len() as u64);
        self.ignored.iter().for_each(|&count| frames.number(count));
    }

    /// Reads them; reasons that were not there yet have a count of 0.
    pub(super) fn load(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let mut counters = Self::default();
        for count in counters.fields() {
            *count = reader.count()?;
        }
        let reasons = reader.at_most(IgnoreReason::ALL.len() as u64, "reasons")?;
        for count in &mut counters.ignored[..reasons] {
            *count = reader.count()?;
        }
        Ok(counters)
    }

    /// All single ones, in the order of snapshots.
    fn fields(&mut self) -> [&mut u64; 11] {
        [
            &mut self.batches,
            &mut self.events,
            &mut self.blocks_stored,
            &mut self.blocks_removed,
            &mut self.blocks_refused,
            &mut self.unknown_removals,
            &mut self.parked,
            &mut self.clears,
            &mut self.gaps,
            &mut self.restarts,
            &mut self.resyncs,
        ]
    }
}
