//! The index: which pod holds which block.
//!
//! Data in: KV events of pods, batch by batch. Data out: for each pod of a cache domain, how many leading
//! blocks of a query it can use, exactly as that pod's engine would answer.
//!
//! # How it is made
//!
//! Chains of blocks are kept once for all pods, as *runs* (`run`) in a forest (`chains`); what a pod
//! holds of a run is a pair of offsets (`coverage`). What only a pod's own stream needs is in its `view`.
//! A lookup (`walk`) goes from run to run, and `matching` makes a pod's answer of what its lanes hold.
//!
//! This file is long because options, answers and calls are documented here, where callers look; what they do is in the
//! modules.
//!
//! # Consistency
//!
//! A lookup that overlaps no apply equals the oracle. One that does lies, for every pod, between the
//! least and the greatest answer that was true at some instant meanwhile, where a batch counts as so many
//! single steps (`walk` says how). An event is visible once its apply returned. Applies to one pod are
//! made one after the other; applies to different pods and lookups run in parallel.
//!
//! # Locks
//!
//! The order is: the restoring of a snapshot, a pod's view, its predictions, then the pod table *or* a shard, then a directory. One of each at most,
//! but for the rare lookup that takes all shards in order. No user code runs under any of them.

mod chains;
mod coverage;
mod fleet;
mod held;
#[expect(unsafe_code, reason = "its proof is in it")]
mod lock;
mod matching;
mod outcome;
mod parked;
mod predicted;
mod run;
mod sent;
mod shard;
pub(crate) mod snapshot;
mod speculative;
mod sync;
mod table;
mod translation;
mod view;
mod walk;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use parking_lot::Mutex;

pub use fleet::PodId;
pub use held::{HeldBlock, HeldChange, HeldCursor, HeldSince};
pub use matching::TierBlocks;
pub(crate) use outcome::TrustCell;
pub use outcome::{ApplyReport, Counters, IgnoreReason, Outcome, ResyncReason, TrustLevel};
pub use predicted::{PredictedCounts, Prediction};
pub use snapshot::RestoredBlocks;
pub use speculative::Speculation;

use crate::domain::CacheDomain;
use crate::event::{EventBatch, GroupKind, NumberedEvent};
use crate::published::{Published, Seen};
use crate::{BlockHash, Error, ErrorKind, Tier};
use chains::Chains;
use fleet::{Fleet, Lane, LaneRow, NO_LANE, Pod};
use sent::Sent;
use view::View;
use walk::{Query, Trail};

/// Bounds and sizes of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOptions {
    /// Locks the index is spread over; rounded up to a power of two, at most 4096.
    pub shards: usize,
    /// Bytes for blocks and their holders. Once reached, new blocks and new holders are refused and
    /// counted, and the pods they belong to are degraded; what is known stays. Views (translations,
    /// parked blocks) are bounded by [`PodOptions`] and by what the pods hold, and are reported but not
    /// counted here.
    pub max_bytes: usize,
    /// Blocks a pod of which [`BlockIndex::predict`] keeps that they were sent there, the least recently used
    /// going first; 0 predicts nothing.
    pub max_predicted: usize,
}

impl Default for IndexOptions {
    /// 256 shards, 4 GiB (all there is on 32-bit targets), 31 250 predicted blocks a pod (what
    /// llm-d-router ebab687 keeps: 80 GB of an H100, half of it KV of a 70B model).
    fn default() -> Self {
        let max_bytes = usize::try_from(4_u64 << 30).unwrap_or(usize::MAX);
        Self { shards: 256, max_bytes, max_predicted: 31_250 }
    }
}

/// How one pod's stream is read. Fill it with `..PodOptions::default()`: fields may be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOptions {
    /// Data-parallel rank. `None`: the rank of the first batch that carries one.
    pub dp_rank: Option<u32>,
    /// What a store means of a block that the pod holds already.
    pub copies: CopyPolicy,
    /// What to do when batches are missing.
    pub on_gap: GapPolicy,
    /// KV-cache groups known beforehand. Events teach them too, but a hybrid pod that has described only its
    /// first group so far reads like one without others.
    pub groups: Vec<(u32, GroupKind)>,
    /// LoRA adapters by the engine's integer id, for engines whose events name no adapter (vLLM before
    /// 0.14, SGLang before 0.5.22).
    pub adapters: Vec<(i64, String)>,
    /// Blocks that may wait for an unknown parent.
    pub max_parked: usize,
    /// Bytes those may take, with their token ids and keys.
    pub max_parked_bytes: usize,
    /// Blocks without a copy whose names are kept for offload announcements.
    pub max_retired: usize,
}

impl Default for PodOptions {
    fn default() -> Self {
        Self {
            dp_rank: None,
            copies: CopyPolicy::Infer,
            on_gap: GapPolicy::Clear,
            groups: Vec::new(),
            adapters: Vec::new(),
            max_parked: 4096,
            max_parked_bytes: 16 << 20,
            max_retired: 4096,
        }
    }
}

/// What a store means of a block that the pod holds already.
///
/// An engine can hold one block in several places and announces the eviction of each; with
/// `kv_cache_report_mode=full` (vLLM 0.26 and later) it also announces reused blocks once more, without a
/// new copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CopyPolicy {
    /// A further copy, unless it reads like such a report: several blocks from block 0 that were held
    /// before this batch. A report of a single block, or of a hybrid pod's, cannot be told from a copy
    /// and counts as one.
    #[default]
    Infer,
    /// Always a further copy.
    Count,
    /// Never: the first removal takes the block away.
    Set,
}

/// What to do when batches are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapPolicy {
    /// Drop the pod's view and go on with the batch at hand: removals were lost, and a view without them
    /// would credit the pod for ever.
    #[default]
    Clear,
    /// Keep the view, apply nothing and answer [`ResyncReason::Gap`] until the missing batches are applied or
    /// [`BlockIndex::abandon_gap`] is called.
    Replay,
}

/// The index. Shared by reference between threads; see the module docs for what overlapping calls see.
#[derive(Debug)]
pub struct BlockIndex {
    chains: Chains,
    fleet: Published<Fleet>,
    max_predicted: usize,
    /// Held while a snapshot is restored: there is one scaffold.
    restoring: Mutex<()>,
    /// When the first speculation ends; nanoseconds, all ones if there is none.
    speculation_end: AtomicU64,
}

/// A pod's answer to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodMatch {
    /// The pod.
    pub pod: PodId,
    /// Leading blocks it can use.
    pub blocks: TierBlocks,
    /// Leading blocks that were sent to it ([`BlockIndex::predict`]), whatever its events say.
    pub predicted: u32,
    /// Those of them that were sent a moment ago ([`BlockIndex::speculate`]).
    pub speculative: u32,
}

/// Room for the answers of a lookup, reused from query to query.
#[derive(Debug, Default)]
pub struct MatchTable {
    seen: Option<Seen<Fleet>>,
    trail: Trail,
    union: Vec<Range<u32>>,
    matches: Vec<PodMatch>,
}

impl MatchTable {
    /// The pods of the query's cache domain that can use, or were sent, at least one block, in no particular
    /// order.
    #[must_use]
    pub fn matches(&self) -> &[PodMatch] {
        &self.matches
    }

    /// What `pod` can use.
    #[must_use]
    pub fn blocks(&self, pod: PodId) -> TierBlocks {
        self.matches.iter().find(|m| m.pod == pod).map_or_else(TierBlocks::default, |m| m.blocks)
    }
}

impl Default for BlockIndex {
    fn default() -> Self {
        Self::new(IndexOptions::default())
    }
}

impl BlockIndex {
    /// An empty index.
    #[must_use]
    pub fn new(options: IndexOptions) -> Self {
        Self {
            chains: Chains::new(options.shards, options.max_bytes),
            fleet: Published::default(),
            max_predicted: options.max_predicted,
            restoring: Mutex::default(),
            speculation_end: AtomicU64::new(u64::MAX),
        }
    }

    /// An index without pods, in which no id of this one names a pod.
    pub(crate) fn emptied(&self, options: IndexOptions) -> Self {
        let fleet = self.fleet.read(Fleet::emptied);
        Self { fleet: Published::new(fleet), ..Self::new(options) }
    }

    /// Adds a pod that holds nothing yet. A pod that comes back is a new one.
    pub fn add_pod(&self, domain: Arc<CacheDomain>, options: PodOptions) -> PodId {
        self.fleet.update(|fleet| {
            let id = fleet.next_id();
            let (salt, groups) = (domain.pods_salt(), options.groups.clone());
            let sent = Arc::new(Mutex::new(Sent::new(self.max_predicted)));
            let view = View::new(id, domain, options, Arc::clone(&sent));
            let trust = Arc::new(TrustCell::new(view.trust()));
            let view = Arc::new(Mutex::new(view));
            fleet.insert(Pod {
                id,
                salt,
                lanes: Vec::new(),
                groups,
                view,
                predicted: None,
                speculative: None,
                sent,
                trust,
            });
            id
        })
    }

    /// Removes a pod and everything it holds.
    ///
    /// # Errors
    ///
    /// `UnknownPod` if it was removed before.
    pub fn remove_pod(&self, id: PodId) -> Result<(), Error> {
        self.with_view(id, |view| {
            // Empty before its lanes are free, so that nobody meets their content under their next owner.
            view.leave(self);
            self.fleet.update(|fleet| fleet.remove(id));
        })
    }

    /// Applies one published batch of a pod: `sequence` and `payload` as they came from the wire.
    ///
    /// # Errors
    ///
    /// `UnknownPod`. What is wrong with the batch itself is in the report.
    pub fn apply_batch(&self, id: PodId, sequence: u64, payload: &[u8]) -> Result<ApplyReport, Error> {
        self.with_view(id, |view| view.apply_batch(self, sequence, payload))
    }

    /// Applies events that have no sequence number (polled ones, say).
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn apply_events(&self, id: PodId, batch: &EventBatch) -> Result<ApplyReport, Error> {
        self.with_view(id, |view| view.apply_unnumbered(self, batch))
    }

    /// Applies one poll of events that are numbered one by one ([`decode_trtllm`](crate::event::decode_trtllm)): those
    /// of the pod's rank, and of the attention window `window` (`None`: of any). A number that is not the next one
    /// means lost events or a restart; then the pod's view is dropped first, for polls cannot be had again.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn apply_numbered(
        &self,
        id: PodId,
        events: &[NumberedEvent],
        window: Option<u64>,
    ) -> Result<ApplyReport, Error> {
        self.with_view(id, |view| view.apply_numbered(self, events, window))
    }

    /// Gives up on missing batches: drops the pod's view and expects `sequence` next.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn abandon_gap(&self, id: PodId, sequence: u64) -> Result<(), Error> {
        self.with_view(id, |view| view.abandon_gap(self, sequence))
    }

    /// Where a replay of the pod's stream should begin: its last applied batch, whose bytes tell whether the engine
    /// restarted, or the number expected next if there is none.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn replay_from(&self, id: PodId) -> Result<u64, Error> {
        self.with_view(id, |view| view.replay_from())
    }

    /// Notes that the pod's engine restarted and no batch said so yet: drops the pod's view and predictions, and
    /// expects number 0.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn note_restart(&self, id: PodId) -> Result<(), Error> {
        self.with_view(id, |view| view.note_restart(self))
    }

    /// Notes that a prompt of these blocks is sent to a pod, so that its blocks will be there; `blocks`: `[n]`,
    /// all full blocks of the prompt, hashed for `domain`, of which the first `max_predicted` count.
    ///
    /// Costs what the runs on the prompt's path cost. An eighth of [`IndexOptions::max_bytes`] is left to what
    /// events announce.
    ///
    /// # Errors
    ///
    /// `UnknownPod`; `InvalidInput` if the domain is not the pod's.
    pub fn predict(
        &self,
        id: PodId,
        domain: &CacheDomain,
        blocks: &[BlockHash],
    ) -> Result<Prediction, Error> {
        let pod = self.pod_of(id, domain)?;
        let mut sent = pod.sent.lock();
        if sent.is_gone() {
            return Err(unknown(id));
        }
        if blocks.is_empty() || self.max_predicted == 0 {
            return Ok(Prediction::default());
        }
        let lane = self.sent_lane(id, &mut sent.predicted.lane, false)?;
        Ok(sent.predicted.record(&self.chains, lane, blocks, domain.salt()))
    }

    /// The same for a moment: until `end`, or [`end_speculation`](Self::end_speculation). `None` if there is nothing to
    /// expect. A block that several are about is expected until the last of them ends.
    ///
    /// # Errors
    ///
    /// Those of [`predict`](Self::predict).
    pub fn speculate(
        &self,
        id: PodId,
        domain: &CacheDomain,
        blocks: &[BlockHash],
        end: Duration,
    ) -> Result<Option<Speculation>, Error> {
        let pod = self.pod_of(id, domain)?;
        let mut sent = pod.sent.lock();
        if sent.is_gone() {
            return Err(unknown(id));
        }
        if blocks.is_empty() || self.max_predicted == 0 {
            return Ok(None);
        }
        let lane = self.sent_lane(id, &mut sent.speculative.lane, true)?;
        let speculation = sent.speculative.record(&self.chains, lane, blocks, domain.salt(), end);
        self.speculation_end.fetch_min(nanoseconds(end), Ordering::AcqRel);
        Ok(Some(speculation))
    }

    /// Takes a speculation back before its end: the pod's events tell now. Nothing happens if the pod is gone.
    pub fn end_speculation(&self, id: PodId, speculation: Speculation) {
        if let Ok(pod) = self.pod(id) {
            pod.sent.lock().speculative.end(&self.chains, speculation);
        }
    }

    /// Drops the speculations that end by `now`. Costs one load where there are none.
    pub fn expire_speculations(&self, now: Duration) {
        if nanoseconds(now) < self.speculation_end.load(Ordering::Relaxed) {
            return;
        }
        // Before the pods are looked at, those that came before included: what is speculated meanwhile notes its end
        // itself.
        self.speculation_end.swap(u64::MAX, Ordering::AcqRel);
        for pod in self.fleet.load().pods.iter().flatten() {
            if let Some(end) = pod.sent.lock().speculative.expire(&self.chains, now) {
                self.speculation_end.fetch_min(nanoseconds(end), Ordering::AcqRel);
            }
        }
    }

    fn pod_of(&self, id: PodId, domain: &CacheDomain) -> Result<Arc<Pod>, Error> {
        let pod = self.pod(id)?;
        if pod.salt == domain.pods_salt() {
            return Ok(pod);
        }
        let name = domain.name();
        Err(Error::invalid(alloc::format!("pod {id} is not of cache domain \"{name}\"")))
    }

    /// The lane of what was sent to a pod that is there, which `lane` keeps.
    fn sent_lane(&self, id: PodId, lane: &mut Option<u32>, is_speculative: bool) -> Result<u32, Error> {
        if lane.is_none() {
            *lane = self.fleet.update(|fleet| fleet.add_sent_lane(id, is_speculative));
        }
        lane.ok_or_else(|| unknown(id))
    }

    /// Takes a prediction back: the request never came to be computed there. What was predicted again since
    /// stays. Nothing happens if the pod is gone.
    pub fn revoke(&self, id: PodId, prediction: Prediction) {
        if let Ok(pod) = self.pod(id) {
            pod.sent.lock().predicted.revoke(&self.chains, prediction);
        }
    }

    /// Forgets what is predicted for the pod: its engine restarted, and no event says so.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn forget_predictions(&self, id: PodId) -> Result<(), Error> {
        self.pod(id)?.sent.lock().clear(&self.chains);
        Ok(())
    }

    /// What is predicted for the pod.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn predicted(&self, id: PodId) -> Result<PredictedCounts, Error> {
        Ok(self.pod(id)?.sent.lock().predicted.counts())
    }

    /// How far the pod's view is to be believed.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn trust(&self, id: PodId) -> Result<TrustLevel, Error> {
        Ok(self.pod(id)?.trust.get())
    }

    /// Where the pod's trust level can be read again and again.
    pub(crate) fn trust_cell(&self, id: PodId) -> Result<Arc<TrustCell>, Error> {
        Ok(Arc::clone(&self.pod(id)?.trust))
    }

    /// What happened to the pod's stream so far.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn counters(&self, id: PodId) -> Result<Counters, Error> {
        self.with_view(id, |view| view.counters().clone())
    }

    /// Blocks of the pod that wait for their parent.
    ///
    /// # Errors
    ///
    /// `UnknownPod`.
    pub fn parked_blocks(&self, id: PodId) -> Result<usize, Error> {
        self.with_view(id, |view| view.parked_blocks())
    }

    /// Fills `table` with what every pod of `domain` can use of `blocks`.
    ///
    /// `blocks`: `[n]`, the hashes of the query's blocks, cut by the caller where the engine would cut them
    /// ([`CacheDomain::searchable_blocks`]).
    pub fn lookup(&self, domain: &CacheDomain, blocks: &[BlockHash], table: &mut MatchTable) {
        let MatchTable { seen, trail, union, matches } = table;
        loop {
            let fleet = self.fleet.refresh(seen);
            let query = Query {
                blocks,
                salt: domain.salt(),
                native: domain.is_native(),
                lanes: fleet.uses(),
                any_segments: fleet.any_segments(domain.salt()),
            };
            self.chains.walk(&query, trail);
            collect(fleet, domain, blocks.len() as u32, trail, union, matches);
            // A pod that came, went or got a lane meanwhile may have been read by the wrong rule.
            if seen.as_ref().is_some_and(|seen| self.fleet.is_current(seen)) {
                return;
            }
        }
    }

    /// Number of distinct blocks that events announced.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.chains.len()
    }

    /// Bytes allocated for blocks and their holders; what [`IndexOptions::max_bytes`] bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chains.bytes()
    }

    /// Bytes allocated by the pods' views.
    #[must_use]
    pub fn view_bytes(&self) -> usize {
        let fleet = self.fleet.load();
        let bytes = |pod: &Arc<Pod>| pod.view.lock().bytes() + pod.sent.lock().bytes();
        fleet.pods.iter().flatten().map(bytes).sum()
    }

    #[cfg(test)]
    pub(crate) fn recount(&self) -> usize {
        self.chains.recount()
    }

    fn add_lane(&self, id: PodId, group: u32, tier: Tier) -> Option<Lane> {
        self.fleet.update(|fleet| fleet.add_lane(id, group, tier))
    }

    fn forget_lanes(&self, id: PodId, groups: &[(u32, GroupKind)]) {
        self.fleet.update(|fleet| fleet.forget_lanes(id, groups));
    }

    fn set_groups(&self, id: PodId, groups: &[(u32, GroupKind)]) {
        self.fleet.update(|fleet| fleet.set_groups(id, groups));
    }

    fn pod(&self, id: PodId) -> Result<Arc<Pod>, Error> {
        self.fleet.read(|fleet| fleet.pod(id).cloned()).ok_or_else(|| unknown(id))
    }

    fn with_view<R>(&self, id: PodId, act: impl FnOnce(&mut View) -> R) -> Result<R, Error> {
        let pod = self.pod(id)?;
        let mut view = pod.view.lock();
        // Waiting for the lock may have been waiting for the pod's removal.
        if view.is_gone() {
            return Err(unknown(id));
        }
        let result = act(&mut view);
        pod.trust.set(view.trust());
        Ok(result)
    }
}

/// Makes the pods' answers of what a walk found.
fn collect(
    fleet: &Fleet,
    domain: &CacheDomain,
    length: u32,
    trail: &mut Trail,
    union: &mut Vec<Range<u32>>,
    matches: &mut Vec<PodMatch>,
) {
    matches.clear();
    let rows = fleet.rows();
    let depths = trail.depths(rows.len());
    let salt = domain.pods_salt();
    matches.reserve(trail.touched.len());
    for &lane in &trail.touched {
        let Some(row) = rows.get(lane as usize).filter(|row| row.salt == salt) else { continue };
        if row.is_alone {
            let blocks = TierBlocks::device(depths[lane as usize]);
            matches.push(PodMatch { pod: row.pod, blocks, predicted: 0, speculative: 0 });
        } else {
            matches.extend(match_of(row, lane, trail));
        }
    }
    if trail.segments.is_empty() {
        return;
    }
    matching::sort_segments(trail);
    for pod in fleet.pods.iter().flatten() {
        if pod.depth_lane().is_some() || pod.salt != domain.pods_salt() {
            continue;
        }
        let blocks = matching::usable(pod, trail, length, domain.block_size(), union);
        let depth = |lane: Option<u32>| lane.map_or(0, |lane| trail.depth(lane));
        let (predicted, speculative) = (depth(pod.predicted), depth(pod.speculative));
        if blocks.total() > 0 || predicted > 0 || speculative > 0 {
            matches.push(PodMatch { pod: pod.id, blocks, predicted, speculative });
        }
    }
}

/// The answer of a pod with several lanes, where the first of them was met. Out of line: the loop that calls it is most
/// of what a lookup does.
#[inline(never)]
fn match_of(row: &LaneRow, lane: u32, trail: &Trail) -> Option<PodMatch> {
    if row.has_segments() && !trail.segments.is_empty() {
        // It is read from those.
        return None;
    }
    let [held_in, predicted_in, speculative_in] = row.lanes;
    let depth = |lane: u32| if lane == NO_LANE { 0 } else { trail.depth(lane) };
    let (held, predicted, speculative) = (depth(held_in), depth(predicted_in), depth(speculative_in));
    let is_first = match lane {
        lane if lane == held_in => true,
        lane if lane == predicted_in => held == 0,
        lane => lane == speculative_in && held == 0 && predicted == 0,
    };
    is_first.then_some(PodMatch { pod: row.pod, blocks: TierBlocks::device(held), predicted, speculative })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn unknown(id: PodId) -> Error {
    let message = alloc::format!("no pod has the id {id}");
    Error::new(ErrorKind::UnknownPod, message)
}
