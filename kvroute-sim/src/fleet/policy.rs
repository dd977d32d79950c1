//! What chooses pods, and what it gets to see.

use kvroute_core::{LoadReport, Role};

use crate::workload::FleetRequest;

/// A pod as the gateway knows it. Pods are named by their place in the list of all there ever were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// What it is there for.
    pub role: Role,
    /// Names of the models it serves; none if it serves any.
    pub models: Vec<String>,
    /// Whether it takes new requests: it is there and not draining.
    pub accepting: bool,
    /// Requests that the gateway sent there and whose end it has not seen. A request that a prefill pod
    /// computes first counts there until that is done, and at its decode pod from the beginning.
    pub in_flight: usize,
}

impl PodView {
    /// Whether it serves the model that the request asks for.
    #[must_use]
    pub fn serves(&self, request: &FleetRequest) -> bool {
        let is_served = |model| self.models.is_empty() || self.models.iter().any(|served| served == model);
        request.model.as_deref().is_none_or(is_served)
    }

    /// Whether it takes new requests of this kind and serves this one's model. A decode pod can also serve whole
    /// requests.
    #[must_use]
    pub fn takes(&self, request: &FleetRequest, kind: Role) -> bool {
        self.accepting && self.role.serves(kind) && self.serves(request)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The pod that answers.
    pub decode: usize,
    /// The pod that computes the prompt, if it is another.
    pub prefill: Option<usize>,
}

impl Placement {
    /// One pod does all of it.
    #[must_use]
    pub fn on(pod: usize) -> Self {
        Self { decode: pod, prefill: None }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    /// The pod that answered.
    pub pod: usize,
    /// Prompt tokens, and those of them that this pod's own cache held when it was admitted, as `usage`
    /// tells.
    pub prompt_tokens: usize,
    /// See `prompt_tokens`.
    pub cached_tokens: usize,
}

/// What happened to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodEvent {
    /// It is there for the first time, with an empty cache.
    Joined,
    /// It takes no new requests and finishes those it has.
    Draining,
    /// It is gone, with its cache and its requests.
    Died,
    /// It is there again, with an empty cache, and numbers its batches from 0.
    Returned,
}

/// Chooses pods for requests, and may watch what a gateway can see. All hooks but
/// [`place`](Self::place) do nothing by default. `now` is in seconds since the run began.
pub trait Policy {
    /// Chooses for one request; at least one pod [takes](PodView::takes) it. A request that is put on
    /// a pod that is not there, or does not serve its model, fails. After a pod died its requests are asked for again, with the same
    /// id.
    fn place(&mut self, request: &FleetRequest, pods: &[PodView], now: f64) -> Placement;

    /// Whether [`on_batch`](Self::on_batch) does anything. If not, no events are made for this policy, and
    /// nothing counts as announced; all else is as it would be.
    fn reads_events(&self) -> bool {
        true
    }

    /// A batch of KV events, at the instant its step ended: sequence number and msgpack payload.
    fn on_batch(&mut self, pod: usize, sequence: u64, payload: &[u8], now: f64) {
        let _ = (pod, sequence, payload, now);
    }

    /// What a pod says of its load, every `report_interval`.
    fn on_report(&mut self, pod: usize, report: LoadReport, now: f64) {
        let _ = (pod, report, now);
    }

    /// A prefill pod has computed the prompt, and the request moves on to its decode pod.
    fn on_prefilled(&mut self, request: u64, now: f64) {
        let _ = (request, now);
    }

    /// The gateway has the first token of the answer.
    fn on_first_token(&mut self, request: u64, now: f64) {
        let _ = (request, now);
    }

    /// The gateway has the last token.
    fn on_finish(&mut self, request: u64, finish: Finish, now: f64) {
        let _ = (request, finish, now);
    }

    /// A pod died under the request. It is [placed](Self::place) again at once, if any pod can take it.
    fn on_failure(&mut self, request: u64, now: f64) {
        let _ = (request, now);
    }

    /// Pods came or went. Those that are there from the beginning join at time 0.
    fn on_pod_event(&mut self, pod: usize, event: PodEvent, pods: &[PodView], now: f64) {
        let _ = (pod, event, pods, now);
    }
}
