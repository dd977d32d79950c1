//! The event loop.

use std::collections::BTreeMap;

use kvroute_core::{HashContext, Role};

use super::pod::Pod;
use super::policy::{Finish, Placement, PodEvent, PodView, Policy};
use super::queue::Queue;
use super::record::{PodUse, RequestRecord, Run};
use super::{FleetOptions, PodChange, PodSpec};
use crate::engine::{Engine, EngineError, EngineOptions, EngineRequest};
use crate::workload::{FleetRequest, Load, answer};

/// Something that is to happen. A *leg* is a request's stay at one engine and its id there; an event of
/// a leg that is over is void, as is one of an earlier life of a pod.
#[derive(Debug)]
enum Event {
    /// The next of the requests that wait for no answer arrives.
    Arrival(FleetRequest),
    /// A client that was answered goes on.
    FollowUp(FleetRequest),
    /// A leg's request is parsed.
    Parsed { leg: u64 },
    /// A pod's step ends.
    StepEnds { pod: usize, life: u32 },
    /// The KV that a leg waits for has come.
    Transferred { pod: usize, life: u32, leg: u64 },
    /// The gateway gets the first token of a leg.
    FirstToken { leg: u64 },
    /// The gateway gets the last token of a leg.
    LastToken { leg: u64 },
    /// All pods report their load.
    Report,
    /// One of the options' changes.
    Change(PodChange),
}

/// A request that is not answered yet.
#[derive(Debug)]
struct Flight {
    request: FleetRequest,
    /// Place of its record.
    record: usize,
    placement: Placement,
    /// Whether this leg is at the prefill pod.
    is_prefill: bool,
    /// Whether the prefill pod's blocks are still needed.
    needs_prefill_pod: bool,
    /// Tokens of the answer so far, in this leg.
    answered: u32,
}

impl Flight {
    /// The pod of this leg.
    fn pod(&self) -> usize {
        self.placement.prefill.filter(|_| self.is_prefill).unwrap_or(self.placement.decode)
    }

    /// Whether the death of this pod ends it.
    fn depends_on(&self, pod: usize) -> bool {
        self.placement.decode == pod || (self.needs_prefill_pod && self.placement.prefill == Some(pod))
    }
}

/// A run under way.
pub(super) struct Simulation<'a, L> {
    queue: Queue<Event>,
    load: L,
    /// Requests in the queue that have not arrived.
    expected: usize,
    pods: Vec<Pod>,
    views: Vec<PodView>,
    /// By leg.
    flights: BTreeMap<u64, Flight>,
    next_leg: u64,
    records: Vec<RequestRecord>,
    policy: &'a mut dyn Policy,
    report_interval: f64,
    now: f64,
}

impl<'a, L: Load> Simulation<'a, L> {
    pub(super) fn new(
        options: &FleetOptions,
        load: L,
        policy: &'a mut dyn Policy,
    ) -> Result<Self, EngineError> {
        let mut simulation = Self {
            queue: Queue::new(),
            load,
            expected: 0,
            pods: Vec::new(),
            views: Vec::new(),
            flights: BTreeMap::new(),
            next_leg: 0,
            records: Vec::new(),
            policy,
            report_interval: options.report_interval,
            now: 0.0,
        };
        for (time, change) in &options.changes {
            simulation.queue.push(*time, Event::Change(change.clone()));
        }
        simulation.queue.push(options.report_interval, Event::Report);
        for spec in &options.pods {
            simulation.join(spec.clone())?;
        }
        simulation.expect_arrival();
        Ok(simulation)
    }

    pub(super) fn run(mut self) -> Result<Run, EngineError> {
        while self.expected > 0 || !self.flights.is_empty() {
            let Some((time, event)) = self.queue.pop() else { break };
            self.now = time;
            match event {
                Event::Arrival(request) => {
                    self.expect_arrival();
                    self.arrive(request);
                }
                Event::FollowUp(request) => self.arrive(request),
                Event::Parsed { leg } => self.enter(leg),
                Event::StepEnds { pod, life } if self.is_alive(pod, life) => self.end_step(pod),
                Event::Transferred { pod, life, leg } if self.is_alive(pod, life) => {
                    self.transferred(pod, leg)
                }
                Event::StepEnds { .. } | Event::Transferred { .. } => {}
                Event::FirstToken { leg } => self.first_token(leg),
                Event::LastToken { leg } => self.last_token(leg),
                Event::Report => self.report(),
                Event::Change(change) => self.change(change)?,
            }
        }
        let busy = self.pods.iter().map(|pod| pod.busy).collect();
        Ok(Run { records: self.records, busy })
    }

    fn is_alive(&self, pod: usize, life: u32) -> bool {
        self.pods[pod].life == life && self.pods[pod].engine().is_some()
    }

    /// Puts the next arrival in the queue.
    fn expect_arrival(&mut self) {
        if let Some(request) = self.load.next_arrival() {
            self.expected += 1;
            self.queue.push(request.arrival, Event::Arrival(request));
        }
    }

    fn arrive(&mut self, request: FleetRequest) {
        self.expected -= 1;
        self.records.push(RequestRecord {
            id: request.id,
            session: request.session,
            arrival: request.arrival,
            prompt_tokens: request.token_ids.len(),
            tries: 0,
            decode: None,
            prefill: None,
            transferred_tokens: 0,
            first_token: None,
            finished: None,
            output_tokens: request.output_tokens,
        });
        self.place(request, self.records.len() - 1);
    }

    /// Asks the policy and sends the request off.
    fn place(&mut self, request: FleetRequest, record: usize) {
        if !self.views.iter().any(|view| view.takes(&request, Role::Decode)) {
            return;
        }
        let placement = self.policy.place(&request, &self.views, self.now);
        let uses = |pod: usize| {
            let engine = self.pods.get(pod)?.engine()?;
            self.views[pod].serves(&request).then(|| PodUse {
                pod,
                announced_tokens: announced(engine, &request),
                cached_tokens: None,
            })
        };
        let (decode, prefill) = (uses(placement.decode), placement.prefill.map(uses));
        let entry = &mut self.records[record];
        entry.tries += 1;
        entry.decode = decode;
        entry.prefill = prefill.flatten();
        if decode.is_none() || prefill == Some(None) {
            return;
        }
        self.views[placement.decode].in_flight += 1;
        if let Some(prefill) = placement.prefill {
            self.views[prefill].in_flight += 1;
        }
        let is_prefill = placement.prefill.is_some();
        let needs_prefill_pod = is_prefill;
        self.send(Flight { request, record, placement, is_prefill, needs_prefill_pod, answered: 0 });
    }

    /// Begins a leg.
    fn send(&mut self, flight: Flight) {
        let parsed = self.pods[flight.pod()].send(flight.request.token_ids.len(), self.now);
        let leg = self.next_leg;
        self.next_leg += 1;
        self.flights.insert(leg, flight);
        self.queue.push(parsed, Event::Parsed { leg });
    }

    fn enter(&mut self, leg: u64) {
        let Some(flight) = self.flights.get(&leg) else { return };
        let pod = flight.pod();
        let request = EngineRequest {
            id: leg,
            token_ids: flight.request.token_ids.clone(),
            context: HashContext::clone(&flight.request.context),
            max_tokens: if flight.is_prefill { 1 } else { flight.request.output_tokens },
            transferred: flight.needs_prefill_pod && !flight.is_prefill,
        };
        self.pods[pod].enter(request, self.now);
        self.begin_step(pod, None);
    }

    fn begin_step(&mut self, pod: usize, previous: Option<f64>) {
        let mut refused = Vec::new();
        let begun = self.pods[pod].begin(previous, self.now, &mut refused);
        for leg in refused {
            self.drop_flight(leg);
        }
        let Some(begun) = begun else { return };
        for admitted in begun.admitted {
            let Some(flight) = self.flights.get(&admitted.id) else { continue };
            let record = &mut self.records[flight.record];
            let used = if flight.is_prefill { &mut record.prefill } else { &mut record.decode };
            if let Some(used) = used {
                used.cached_tokens = Some(admitted.cached_tokens as usize);
            }
            if !flight.is_prefill {
                record.transferred_tokens = admitted.transferred_tokens as usize;
            }
        }
        let Pod { spec, life, .. } = &self.pods[pod];
        for loading in begun.loading {
            let time = self.now + spec.timing.transfer(loading.transferred_tokens);
            self.queue.push(time, Event::Transferred { pod, life: *life, leg: loading.id });
        }
        self.queue.push(begun.ends, Event::StepEnds { pod, life: *life });
    }

    fn end_step(&mut self, pod: usize) {
        let flights = &mut self.flights;
        let sample = |leg: u64| {
            let Some(flight) = flights.get_mut(&leg) else { return 0 };
            flight.answered += 1;
            answer(flight.request.id, flight.answered - 1)
        };
        let Some((began, result)) = self.pods[pod].end(self.now, sample) else { return };
        if let Some((sequence, payload)) = result.batch {
            self.policy.on_batch(pod, sequence, &payload, self.now);
        }
        let received = self.now + self.pods[pod].spec.timing.response;
        for token in result.produced {
            if token.is_first {
                self.queue.push(received, Event::FirstToken { leg: token.id });
            }
            if token.is_last {
                self.queue.push(received, Event::LastToken { leg: token.id });
            }
        }
        self.begin_step(pod, Some(began));
    }

    fn transferred(&mut self, pod: usize, leg: u64) {
        if let Some(flight) = self.flights.get_mut(&leg) {
            flight.needs_prefill_pod = false;
        }
        self.pods[pod].transferred(leg);
        self.begin_step(pod, None);
    }

    fn first_token(&mut self, leg: u64) {
        let Some(flight) = self.flights.get(&leg).filter(|flight| !flight.is_prefill) else { return };
        let record = &mut self.records[flight.record];
        record.first_token.get_or_insert(self.now);
        self.policy.on_first_token(record.id, self.now);
    }

    fn last_token(&mut self, leg: u64) {
        let Some(mut flight) = self.flights.remove(&leg) else { return };
        self.views[flight.pod()].in_flight -= 1;
        let record = &mut self.records[flight.record];
        if flight.is_prefill {
            (flight.is_prefill, flight.answered) = (false, 0);
            self.policy.on_prefilled(record.id, self.now);
            self.send(flight);
            return;
        }
        record.finished = Some(self.now);
        let finish = Finish {
            pod: flight.placement.decode,
            prompt_tokens: record.prompt_tokens,
            cached_tokens: record.decode.and_then(|used| used.cached_tokens).unwrap_or(0),
        };
        self.policy.on_finish(record.id, finish, self.now);
        if let Some(next) = self.load.follow_up(record.id, self.now) {
            self.expected += 1;
            self.queue.push(next.arrival, Event::FollowUp(next));
        }
    }

    fn report(&mut self) {
        for (pod, report) in self.pods.iter().enumerate() {
            if let Some(report) = report.report() {
                self.policy.on_report(pod, report, self.now);
            }
        }
        self.queue.push(self.now + self.report_interval, Event::Report);
    }

    fn change(&mut self, change: PodChange) -> Result<(), EngineError> {
        match change {
            PodChange::Join(spec) => return self.join(spec),
            PodChange::Drain(pod) if self.views.get(pod).is_some_and(|view| view.accepting) => {
                self.views[pod].accepting = false;
                self.policy.on_pod_event(pod, PodEvent::Draining, &self.views, self.now);
            }
            PodChange::Die(pod) if self.pods.get(pod).is_some_and(|pod| pod.engine().is_some()) => {
                self.die(pod)
            }
            PodChange::Return(pod) if self.views.get(pod).is_some_and(|view| !view.accepting) => {
                if self.pods[pod].engine().is_none() {
                    self.pods[pod].restart(self.now)?;
                }
                self.views[pod].accepting = true;
                self.policy.on_pod_event(pod, PodEvent::Returned, &self.views, self.now);
            }
            _ => {}
        }
        Ok(())
    }

    fn join(&mut self, mut spec: PodSpec) -> Result<(), EngineError> {
        spec.engine.events &= self.policy.reads_events();
        self.views.push(PodView {
            name: spec.name.clone(),
            role: spec.role,
            models: spec.models.clone(),
            accepting: true,
            in_flight: 0,
        });
        self.pods.push(Pod::start(spec)?);
        self.policy.on_pod_event(self.pods.len() - 1, PodEvent::Joined, &self.views, self.now);
        Ok(())
    }

    fn die(&mut self, pod: usize) {
        self.pods[pod].die();
        self.views[pod].accepting = false;
        let lost: Vec<u64> =
            self.flights.iter().filter(|(_, flight)| flight.depends_on(pod)).map(|(&leg, _)| leg).collect();
        let lost: Vec<Flight> = lost.into_iter().filter_map(|leg| self.drop_flight(leg)).collect();
        self.policy.on_pod_event(pod, PodEvent::Died, &self.views, self.now);
        for flight in lost {
            self.policy.on_failure(flight.request.id, self.now);
            self.place(flight.request, flight.record);
        }
    }

    /// Forgets a request that cannot go on, at the gateway and at the pod it is at.
    fn drop_flight(&mut self, leg: u64) -> Option<Flight> {
        let flight = self.flights.remove(&leg)?;
        self.views[flight.placement.decode].in_flight -= 1;
        if let Some(prefill) = flight.placement.prefill.filter(|_| flight.is_prefill) {
            self.views[prefill].in_flight -= 1;
        }
        self.pods[flight.pod()].abort(leg);
        Some(flight)
    }
}

/// Prompt tokens that an engine would find cached by what it has announced.
fn announced(engine: &Engine, request: &FleetRequest) -> usize {
    let EngineOptions { events, block_size, .. } = engine.options();
    if !events {
        return 0;
    }
    let block_size = *block_size as usize;
    let blocks = request.token_ids.blocks(engine.hasher(), &request.context);
    let usable = blocks.len().min(request.token_ids.len().saturating_sub(1) / block_size);
    engine.announced_blocks(&blocks[..usable]) * block_size
}
