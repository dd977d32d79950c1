//! What a router and its pods are at, for those who watch.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use super::{Router, RouterCounters};
use crate::index::{Counters, PodId, PredictedCounts};
use crate::load::{Bookings, LoadReport};
use crate::pod::{Audit, RoutedPod};

/// A router at one moment. Its parts are read one after the other.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouterStatus {
    /// Requests and sessions.
    pub counters: RouterCounters,
    /// The index.
    pub index: IndexStatus,
    /// All pods, in order of slot.
    pub pods: Vec<PodStatus>,
}

/// How much is in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IndexStatus {
    /// Distinct blocks that events announced.
    pub blocks: usize,
    /// Bytes of blocks and their holders, which `max_bytes` bounds.
    pub bytes: usize,
    /// Bytes of the pods' views.
    pub view_bytes: usize,
}

/// A pod at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PodStatus {
    /// Its id, as a number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its data-parallel rank.
    pub dp_rank: u32,
    /// Its cache domain.
    pub domain: String,
    /// What it does.
    pub role: &'static str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// How fast it computes, as a multiple of an ordinary pod.
    pub capacity: f64,
    /// Whether it takes new requests.
    pub accepting: bool,
    /// How far its view is to be believed.
    pub trust: &'static str,
    /// What it last said of its load.
    pub load: Option<LoadReport>,
    /// Whether that reached the router's bounds.
    pub overloaded: bool,
    /// Requests that failed since it last answered one.
    pub failures: u32,
    /// What this router has in flight on it.
    pub booked: Bookings,
    /// What its peers said that they have.
    pub booked_by_peers: Bookings,
    /// How its view compared with what its engine counted.
    pub audit: Audit,
    /// What happened to its stream of events.
    pub stream: Counters,
    /// Blocks that wait for their parent.
    pub parked_blocks: usize,
    /// What this router sent to it.
    pub predicted: PredictedCounts,
}

impl Router {
    /// What it and its pods are at. Costs what the pods are; for a look now and then, not for every request.
    #[must_use]
    pub fn status(&self) -> RouterStatus {
        let index = IndexStatus {
            blocks: self.index.blocks(),
            bytes: self.index.bytes(),
            view_bytes: self.index.view_bytes(),
        };
        let pods = self.pods().iter().filter_map(|pod| self.pod_status(pod)).collect();
        RouterStatus { counters: self.counters(), index, pods }
    }

    /// `None` if it was removed meanwhile.
    fn pod_status(&self, pod: &RoutedPod) -> Option<PodStatus> {
        let id: PodId = pod.id();
        Some(PodStatus {
            id: id.as_u64(),
            name: pod.name().to_string(),
            dp_rank: pod.dp_rank(),
            domain: pod.domain().name().to_string(),
            role: pod.role().name(),
            labels: pod.labels().clone(),
            capacity: pod.capacity(),
            accepting: pod.is_accepting(),
            trust: pod.trust().name(),
            load: pod.load(),
            overloaded: pod.is_overloaded(),
            failures: pod.failures().0,
            booked: pod.bookings(),
            booked_by_peers: pod.peer_bookings(),
            audit: pod.audit(),
            stream: self.index.counters(id).ok()?,
            parked_blocks: self.index.parked_blocks(id).ok()?,
            predicted: self.index.predicted(id).ok()?,
        })
    }
}
