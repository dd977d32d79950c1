//! The pods of an index and their lanes, as one immutable snapshot.
//!
//! A *lane* is one column of the index: what one pod holds in one KV-cache group and one tier. Most pods have
//! one. Lanes have dense numbers, so that a lookup keeps its counters in a plain array.
//! Changes are rare (a pod comes or goes, or announces a tier or group for the first time) and make a new
//! snapshot; readers hold on to theirs.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use parking_lot::Mutex;

use super::outcome::TrustCell;
use super::sent::Sent;
use super::view::View;
use super::walk::LaneUse;
use crate::Tier;
use crate::event::GroupKind;

/// A pod in an index: a dense slot, and which of the pods that had this slot it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PodId(u64);

impl PodId {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self((slot as u64 + 1) << 32 | generation as u64)
    }

    /// Dense number, below the largest number of pods there were at one time; for arrays over pods.
    #[must_use]
    pub const fn slot(self) -> usize {
        (self.0 >> 32) as usize - (self.0 >> 32 != 0) as usize
    }

    pub(crate) const fn generation(self) -> u32 {
        self.0 as u32
    }

    /// As one number, for foreign interfaces; in memory a `PodId` is that number. Never 0.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// From [`as_u64`](Self::as_u64). Any other number names no pod.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Number of a lane for what the pod's view must keep in place without holding it; beyond all numbers of
    /// real lanes, so that no lookup reads it.
    pub(super) fn step_lane(self) -> u32 {
        u32::MAX - self.slot() as u32
    }
}

impl fmt::Display for PodId {
    /// [`as_u64`](PodId::as_u64), as foreign interfaces show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PodId({self})")
    }
}

/// Most groups of a pod. Engines have a handful; the wire could name four billion.
pub(super) const MAX_GROUPS: usize = 64;

/// A column of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) tier: Tier,
}

#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) id: PodId,
    /// Salt of its cache domain: tells whether a query is meant for it.
    pub(super) salt: u64,
    pub(super) lanes: Vec<Lane>,
    /// What each of its groups is.
    pub(super) groups: Vec<(u32, GroupKind)>,
    pub(super) view: Arc<Mutex<View>>,
    /// Column of what this router sent to it, once it sent something.
    pub(super) predicted: Option<u32>,
    /// Column of what it sent a moment ago.
    pub(super) speculative: Option<u32>,
    pub(super) sent: Arc<Mutex<Sent>>,
    pub(super) trust: Arc<TrustCell>,
}

impl Pod {
    /// Its only lane, if that lane's depth is the whole answer.
    pub(super) fn depth_lane(&self) -> Option<u32> {
        match (&*self.lanes, &*self.groups) {
            ([Lane { id, group: 0, tier: Tier::Gpu }], []) => Some(*id),
            ([Lane { id, group, tier: Tier::Gpu }], [(described, GroupKind::FullAttention)])
                if group == described =>
            {
                Some(*id)
            }
            _ => None,
        }
    }

    /// Its groups and what they are; see [`kinds`].
    pub(super) fn kinds(&self) -> impl Iterator<Item = (u32, GroupKind)> + '_ {
        kinds(&self.groups, self.lanes.iter().map(|lane| lane.group))
    }
}

/// The groups of a pod: those its events described, and those it has lanes of all the same. Engines before
/// vLLM 0.22 describe nothing; then group 0 is full attention, and of any other we know nothing.
pub(super) fn kinds<'a>(
    described: &'a [(u32, GroupKind)],
    of_lanes: impl Iterator<Item = u32> + 'a,
) -> impl Iterator<Item = (u32, GroupKind)> + 'a {
    let undescribed = of_lanes.filter(|group| described.iter().all(|known| known.0 != *group));
    let assumed = undescribed.map(|group| match group {
        0 => (0, GroupKind::FullAttention),
        other => (other, GroupKind::Unknown),
    });
    described.iter().copied().chain(assumed)
}

#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    /// By slot; `None` is free.
    pub(super) pods: Vec<Option<Arc<Pod>>>,
    /// Generation the next pod in a slot gets.
    generations: Vec<u32>,
    /// By lane number: how lookups read it.
    uses: Vec<LaneUse>,
    /// By lane number: the slot of its pod; `u32::MAX` when free.
    owners: Vec<u32>,
    /// By lane number: what lookups want to know of its pod.
    rows: Vec<LaneRow>,
    /// Salts of the domains with lanes that are read by segments.
    segment_salts: Vec<u64>,
}

const FREE: u32 = u32::MAX;

/// What a lookup that met a lane needs of its pod, in one place: pods themselves lie all over the heap.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneRow {
    pub(super) pod: PodId,
    /// Salt of its cache domain.
    pub(super) salt: u64,
    /// The pod's lanes whose depths are its answer: held, predicted, speculative; [`NO_LANE`] where
    /// it has none.
    pub(super) lanes: [u32; 3],
    /// Whether it has a lane of what it holds, that is read by its depth, and no other: then that depth is all.
    pub(super) is_alone: bool,
}

/// Stands for a lane that is not there: beyond all real ones, so that its depth is 0.
pub(super) const NO_LANE: u32 = u32::MAX;

impl LaneRow {
    const FREE: Self = Self { pod: PodId(0), salt: 0, lanes: [NO_LANE; 3], is_alone: false };

    fn of(pod: &Pod) -> Self {
        let lanes = [pod.depth_lane(), pod.predicted, pod.speculative];
        let is_alone = matches!(lanes, [Some(_), None, None]);
        Self { pod: pod.id, salt: pod.salt, lanes: lanes.map(|lane| lane.unwrap_or(NO_LANE)), is_alone }
    }

    /// Whether what it holds takes more than the depth of one lane.
    pub(super) fn has_segments(&self) -> bool {
        self.lanes[0] == NO_LANE
    }
}

impl Fleet {
    /// A fleet without pods, in which no id of this one will be given again.
    pub(super) fn emptied(&self) -> Self {
        let pods = self.pods.iter().map(|_| None).collect();
        Self { pods, generations: self.generations.clone(), ..Self::default() }
    }

    pub(super) fn uses(&self) -> &[LaneUse] {
        &self.uses
    }

    /// Whether a domain has lanes that are read by segments.
    pub(super) fn any_segments(&self, salt: u64) -> bool {
        self.segment_salts.contains(&salt)
    }

    pub(super) fn pod(&self, id: PodId) -> Option<&Arc<Pod>> {
        self.pods.get(id.slot())?.as_ref().filter(|pod| pod.id == id)
    }

    /// By lane number.
    pub(super) fn rows(&self) -> &[LaneRow] {
        &self.rows
    }

    pub(super) fn next_id(&self) -> PodId {
        let slot = self.pods.iter().position(Option::is_none).unwrap_or(self.pods.len());
        PodId::new(slot as u32, self.generations.get(slot).copied().unwrap_or(0))
    }

    pub(super) fn insert(&mut self, pod: Pod) {
        let slot = pod.id.slot();
        if slot == self.pods.len() {
            self.pods.push(None);
            self.generations.push(0);
        }
        self.generations[slot] = pod.id.generation().wrapping_add(1);
        self.pods[slot] = Some(Arc::new(pod));
        self.changed();
    }

    /// Takes a pod out, which is there.
    pub(super) fn remove(&mut self, id: PodId) {
        if let Some(pod) = self.pods[id.slot()].take() {
            self.free_lanes(pod.lanes.iter().map(|lane| lane.id).chain(pod.predicted).chain(pod.speculative));
        }
        self.changed();
    }

    /// Gives a pod a new lane, and notes what its group is.
    pub(super) fn add_lane(&mut self, id: PodId, group: u32, tier: Tier) -> Option<Lane> {
        let mut pod = Pod::clone(self.pod(id)?);
        let lane = Lane { id: self.take_lane(id), group, tier };
        pod.lanes.push(lane);
        self.pods[id.slot()] = Some(Arc::new(pod));
        self.changed();
        Some(lane)
    }

    /// Gives a pod the lane of what is predicted for it, or of what is speculative.
    pub(super) fn add_sent_lane(&mut self, id: PodId, is_speculative: bool) -> Option<u32> {
        let mut pod = Pod::clone(self.pod(id)?);
        let lane = self.take_lane(id);
        *(if is_speculative { &mut pod.speculative } else { &mut pod.predicted }) = Some(lane);
        self.pods[id.slot()] = Some(Arc::new(pod));
        self.changed();
        Some(lane)
    }

    fn take_lane(&mut self, id: PodId) -> u32 {
        let number = self.owners.iter().position(|&owner| owner == FREE).unwrap_or_else(|| {
            self.owners.push(FREE);
            self.uses.push(LaneUse::Depth);
            self.owners.len() - 1
        });
        self.owners[number] = id.slot() as u32;
        number as u32
    }

    /// Takes a pod's lanes away, which hold nothing, and what was learnt of its groups.
    pub(super) fn forget_lanes(&mut self, id: PodId, groups: &[(u32, GroupKind)]) {
        let Some(mut pod) = self.pod(id).map(|pod| Pod::clone(pod)) else { return };
        self.free_lanes(pod.lanes.drain(..).map(|lane| lane.id));
        pod.groups = groups.to_vec();
        self.pods[id.slot()] = Some(Arc::new(pod));
        self.changed();
    }

    fn free_lanes(&mut self, lanes: impl Iterator<Item = u32>) {
        lanes.for_each(|lane| self.owners[lane as usize] = FREE);
        while self.owners.last() == Some(&FREE) {
            self.owners.pop();
            self.uses.pop();
        }
    }

    pub(super) fn set_groups(&mut self, id: PodId, groups: &[(u32, GroupKind)]) {
        let Some(mut pod) = self.pod(id).map(|pod| Pod::clone(pod)) else { return };
        pod.groups = groups.to_vec();
        self.pods[id.slot()] = Some(Arc::new(pod));
        self.changed();
    }

    fn changed(&mut self) {
        self.segment_salts.clear();
        self.rows.clear();
        self.rows.resize(self.owners.len(), LaneRow::FREE);
        for pod in self.pods.iter().flatten() {
            let depth_lane = pod.depth_lane();
            for lane in pod.lanes.iter().map(|lane| lane.id).chain(pod.predicted).chain(pod.speculative) {
                self.rows[lane as usize] = LaneRow::of(pod);
            }
            for lane in pod.predicted.into_iter().chain(pod.speculative) {
                self.uses[lane as usize] = LaneUse::Depth;
            }
            for lane in &pod.lanes {
                let is_depth = depth_lane == Some(lane.id);
                self.uses[lane.id as usize] = if is_depth { LaneUse::Depth } else { LaneUse::Segments };
                if !is_depth && !self.segment_salts.contains(&pod.salt) {
                    self.segment_salts.push(pod.salt);
                }
            }
        }
    }
}
