//! One HTTP request, from Envoy's first message about it to the last.
//!
//! ```text
//! Idle -> Receiving -> Sent -> Answering -> Over
//!  `------------------^ (no body)
//! ```
//!
//! Nothing here waits but for a tokenizer. An answer may begin in any state, because Envoy may answer by itself before a
//! request was whole; all else that is out of order ends the stream with an error.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_LENGTH, HeaderMap, SET_COOKIE};
use kvroute_core::Finish;
use kvroute_core::Role;
use kvroute_gateway::error::ApiError;
use kvroute_gateway::flight::Flight;
use kvroute_gateway::gateway::Gateway;
use kvroute_gateway::headers::{PREFILLER, RANK, REQUEST_ID, describe, request_id};
use kvroute_gateway::intake::{Held, Intake};
use kvroute_gateway::request::{Asked, Endpoint, session};
use kvroute_gateway::route::{Among, Route};
use tokio::time::Instant;
use tonic::Status;

use crate::config::Shed;
use crate::headers::{Changes, Head};
use crate::metadata::{self, DESTINATION};
use crate::picker::Picker;
use crate::proto::{
    BodySendMode, Event, HttpBody, HttpHeaders, Metadata, ProcessingRequest, ProcessingResponse,
    ProtocolConfiguration,
};
use crate::reply::{self, Way};

/// What is to be answered, in order.
pub(crate) type Answers = VecDeque<ProcessingResponse>;

/// Headers of a trace, which the picker's span may take the place of.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// An HTTP request.
#[derive(Debug)]
pub(crate) struct Exchange {
    picker: Arc<Picker>,
    modes: Modes,
    metadata: Option<Metadata>,
    flight: Option<Flight>,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Receiving(Box<Receiving>),
    Sent(Box<Sent>),
    Answering,
    Over,
}

/// A request whose body arrives.
#[derive(Debug)]
struct Receiving {
    head: Head,
    intake: Intake,
    /// When all of it must have come.
    deadline: Instant,
}

/// A request on its way to a pod.
#[derive(Debug)]
struct Sent {
    asked: Asked,
    headers: HeaderMap,
    route: Route,
    /// Counts the bytes of its body until they are sent.
    held: Option<Held>,
}

/// How bodies come.
#[derive(Clone, Copy, Debug)]
struct Modes {
    request: BodySendMode,
    response: BodySendMode,
}

impl Modes {
    /// What Envoy says, if requests can be answered that come so.
    fn read(config: ProtocolConfiguration) -> Result<Self, Status> {
        use BodySendMode::{Buffered, FullDuplexStreamed, None, Streamed};
        let modes = Self { request: config.request_body_mode(), response: config.response_body_mode() };
        match (modes.request, modes.response) {
            (None | Buffered | FullDuplexStreamed, None | Streamed | Buffered | FullDuplexStreamed) => {
                Ok(modes)
            }
            (request, response) => Err(Status::failed_precondition(format!(
                "found body modes {request:?} (requests) and {response:?} (responses), expected FullDuplexStreamed; \
                 or Buffered or None, and of responses Streamed"
            ))),
        }
    }
}

impl Exchange {
    pub(crate) fn new(picker: Arc<Picker>) -> Self {
        // Envoys from before `protocol_config` (1.33) say nothing; then it is as the protocol has it.
        let duplex = BodySendMode::FullDuplexStreamed;
        let modes = Modes { request: duplex, response: duplex };
        Self { picker, modes, metadata: None, flight: None, state: State::Idle }
    }

    /// Whether nothing more is to be said.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Until when the request must be whole, while it is not.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Receiving(receiving) => Some(receiving.deadline),
            _ => None,
        }
    }

    /// The request's body has been sent back: its bytes are nobody's any more.
    pub(crate) fn request_is_sent(&mut self) {
        if let State::Sent(sent) = &mut self.state {
            sent.held = None;
        }
    }

    /// The deadline has passed.
    pub(crate) fn too_late(&mut self, answers: &mut Answers) {
        let body_ms = self.gateway().settings().timeouts.body_ms;
        self.refuse(&ApiError::slow_request(body_ms), answers);
    }

    /// Takes Envoy's next message.
    ///
    /// # Errors
    ///
    /// If it makes no sense here; then the stream is to be ended with this status.
    pub(crate) async fn take(
        &mut self,
        message: ProcessingRequest,
        answers: &mut Answers,
    ) -> Result<(), Status> {
        if message.observability_mode {
            return Err(Status::failed_precondition(
                "observability_mode: a picker whose answers do not count is none",
            ));
        }
        if message.metadata_context.is_some() {
            self.metadata = message.metadata_context;
        }
        if let Some(config) = message.protocol_config {
            self.modes = Modes::read(config)?;
        }
        match message.event {
            Some(Event::RequestHeaders(head)) => self.request_head(head, answers),
            Some(Event::RequestBody(body)) => self.request_body(body, answers).await,
            Some(Event::RequestTrailers(_)) => self.request_trailers(answers).await,
            Some(Event::ResponseHeaders(head)) => {
                self.response_head(head, answers);
                Ok(())
            }
            Some(Event::ResponseBody(body)) => self.response_body(body, answers),
            Some(Event::ResponseTrailers(_)) => {
                answers.push_back(reply::trailers(Way::Response));
                self.ended();
                Ok(())
            }
            None => Err(Status::invalid_argument("a message of an unknown kind, or of none")),
        }
    }

    fn gateway(&self) -> &Arc<Gateway> {
        self.picker.gateway()
    }

    fn request_head(&mut self, head: HttpHeaders, answers: &mut Answers) -> Result<(), Status> {
        if !matches!(self.state, State::Idle) {
            return Err(Status::invalid_argument("request_headers twice"));
        }
        let is_whole = head.end_of_stream || self.modes.request == BodySendMode::None;
        let head = Head::read(head.headers);
        let flight = Flight::new(Arc::clone(self.gateway()), Endpoint::of(head.path()));
        self.flight = Some(flight);
        if is_whole {
            // What it asks for is not to be seen: it goes where there is room.
            let sent = Asked::read(Endpoint::Other, b"")
                .and_then(|asked| self.choose(asked, head.headers, None, answers, Whole::Head));
            self.sent_or_refused(sent, answers);
            return Ok(());
        }
        let settings = self.gateway().settings();
        let limit = settings.limits.max_body_bytes;
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > limit as u64) {
            self.refuse(&ApiError::too_large(limit), answers);
            return Ok(());
        }
        if self.modes.request == BodySendMode::Buffered {
            // Only then the body comes.
            answers.push_back(reply::request_head());
        }
        let deadline = Instant::now() + Duration::from_millis(settings.timeouts.body_ms);
        let intake = Intake::new(self.gateway(), limit);
        self.state = State::Receiving(Box::new(Receiving { head, intake, deadline }));
        Ok(())
    }

    async fn request_body(&mut self, body: HttpBody, answers: &mut Answers) -> Result<(), Status> {
        match &mut self.state {
            State::Receiving(receiving) => {
                if let Err(error) = receiving.intake.push(body.body) {
                    self.refuse(&shed_if_full(error), answers);
                } else if body.end_of_stream || self.modes.request == BodySendMode::Buffered {
                    let whole = match self.modes.request {
                        BodySendMode::Buffered => Whole::Buffered,
                        _ => Whole::Stream { has_trailers: false },
                    };
                    self.received(whole, answers).await;
                }
                Ok(())
            }
            // Envoy answered by itself, or we did, while pieces were on their way. And Envoy may say the end of a long
            // body twice (envoyproxy/envoy#46237; 1.35 and later): the first time counts.
            State::Sent(_) | State::Answering | State::Over => Ok(()),
            State::Idle => Err(Status::invalid_argument("request_body before request_headers")),
        }
    }

    async fn request_trailers(&mut self, answers: &mut Answers) -> Result<(), Status> {
        if matches!(self.state, State::Receiving(_)) {
            self.received(Whole::Stream { has_trailers: true }, answers).await;
        }
        match self.state {
            State::Idle => return Err(Status::invalid_argument("request_trailers out of order")),
            State::Over => {}
            _ => answers.push_back(reply::trailers(Way::Request)),
        }
        Ok(())
    }

    /// The request is whole.
    async fn received(&mut self, whole: Whole, answers: &mut Answers) {
        let State::Receiving(receiving) = std::mem::replace(&mut self.state, State::Over) else { return };
        let Receiving { head, intake, .. } = *receiving;
        let (body, held) = intake.finish();
        let Some(flight) = &mut self.flight else { return };
        flight.received();
        let sent = match Asked::read(Endpoint::of(head.path()), &body) {
            Ok(mut asked) => {
                let tokenization = self.picker.gateway().tokenize(&mut asked, &body).await;
                self.picker.gateway().ask_index(&mut asked).await;
                flight.tokenized(tokenization);
                self.choose(asked, head.headers, Some((body, held)), answers, whole)
            }
            Err(error) => Err(error),
        };
        self.sent_or_refused(sent, answers);
    }

    fn sent_or_refused(&mut self, sent: Result<Sent, ApiError>, answers: &mut Answers) {
        match sent {
            Ok(sent) => self.state = State::Sent(Box::new(sent)),
            Err(error) => self.refuse(&error, answers),
        }
    }

    /// Chooses a pod, and says so.
    fn choose(
        &mut self,
        asked: Asked,
        mut headers: HeaderMap,
        body: Option<(Bytes, Held)>,
        answers: &mut Answers,
        whole: Whole,
    ) -> Result<Sent, ApiError> {
        let gateway = Arc::clone(self.gateway());
        let Some(flight) = &mut self.flight else { return Err(ApiError::internal("No request began")) };
        let has_id = headers.contains_key(REQUEST_ID);
        headers.entry(REQUEST_ID).or_insert_with(request_id);
        flight.asks(&asked, &headers);
        let trace = gateway.watch().enter_trace(&mut headers);
        let is_traced = trace.is_some();
        flight.belongs_to(trace);

        let subset = metadata::subset(self.metadata.as_ref());
        let subset = subset.map(|addresses| metadata::pods_at(&gateway, &addresses));
        let among = subset.as_deref().map_or(Among::All, Among::Only);
        if self.picker.config().shed == Shed::Saturated && is_saturated(&gateway, subset.as_deref()) {
            return Err(ApiError::overloaded("All pods have as much to do as they can take"));
        }
        let settings = gateway.settings();
        let mut route = gateway.route(&asked, session(&headers, &settings.session), among)?;
        flight.sent(&mut route);

        let addresses = std::iter::once(&route.pod).chain(&route.fallbacks);
        let addresses: Vec<String> = addresses.map(|pod| pod.url.authority()).collect();
        let addresses = addresses.join(",");
        let mut changes = Changes::default();
        changes.set(DESTINATION, &addresses);
        // A client must not choose pods: its own headers go, or are overwritten.
        match &route.prefill {
            Some(prefill) => changes.set(PREFILLER.as_str(), prefill.url.authority()),
            None => changes.remove(PREFILLER.as_str()),
        }
        if route.pod.names_rank {
            changes.set(RANK.as_str(), route.pod.rank.to_string());
        }
        if !has_id && let Some(id) = headers.get(REQUEST_ID) {
            changes.set(REQUEST_ID.as_str(), id);
        }
        for name in TRACE.iter().filter(|_| is_traced) {
            if let Some(value) = headers.get(*name) {
                changes.set(name, value);
            }
        }
        let metadata = metadata::destination(&addresses);
        answers.push_back(reply::destination(changes, metadata, whole == Whole::Buffered));
        let held = body.map(|(body, held)| {
            if let Whole::Stream { has_trailers } = whole {
                answers.extend(reply::pieces(Way::Request, body, !has_trailers));
            }
            held
        });
        Ok(Sent { asked, headers, route, held })
    }

    /// The client gets this error, and nothing more is said.
    fn refuse(&mut self, error: &ApiError, answers: &mut Answers) {
        if let Some(flight) = &mut self.flight {
            flight.refused(error.status().as_u16());
        }
        answers.push_back(reply::refusal(error));
        self.state = State::Over;
    }

    fn response_head(&mut self, head: HttpHeaders, answers: &mut Answers) {
        let is_whole = head.end_of_stream;
        let head = Head::read(head.headers);
        let served = metadata::served(self.metadata.as_ref());
        let state = std::mem::replace(&mut self.state, State::Answering);
        let mut changes = Changes::default();
        if let Some(flight) = &mut self.flight {
            if let State::Sent(sent) = state {
                let route = arrived(self.picker.gateway(), flight, *sent, served);
                tell(self.picker.gateway(), flight, route.as_ref(), head.status, &mut changes);
            }
            flight.answered(head.status, &head.headers);
        }
        answers.push_back(reply::response_head(changes));
        if is_whole {
            self.ended();
        }
    }

    fn response_body(&mut self, body: HttpBody, answers: &mut Answers) -> Result<(), Status> {
        match self.state {
            State::Answering | State::Over => {}
            _ => return Err(Status::invalid_argument("response_body out of order")),
        }
        if let Some(flight) = &mut self.flight {
            flight.passes(&body.body);
        }
        let is_end = body.end_of_stream;
        match self.modes.response {
            BodySendMode::FullDuplexStreamed => {
                answers.extend(reply::pieces(Way::Response, body.body, is_end));
            }
            _ => answers.push_back(reply::body(Way::Response)),
        }
        if is_end {
            self.ended();
        }
        Ok(())
    }

    /// The answer is whole. Its end is told at once: Envoy may keep the stream a while longer.
    fn ended(&mut self) {
        if let Some(mut flight) = self.flight.take() {
            flight.completed();
        }
        self.state = State::Over;
    }
}

/// How a request came to be whole, and so where its destination is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    /// It has no body, or none that is shown here.
    Head,
    /// In one piece, which goes on by itself.
    Buffered,
    /// As a stream, which is to be sent back.
    Stream { has_trailers: bool },
}

/// Where there is no memory for one more body, the protocol has it dropped.
fn shed_if_full(error: ApiError) -> ApiError {
    if error.status() == hyper::StatusCode::SERVICE_UNAVAILABLE {
        return ApiError::overloaded(error.to_string());
    }
    error
}

/// Whether every pod that could answer has reached the router's bounds (`router.overload`).
fn is_saturated(gateway: &Gateway, subset: Option<&[String]>) -> bool {
    let pods = gateway.router().pods();
    let is_meant = |name: &str| subset.is_none_or(|names| names.iter().any(|only| only == name));
    let mut able = pods
        .iter()
        .filter(|pod| pod.is_accepting() && pod.role().serves(Role::Decode) && is_meant(pod.name()))
        .peekable();
    able.peek().is_some() && able.all(|pod| pod.is_overloaded())
}

/// Books a request where it was answered. `None`: nobody here knows that pod.
fn arrived(gateway: &Gateway, flight: &mut Flight, sent: Sent, served: Option<String>) -> Option<Route> {
    let Sent { asked, headers, route, .. } = sent;
    let Some(served) = served.filter(|served| *served != route.pod.url.authority()) else {
        return Some(route);
    };
    let is_next = route.fallbacks.iter().any(|pod| pod.url.authority() == served);
    // The next in our list only comes after a failure; any other was Envoy's own choice.
    let how = if is_next { Finish::Failed } else { Finish::Cancelled };
    let names = metadata::pods_at(gateway, std::slice::from_ref(&served));
    let settings = gateway.settings();
    let elsewhere = gateway.route(&asked, session(&headers, &settings.session), Among::Only(&names));
    let mut elsewhere = elsewhere.ok();
    tracing::debug!(chosen = &*route.pod.name, served, "answered by another pod");
    flight.moved(how, elsewhere.as_mut());
    elsewhere
}

/// Tells the client where its answer comes from, and how to come back.
fn tell(gateway: &Gateway, flight: &Flight, route: Option<&Route>, status: u16, changes: &mut Changes) {
    let Some(route) = route else { return };
    if gateway.settings().answer_headers {
        let mut headers = HeaderMap::new();
        describe(&mut headers, route, flight.outcome());
        headers.iter().for_each(|(name, value)| changes.set(name.as_str(), value));
    }
    if (200..300).contains(&status)
        && let Some(cookie) = gateway.session_cookie(route)
    {
        changes.add(SET_COOKIE.as_str(), cookie);
    }
}
