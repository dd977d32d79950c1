//! A pod's place in the router: joining and leaving it, with its streams of events.

use std::collections::BTreeMap;
use std::sync::Arc;

use kvroute_core::config::PodConfig as RouterPodConfig;
use kvroute_core::index::GapPolicy;
use kvroute_core::{CacheDomain, PodId, PodSpec, Router};
use parking_lot::Mutex;

use super::Target;
use super::directory::Directory;
use crate::events::{Stream, SubscribeError, Subscriber};
use crate::pods::{EventStream, Knowledge, PodConfig};

/// What all pods share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) router: Arc<Router>,
    pub(super) directory: Directory,
    pub(super) subscriber: Subscriber,
    /// Streams that are to be subscribed to, but not yet; `None`: nothing waits.
    pub(super) held: Mutex<Option<Vec<(PodId, EventStream)>>>,
}

impl Shared {
    /// Subscribes to a pod's events, or has that wait.
    fn subscribe(&self, pod: PodId, stream: &EventStream) -> Result<(), SubscribeError> {
        if let Some(held) = &mut *self.held.lock() {
            held.push((pod, stream.clone()));
            return Ok(());
        }
        let EventStream { endpoint, mode, replay_endpoint, topic, rank: _ } = stream.clone();
        self.subscriber.add(Stream { pod, endpoint, mode, replay_endpoint, topic })
    }

    /// Subscribes to all that waits; from now on nothing does.
    pub(super) fn release(&self) {
        let held = self.held.lock().take();
        for (pod, stream) in held.into_iter().flatten() {
            // One that left meanwhile has no events any more.
            if self.router.pod_by_id(pod).is_ok()
                && let Err(error) = self.subscribe(pod, &stream)
            {
                tracing::warn!(%pod, endpoint = stream.endpoint, %error, "no events");
            }
        }
    }
}

/// What a pod is in the router. Whether two are equal tells whether it has to join anew.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    /// Name, URL, role, labels, capacity, and how the stream is read.
    pub(super) pod: PodConfig,
    pub(super) domain: Arc<CacheDomain>,
    pub(super) ranks: Vec<u32>,
    pub(super) streams: Vec<EventStream>,
}

impl PartialEq for Membership {
    fn eq(&self, other: &Self) -> bool {
        let domain = |membership: &Self| {
            let domain = &membership.domain;
            (domain.name().to_string(), domain.hasher().clone(), domain.models().to_vec())
        };
        // What is known beforehand only counts by what follows from it.
        let pod = |membership: &Self| PodConfig { known: Default::default(), ..membership.pod.clone() };
        pod(self) == pod(other)
            && self.ranks == other.ranks
            && self.streams == other.streams
            && domain(self) == domain(other)
    }
}

impl Membership {
    pub(super) fn new(pod: &PodConfig, domain: Arc<CacheDomain>, knowledge: &Knowledge) -> Self {
        Self {
            pod: pod.clone(),
            domain,
            ranks: knowledge.ranks.value.clone().unwrap_or_default(),
            streams: knowledge.streams.clone(),
        }
    }

    /// Puts the pod into the router, a pod for each rank, and subscribes to its events. Answers the ids, in the order of
    /// the ranks, and what is wrong with subscriptions.
    ///
    /// # Errors
    ///
    /// Why the router does not take it; then nothing of it is there.
    pub(super) fn join(&self, shared: &Shared) -> Result<(Vec<PodId>, Vec<String>), String> {
        let mut ids = Vec::with_capacity(self.ranks.len());
        let mut troubles = Vec::new();
        for &rank in &self.ranks {
            let stream = self.streams.iter().find(|stream| stream.rank == rank);
            let id = self.spec(rank, stream).and_then(|spec| shared.router.add_pod(spec));
            let id = match id {
                Ok(id) => id,
                Err(error) => {
                    leave(shared, &ids);
                    return Err(error.to_string());
                }
            };
            ids.push(id);
            let ranks = u32::try_from(self.ranks.len()).unwrap_or(u32::MAX);
            let target = Target { name: self.pod.name(), url: self.pod.url.clone(), rank, ranks };
            shared.directory.insert(id, target);
            if let Some(Err(why)) = stream.map(|stream| shared.subscribe(id, stream)) {
                troubles.push(format!("no events of rank {rank}: {why}"));
            }
        }
        Ok((ids, troubles))
    }

    fn spec(&self, rank: u32, stream: Option<&EventStream>) -> Result<PodSpec, kvroute_core::Error> {
        let config = RouterPodConfig {
            name: self.pod.name(),
            dp_rank: rank,
            domain: self.domain.name().into(),
            role: self.pod.role,
            labels: self.pod.labels.clone(),
            capacity: self.pod.capacity,
            events: self.pod.stream.clone(),
        };
        let domains = BTreeMap::from([(config.domain.clone(), Arc::clone(&self.domain))]);
        let mut spec = config.spec(&domains)?;
        if stream.is_some_and(|stream| stream.replay_endpoint.is_some()) {
            spec.options.on_gap = GapPolicy::Replay;
        }
        Ok(spec)
    }
}

/// Takes pods out of the router, with their subscriptions.
pub(super) fn leave(shared: &Shared, ids: &[PodId]) {
    for &id in ids {
        shared.subscriber.remove(id);
        // It is there, unless the embedder removed it itself.
        let _ = shared.router.remove_pod(id);
        shared.directory.remove(id);
    }
}
