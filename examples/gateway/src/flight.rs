//! A request from its arrival to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use kvroute_core::{Finish, OutcomeRecord, Ticket};

use crate::gateway::Gateway;
use crate::outcome::{CacheStatus, RequestOutcome};
use crate::request::{Asked, Endpoint};
use crate::route::Route;
use crate::usage::{Form, UsageReader};
use crate::watch::TraceContext;

/// A request in flight. However it ends, also by being dropped because its client went away, what was booked for it is
/// given back, once, and those who watch are told, once.
#[derive(Debug)]
pub struct Flight {
    gateway: Arc<Gateway>,
    arrived: Instant,
    outcome: RequestOutcome,
    ticket: Option<Ticket>,
    /// Whether the engine's count of cached tokens would be that of the prompt that was routed.
    is_countable: bool,
    reader: Option<UsageReader>,
}

impl Flight {
    /// A request whose head has just arrived.
    pub fn new(gateway: Arc<Gateway>, endpoint: Endpoint) -> Self {
        let outcome = RequestOutcome::new(endpoint);
        gateway.watch().started();
        Self { gateway, arrived: Instant::now(), outcome, ticket: None, is_countable: false, reader: None }
    }

    /// Its last byte arrived.
    pub fn received(&mut self) {
        self.arrived = Instant::now();
    }

    /// Notes what it asks for.
    pub fn asks(&mut self, asked: &Asked, headers: &HeaderMap) {
        self.outcome.model.clone_from(&asked.model);
        self.outcome.prompt = asked.prompt.name();
        self.outcome.untokenized = asked.untokenized;
        self.is_countable = asked.is_countable;
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        self.outcome.request_id = id.map(|id| id.chars().take(128).collect());
    }

    /// Notes its place in a trace.
    pub fn belongs_to(&mut self, trace: Option<TraceContext>) {
        self.outcome.trace = trace;
    }

    /// A tokenizer was asked for it, for so long.
    pub fn tokenized(&mut self, took: Option<Duration>) {
        self.outcome.tokenization = took;
    }

    /// It is about to be sent to a pod.
    pub fn sent(&mut self, route: &mut Route) {
        self.goes_to(route);
        self.outcome.overhead = self.arrived.elapsed();
    }

    /// Notes where it goes, and why.
    fn goes_to(&mut self, route: &mut Route) {
        self.ticket = route.ticket;
        self.outcome.pod = Some(Arc::clone(&route.pod.name));
        self.outcome.dp_rank = route.pod.rank;
        self.outcome.prefill_pod = route.prefill.as_ref().map(|pod| Arc::clone(&pod.name));
        self.outcome.prefill_dp_rank = route.prefill.as_ref().map_or(0, |pod| pod.rank);
        self.outcome.prefill_reason = None;
        self.outcome.margin = route.margin;
        self.outcome.explanation = route.explanation.take();
        if let Some(decision) = &route.decision {
            self.outcome.prompt_tokens = route.prompt_tokens;
            self.outcome.expected_cached_tokens = decision.matched_tokens;
            self.outcome.uncached_tokens = decision.uncached_tokens;
            self.outcome.reason = Some(decision.reason);
            self.outcome.total = decision.total;
            self.outcome.candidates = decision.candidates;
            self.outcome.prefill_reason = decision.prefill.map(|prefill| prefill.reason);
        }
    }

    /// The pod it was sent to did not answer, and another one is to be asked.
    pub fn failed_once(&mut self) {
        self.outcome.retries += 1;
        self.give_back(Finish::Failed);
    }

    /// Somebody else took it to another pod than it was sent to, which `elsewhere` is the route to; `None`: to nobody that
    /// is known here. What was booked goes from the one to the other. `how` is what that says of the pod it was sent to:
    /// that it failed, or only that it was not asked.
    pub fn moved(&mut self, how: Finish, elsewhere: Option<&mut Route>) {
        self.outcome.retries += u32::from(how == Finish::Failed);
        self.give_back(how);
        match elsewhere {
            Some(route) => self.goes_to(route),
            None => {
                (self.outcome.pod, self.outcome.dp_rank) = (None, 0);
                (self.outcome.prefill_pod, self.outcome.reason) = (None, None);
            }
        }
    }

    /// What became of it so far.
    pub fn outcome(&self) -> &RequestOutcome {
        &self.outcome
    }

    /// The head of the answer goes to the client.
    pub fn answered(&mut self, status: u16, headers: &HeaderMap) {
        self.outcome.status = status;
        if !self.is_success() || !self.outcome.endpoint.generates() || headers.contains_key(CONTENT_ENCODING)
        {
            return;
        }
        let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let form = if kind.starts_with(b"text/event-stream") {
            Form::Events
        } else if kind.starts_with(b"application/json") {
            Form::Document
        } else {
            return;
        };
        self.reader = Some(UsageReader::new(form));
    }

    /// A piece of the answer's body passes by.
    pub fn passes(&mut self, piece: &[u8]) {
        if self.outcome.first_byte.is_none() {
            self.outcome.first_byte = Some(self.arrived.elapsed());
            if let Some(ticket) = self.ticket.filter(|_| self.is_success()) {
                self.gateway.router().first_token(ticket);
            }
        }
        if let Some(reader) = &mut self.reader {
            reader.push(piece);
        }
    }

    /// The answer is whole. One that refuses the request says nothing against the pod, and left nothing in its cache.
    pub fn completed(&mut self) {
        self.outcome.end = match self.outcome.status {
            status if status >= 500 => Finish::Failed,
            status if status >= 400 => Finish::Cancelled,
            _ => Finish::Completed,
        };
    }

    /// The pod failed.
    pub fn failed(&mut self) {
        self.outcome.end = Finish::Failed;
    }

    /// The gateway answers by itself, with this status.
    pub fn refused(&mut self, status: u16) {
        self.outcome.status = status;
        self.completed();
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.outcome.status)
    }

    fn give_back(&mut self, how: Finish) {
        let Some(ticket) = self.ticket.take() else { return };
        let cached = self.outcome.engine_cached_tokens;
        self.gateway.router().finish(ticket, how, cached);
        if let Some(log) = self.gateway.decision_log() {
            log.write(OutcomeRecord::new(ticket, how, cached, self.gateway.now()).to_json());
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.is_countable {
            let usage = self.reader.as_ref().and_then(UsageReader::usage);
            self.outcome.engine_cached_tokens = usage.and_then(|usage| usage.cached_tokens);
            let counted = usage.filter(|usage| usage.cached_tokens.is_some());
            self.outcome.engine_prompt_tokens = counted.and_then(|usage| usage.prompt_tokens);
        }
        self.give_back(self.outcome.end);
        let outcome = &mut self.outcome;
        if outcome.reason.is_some() {
            let cached = outcome.engine_cached_tokens.unwrap_or(outcome.expected_cached_tokens);
            outcome.cache = CacheStatus::of(cached, outcome.prompt_tokens);
        }
        outcome.duration = self.arrived.elapsed();
        self.gateway.observe(outcome);
    }
}
