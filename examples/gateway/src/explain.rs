//! `/explain`: where a request would go, and why.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use kvroute_core::Decision;
use kvroute_core::decision::Explanation;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::AnswerBody;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::intake::read_body;
use crate::request::{Asked, Endpoint, session};

/// A request to explain, with what it would be sent to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped<'a> {
    endpoint: String,
    #[serde(borrow)]
    request: &'a RawValue,
}

/// What is answered.
#[derive(Serialize)]
struct Explained<'a> {
    endpoint: &'static str,
    model: Option<&'a str>,
    /// How the prompt is known: `token-ids`, `text`, `none`.
    prompt: &'static str,
    /// Why it is known as text only, where a tokenizer was asked.
    untokenized: Option<&'static str>,
    /// `None`: nobody could take it now.
    decision: Option<Decided>,
    explanation: &'a Explanation,
}

#[derive(Serialize)]
struct Decided {
    pod: Option<String>,
    dp_rank: u32,
    prefill_pod: Option<String>,
    total: f64,
    reason: &'static str,
    expected_cached_tokens: usize,
    uncached_tokens: usize,
    candidates: usize,
}

/// Explains a request. Its body is `{"endpoint": "/v1/completions", "request": {...}}`, or the request itself with
/// `?endpoint=/v1/completions`. Answers JSON, or text for people if the client accepts `text/plain`. Nothing is booked,
/// sent or remembered.
///
/// # Errors
///
/// 400 if it cannot be read; those of routing.
pub(crate) async fn explain(
    gateway: &Arc<Gateway>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, ApiError> {
    let (head, body) = request.into_parts();
    let (body, _held) = read_body(gateway, body).await?;
    let (endpoint, body) = match head.uri.query().and_then(|query| query.strip_prefix("endpoint=")) {
        Some(path) => (endpoint(&path.replace("%2F", "/").replace("%2f", "/"))?, body),
        None => unwrapped(&body)?,
    };
    let mut asked = Asked::read(endpoint, &body)?;
    gateway.tokenize(&mut asked, &body).await;
    gateway.ask_index(&mut asked).await;
    let settings = gateway.settings();
    let (decision, explanation) = gateway.decide(&asked, session(&head.headers, &settings.session))?;
    let (kind, text) = if accepts_text(&head.headers) {
        ("text/plain; charset=utf-8", explanation.to_string())
    } else {
        let explained = Explained {
            endpoint: endpoint.name(),
            model: asked.model.as_deref(),
            prompt: asked.prompt.name(),
            untokenized: asked.untokenized,
            decision: decision.map(|decision| decided(gateway, &decision)),
            explanation: &explanation,
        };
        let json = serde_json::to_string(&explained);
        ("application/json", json.map_err(|error| ApiError::internal(error.to_string()))?)
    };
    let mut response = Response::new(AnswerBody::Whole(Full::from(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

fn unwrapped(body: &Bytes) -> Result<(Endpoint, Bytes), ApiError> {
    let expected =
        "expected {\"endpoint\": \"/v1/completions\", \"request\": {...}}, or a request with ?endpoint=...";
    let wrapped: Wrapped<'_> = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("{error}; {expected}"), None))?;
    Ok((endpoint(&wrapped.endpoint)?, body.slice_ref(wrapped.request.get().as_bytes())))
}

fn endpoint(path: &str) -> Result<Endpoint, ApiError> {
    let endpoint = Endpoint::of(path);
    if endpoint.generates() {
        return Ok(endpoint);
    }
    let message = "`endpoint` is one of /v1/completions, /v1/chat/completions, /v1/responses";
    Err(ApiError::bad_request(message, Some("endpoint")))
}

fn accepts_text(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).is_some_and(|accepted| accepted.as_bytes().starts_with(b"text/plain"))
}

fn decided(gateway: &Gateway, decision: &Decision) -> Decided {
    let target = gateway.fleet().target(decision.pod);
    let prefill = decision.prefill.and_then(|prefill| gateway.fleet().target(prefill.pod));
    Decided {
        pod: target.as_ref().map(|target| target.name.clone()),
        dp_rank: target.map_or(0, |target| target.rank),
        prefill_pod: prefill.map(|target| target.name.clone()),
        total: decision.total,
        reason: decision.reason.name(),
        expected_cached_tokens: decision.matched_tokens,
        uncached_tokens: decision.uncached_tokens,
        candidates: decision.candidates,
    }
}
