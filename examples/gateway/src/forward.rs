//! Requests to pods, answers to clients.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::SET_COOKIE;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode};
use kvroute_core::Session;
use tokio::time::{Instant, timeout_at};

use crate::answer::{AnswerBody, PassingBody};
use crate::client::{Answer, Client, Outgoing, outgoing_headers, strip_hop_by_hop};
use crate::config::{GatewayConfig, PrefillProtocol};
use crate::disaggregated;
use crate::error::ApiError;
use crate::flight::Flight;
use crate::gateway::Gateway;
use crate::headers::{describe, insert};
use crate::intake::read_body;
use crate::request::{Asked, Endpoint, session};
use crate::route::{Among, Destination, Route};

/// Sends a request to a pod, and its answer back.
pub(crate) async fn forward(gateway: Arc<Gateway>, request: Request<Incoming>) -> Response<AnswerBody> {
    let endpoint = Endpoint::of(request.uri().path());
    let mut flight = Flight::new(Arc::clone(&gateway), endpoint);
    match ask(&gateway, endpoint, request, &mut flight).await {
        Ok(answered) => answered.pass_on(&gateway, flight),
        Err(error) => {
            flight.refused(error.status().as_u16());
            error.into_response()
        }
    }
}

/// A pod's answer, of which the head has come.
struct Answered {
    answer: Answer,
    route: Route,
    settings: Arc<GatewayConfig>,
    /// The request named its conversation itself.
    has_id: bool,
    deadlines: Deadlines,
}

/// Until when what must have come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    pub(crate) first_byte: Instant,
    pub(crate) end: Instant,
}

/// Why a pod did not answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The pod that failed.
    pub(crate) pod: Arc<str>,
    pub(crate) error: ApiError,
    /// Whether another one might.
    pub(crate) is_retryable: bool,
}

impl Failure {
    pub(crate) fn new(pod: &Destination, reason: impl std::fmt::Display) -> Self {
        let error = ApiError::bad_gateway(format!("Pod {} did not answer: {reason}", pod.name));
        Self { pod: Arc::clone(&pod.name), error, is_retryable: true }
    }

    fn late(pod: &Destination) -> Self {
        let error = ApiError::timed_out(format!("Pod {} did not answer in time", pod.name));
        Self { pod: Arc::clone(&pod.name), error, is_retryable: false }
    }
}

async fn ask(
    gateway: &Arc<Gateway>,
    endpoint: Endpoint,
    request: Request<Incoming>,
    flight: &mut Flight,
) -> Result<Answered, ApiError> {
    let settings = gateway.settings();
    let (mut head, body) = request.into_parts();
    let (body, held) = read_body(gateway, body).await?;
    flight.received();
    let end = Instant::now() + Duration::from_millis(settings.timeouts.total_ms);
    let mut asked = Asked::read(endpoint, &body)?;
    let tokenization = gateway.tokenize(&mut asked, &body).await;
    gateway.ask_index(&mut asked).await;
    flight.asks(&asked, &head.headers);
    flight.tokenized(tokenization);
    let mut headers = std::mem::take(&mut head.headers);
    flight.belongs_to(gateway.watch().enter_trace(&mut headers));
    let session = session(&headers, &settings.session);
    let path = head.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let outgoing = Outgoing { method: head.method, path, headers: outgoing_headers(headers.clone()), body };

    let mut failed: Vec<Failure> = Vec::new();
    loop {
        let tried: Vec<_> = failed.iter().map(|failure| Arc::clone(&failure.pod)).collect();
        let mut route = match gateway.route(&asked, session, Among::Not(&tried)) {
            Ok(route) => route,
            // Where nobody else is left, what the last one did says more.
            Err(error) => return Err(failed.pop().map_or(error, |failure| failure.error)),
        };
        flight.sent(&mut route);
        let first_byte = Instant::now() + Duration::from_millis(settings.timeouts.first_byte_ms);
        let deadlines = Deadlines { first_byte: first_byte.min(end), end };
        let is_last = failed.len() >= settings.retries as usize;
        match attempt(gateway.client(), &settings, endpoint, &outgoing, &route, deadlines).await {
            Ok(answer) if is_last || !is_busy(answer.status()) => {
                drop(held);
                let has_id = matches!(session, Some(Session::Id(_)));
                return Ok(Answered { answer, route, settings, has_id, deadlines });
            }
            Ok(answer) => failed.push(Failure::new(&route.pod, answer.status())),
            Err(failure) if is_last || !failure.is_retryable => return Err(failure.error),
            Err(failure) => failed.push(failure),
        }
        flight.failed_once();
    }
}

/// What a pod, or a proxy before it, says that cannot take a request now; another one may.
fn is_busy(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Sends a request along a route, once.
async fn attempt(
    client: &Client,
    settings: &GatewayConfig,
    endpoint: Endpoint,
    outgoing: &Outgoing,
    route: &Route,
    deadlines: Deadlines,
) -> Result<Answer, Failure> {
    let Some(prefill) = &route.prefill else {
        return send(client, &route.pod, outgoing, deadlines.first_byte).await;
    };
    match settings.prefill {
        PrefillProtocol::Sidecar => {
            let outgoing = disaggregated::for_sidecar(outgoing, prefill);
            send(client, &route.pod, &outgoing, deadlines.first_byte).await
        }
        PrefillProtocol::Vllm => {
            match disaggregated::prefill(client, endpoint, outgoing, prefill, deadlines.first_byte).await? {
                Ok(outgoing) => send(client, &route.pod, &outgoing, deadlines.first_byte).await,
                // What one pod refuses, the other would as well.
                Err(refusal) => Ok(refusal),
            }
        }
    }
}

/// Sends a request to a pod; its answer's head must have come by `deadline`.
pub(crate) async fn send(
    client: &Client,
    pod: &Destination,
    outgoing: &Outgoing,
    deadline: Instant,
) -> Result<Answer, Failure> {
    match timeout_at(deadline, client.request(outgoing.to(pod))).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::new(pod, causes(&error))),
        Err(_) => Err(Failure::late(pod)),
    }
}

/// An error with what is below it: hyper's own words alone say little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

impl Answered {
    fn pass_on(self, gateway: &Gateway, mut flight: Flight) -> Response<AnswerBody> {
        let Self { answer, route, settings, has_id, deadlines } = self;
        let (mut head, body) = answer.into_parts();
        strip_hop_by_hop(&mut head.headers);
        flight.answered(head.status.as_u16(), &head.headers);
        if settings.answer_headers {
            describe(&mut head.headers, &route, flight.outcome());
        }
        if !has_id
            && head.status.is_success()
            && let Some(cookie) = gateway.session_cookie(&route)
        {
            insert(&mut head.headers, SET_COOKIE, cookie);
        }
        let idle = Duration::from_millis(settings.timeouts.idle_ms);
        let body = PassingBody::new(body, flight, deadlines, idle);
        Response::from_parts(head, AnswerBody::Passing(Box::new(body)))
    }
}
