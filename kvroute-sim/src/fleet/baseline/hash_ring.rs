//! Consistent hashing, with and without a bound on load.

use super::{decoding, pick};
use crate::fleet::policy::{Placement, PodView, Policy};
use crate::random;
use crate::workload::FleetRequest;

/// Places of a pod on the ring (KubeAI's `replication`).
const VIRTUAL_NODES: u64 = 256;

/// A ring of hashes on which every pod has 256 places; a request goes to the pod at or behind its
/// key's hash, so that pods that come and go move few keys.
#[derive(Clone, Debug)]
pub struct HashRing {
    key: Key,
    /// How far above the mean number of requests in flight a pod may be.
    load_factor: Option<f64>,
    /// The pods on the ring.
    members: Vec<usize>,
    /// Hashes and pods, in order.
    places: Vec<(u64, usize)>,
}

/// What is hashed of a request.
#[derive(Clone, Copy, Debug)]
enum Key {
    Session,
    FirstTokens(usize),
}

impl HashRing {
    /// By the request's session, whatever the loads: what gateways call session affinity (vLLM
    /// production-stack's `session` routing).
    #[must_use]
    pub fn sessions() -> Self {
        Self { key: Key::Session, load_factor: None, members: Vec::new(), places: Vec::new() }
    }

    /// Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016) as KubeAI does it for
    /// prefixes: the key is the prompt's beginning, and a pod that would have more than 1.25 times the mean
    /// number of requests in flight is passed by. KubeAI hashes 100 characters, which are about 25 tokens.
    #[must_use]
    pub fn bounded() -> Self {
        Self { key: Key::FirstTokens(25), load_factor: Some(1.25), members: Vec::new(), places: Vec::new() }
    }

    /// Makes the ring anew if the pods that take the request are others.
    fn follow(&mut self, request: &FleetRequest, pods: &[PodView]) {
        if decoding(request, pods).eq(self.members.iter().copied()) {
            return;
        }
        self.members = decoding(request, pods).collect();
        let places = self.members.iter().flat_map(|&pod| {
            (0..VIRTUAL_NODES).map(move |node| (random::at(random::at(0, pod as u64), node), pod))
        });
        self.places = places.collect();
        self.places.sort_unstable();
    }

    fn hash(&self, request: &FleetRequest) -> u64 {
        match self.key {
            Key::Session => random::at(1, request.session),
            Key::FirstTokens(count) => {
                let first = request.token_ids.iter().take(count);
                first.fold(2, |hash, &token| random::at(hash, token.into()))
            }
        }
    }
}

impl Policy for HashRing {
    fn reads_events(&self) -> bool {
        false
    }

    fn place(&mut self, request: &FleetRequest, pods: &[PodView], _: f64) -> Placement {
        self.follow(request, pods);
        let hash = self.hash(request);
        let first = self.places.partition_point(|&(place, _)| place < hash);
        let mut clockwise = self.places[first..].iter().chain(&self.places[..first]).map(|&(_, pod)| pod);
        let in_flight: usize = self.members.iter().map(|&pod| pods[pod].in_flight).sum();
        let mean = (in_flight + 1) as f64 / (self.members.len() as f64).max(1.0);
        let has_room =
            |pod: usize| self.load_factor.is_none_or(|factor| pods[pod].in_flight as f64 <= mean * factor);
        let own = clockwise.clone().next();
        pick(clockwise.find(|&pod| has_room(pod)).or(own).into_iter(), 0)
    }
}
