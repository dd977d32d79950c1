//! kvroute as a fleet's policy: it sees what a gateway sees, and decodes what the engines really publish.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashMap;
use kvroute_core::decision::Explanation;
use kvroute_core::index::CopyPolicy;
use kvroute_core::{
    CacheDomain, Decision, Error, LoadReport, OutcomeRecord, PodId, PodSpec, RecordOptions, Request, Role,
    Router, Session, Ticket, Workspace,
};

use super::policy::{Finish, Placement, PodEvent, PodView, Policy};
use crate::workload::FleetRequest;

/// What was decided for one request.
#[derive(Clone, Debug)]
pub struct Routed {
    /// The request.
    pub request: u64,
    /// What the router decided.
    pub decision: Decision,
    /// Times it decided again because of a concurrent booking.
    pub retries: u32,
    /// Real time that the whole dispatch took: hash, look up, score, pick, book, record.
    pub overhead: Duration,
    /// Why, if asked for.
    pub explanation: Option<Explanation>,
}

/// How a pod of the router is made from one of the fleet.
type MakeSpec = dyn Fn(&PodView, PodSpec) -> PodSpec + Send + Sync;

/// One such way.
struct PodSpecs(Box<MakeSpec>);

impl fmt::Debug for PodSpecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PodSpecs")
    }
}

/// A [`Router`] that chooses for a fleet. It is told each request's model, adapter and salt.
#[derive(Debug)]
pub struct KvroutePolicy {
    router: Router,
    domain: Arc<CacheDomain>,
    specs: PodSpecs,
    workspace: Workspace,
    /// By the fleet's number of the pod; `None` while it is not there.
    pods: Vec<Option<PodId>>,
    tickets: HashMap<u64, Ticket>,
    sessions: bool,
    explain: bool,
    /// Lines of a decision log, if one is kept.
    log: Option<String>,
    routed: Vec<Routed>,
    errors: Vec<Error>,
    /// When the router last let go of what is over.
    expired: f64,
}

impl KvroutePolicy {
    /// A router without pods, which the fleet adds; all are of one cache domain, have no labels and a capacity of 1.
    #[must_use]
    pub fn new(router: Router, domain: Arc<CacheDomain>) -> Self {
        Self {
            router,
            domain,
            specs: PodSpecs(Box::new(|_, spec| spec)),
            workspace: Workspace::default(),
            pods: Vec::new(),
            tickets: HashMap::new(),
            sessions: false,
            explain: false,
            log: None,
            routed: Vec::new(),
            errors: Vec::new(),
            expired: 0.0,
        }
    }

    /// Makes the router's pods by this function: it gets a pod of the fleet and what the router would be told of it,
    /// and may change domain, labels or capacity.
    #[must_use]
    pub fn with_pod_specs(
        mut self,
        specs: impl Fn(&PodView, PodSpec) -> PodSpec + Send + Sync + 'static,
    ) -> Self {
        self.specs = PodSpecs(Box::new(specs));
        self
    }

    /// Tells the router each request's session, as clients that send a session id would.
    #[must_use]
    pub fn with_sessions(mut self) -> Self {
        self.sessions = true;
        self
    }

    /// Keeps an explanation of every decision.
    #[must_use]
    pub fn with_explanations(mut self) -> Self {
        self.explain = true;
        self
    }

    /// Keeps a decision log.
    #[must_use]
    pub fn with_log(mut self) -> Self {
        self.log = Some(String::new());
        self
    }

    /// Its lines so far, each with its end; empty if none is kept.
    #[must_use]
    pub fn log(&self) -> &str {
        self.log.as_deref().unwrap_or_default()
    }

    /// The router.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// What was decided, in order.
    #[must_use]
    pub fn routed(&self) -> &[Routed] {
        &self.routed
    }

    /// The same, to keep.
    #[must_use]
    pub fn into_routed(self) -> Vec<Routed> {
        self.routed
    }

    /// What went wrong. Nothing should.
    #[must_use]
    pub fn errors(&self) -> &[Error] {
        &self.errors
    }

    fn dispatch(&mut self, request: &FleetRequest, now: f64) -> Result<Placement, Error> {
        let id = request.session.to_string();
        let session = self.sessions.then_some(Session::Id(&id));
        let model = request.model.as_deref();
        let asked = Request { model, session, ..Request::new(&request.token_ids, &request.context) };
        let start = Instant::now();
        let dispatch = self.router.dispatch(&asked, Duration::from_secs_f64(now), &mut self.workspace)?;
        let overhead = start.elapsed();
        if let Some(log) = &mut self.log {
            let options = RecordOptions::default();
            let record = self.router.record(&asked, &self.workspace, Some(&dispatch), options);
            log.extend(record.map(|record| record.to_json() + "\n"));
        }
        self.tickets.insert(request.id, dispatch.ticket);
        self.routed.push(Routed {
            request: request.id,
            decision: dispatch.decision,
            retries: dispatch.retries,
            overhead,
            explanation: self.explain.then(|| self.router.explain(&self.workspace)),
        });
        let place = |id: PodId| self.pods.iter().position(|&pod| pod == Some(id)).unwrap_or(0);
        let prefill = dispatch.decision.prefill.map(|prefill| place(prefill.pod));
        Ok(Placement { decode: place(dispatch.decision.pod), prefill })
    }

    fn finish(
        &mut self,
        request: u64,
        how: kvroute_core::Finish,
        engine_cached_tokens: Option<usize>,
        now: f64,
    ) {
        let Some(ticket) = self.tickets.remove(&request) else { return };
        self.router.finish(ticket, how, engine_cached_tokens);
        if let Some(log) = &mut self.log {
            let now = Duration::from_secs_f64(now);
            let outcome = OutcomeRecord::new(ticket, how, engine_cached_tokens, now);
            log.extend([outcome.to_json(), "\n".into()]);
        }
    }

    fn note<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn id(&self, pod: usize) -> Option<PodId> {
        self.pods.get(pod).copied().flatten()
    }
}

impl Policy for KvroutePolicy {
    fn place(&mut self, request: &FleetRequest, _: &[PodView], now: f64) -> Placement {
        let placed = self.dispatch(request, now);
        self.note(placed).unwrap_or(Placement::on(0))
    }

    fn on_batch(&mut self, pod: usize, sequence: u64, payload: &[u8], _: f64) {
        if let Some(id) = self.id(pod) {
            let applied = self.router.apply(id, sequence, payload);
            self.note(applied);
        }
    }

    fn on_report(&mut self, pod: usize, report: LoadReport, now: f64) {
        // Once for all pods that report at this instant.
        if now > self.expired {
            self.expired = now;
            self.router.expire(Duration::from_secs_f64(now));
        }
        if let Some(id) = self.id(pod) {
            let taken = self.router.report_load(id, report);
            self.note(taken);
        }
    }

    fn on_first_token(&mut self, request: u64, _: f64) {
        if let Some(&ticket) = self.tickets.get(&request) {
            self.router.first_token(ticket);
        }
    }

    fn on_finish(&mut self, request: u64, finish: Finish, now: f64) {
        self.finish(request, kvroute_core::Finish::Completed, Some(finish.cached_tokens), now);
    }

    fn on_failure(&mut self, request: u64, now: f64) {
        self.finish(request, kvroute_core::Finish::Failed, None, now);
    }

    fn on_pod_event(&mut self, pod: usize, event: PodEvent, pods: &[PodView], _: f64) {
        self.pods.resize(self.pods.len().max(pods.len()), None);
        match event {
            PodEvent::Joined | PodEvent::Returned => {
                let mut spec = PodSpec::new(pods[pod].name.clone(), Arc::clone(&self.domain));
                spec.role = pods[pod].role;
                // Two requests that load one prefix from prefill pods at once are copies that read like a report.
                if spec.role == Role::Decode {
                    spec.options.copies = CopyPolicy::Count;
                }
                let added = self.router.add_pod((self.specs.0)(&pods[pod], spec));
                self.pods[pod] = self.note(added);
            }
            PodEvent::Draining => {
                if let Some(id) = self.id(pod) {
                    let set = self.router.set_accepting(id, false);
                    self.note(set);
                }
            }
            PodEvent::Died => {
                if let Some(id) = self.pods[pod].take() {
                    let removed = self.router.remove_pod(id);
                    self.note(removed);
                }
            }
        }
    }
}
