//! A request as a span, in OTLP's JSON form (opentelemetry-proto 1.x: ids in hex, 64-bit numbers as text).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvroute_core::Finish;
use kvroute_core::decision::Reason;
use serde_json::{Value, json};

use super::TraceContext;
use crate::outcome::{RequestOutcome, end_name};

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Span(Value);

/// `SPAN_KIND_SERVER`.
const SERVER: u32 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;

impl Span {
    /// Of a request that ends now.
    pub(super) fn new(context: &TraceContext, outcome: &RequestOutcome) -> Self {
        let end = SystemTime::now();
        let start = end.checked_sub(outcome.duration).unwrap_or(UNIX_EPOCH);
        let mut span = json!({
            "traceId": context.trace_id(),
            "spanId": context.span_id(),
            "name": outcome.endpoint.name(),
            "kind": SERVER,
            "startTimeUnixNano": nanos(start),
            "endTimeUnixNano": nanos(end),
            "attributes": attributes(outcome),
        });
        if let Some(parent) = context.parent_id() {
            span["parentSpanId"] = parent.into();
        }
        if outcome.end == Finish::Failed {
            span["status"] = json!({ "code": ERROR });
        }
        Self(span)
    }

    /// A request to the collector with these spans.
    pub(super) fn document(service: &str, spans: Vec<Self>) -> Value {
        let spans: Vec<Value> = spans.into_iter().map(|span| span.0).collect();
        let attributes = [text("service.name", service)];
        let scope = json!({ "name": "kvroute-gateway", "version": env!("CARGO_PKG_VERSION") });
        json!({ "resourceSpans": [{
            "resource": { "attributes": attributes },
            "scopeSpans": [{ "scope": scope, "spans": spans }],
        }] })
    }
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

fn text(key: &str, value: &str) -> Value {
    // A client's model may have any length.
    let value: String = value.chars().take(256).collect();
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: usize) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn real(key: &str, value: f64) -> Value {
    json!({ "key": key, "value": { "doubleValue": value } })
}

/// Those of `kvroute.` are ours, the others OpenTelemetry's (semantic conventions).
fn attributes(outcome: &RequestOutcome) -> Vec<Value> {
    let mut all = vec![
        number("http.response.status_code", outcome.status.into()),
        text("kvroute.end", end_name(outcome.end)),
        text("kvroute.prompt", outcome.prompt),
        text("kvroute.cache", outcome.cache.name()),
        number("kvroute.retries", outcome.retries as usize),
        real("kvroute.overhead_seconds", outcome.overhead.as_secs_f64()),
    ];
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    let texts = [
        ("gen_ai.request.model", outcome.model.as_deref()),
        ("kvroute.request_id", outcome.request_id.as_deref()),
        ("kvroute.pod", outcome.pod.as_deref()),
        ("kvroute.prefill_pod", outcome.prefill_pod.as_deref()),
        ("kvroute.reason", outcome.reason.map(Reason::name)),
        ("kvroute.untokenized", outcome.untokenized),
    ];
    all.extend(texts.into_iter().filter_map(|(key, value)| Some(text(key, value?))));
    let decided = outcome.reason.is_some();
    let numbers = [
        ("kvroute.dp_rank", outcome.pod.as_ref().map(|_| outcome.dp_rank as usize)),
        ("kvroute.prompt_tokens", decided.then_some(outcome.prompt_tokens)),
        ("kvroute.expected_cached_tokens", decided.then_some(outcome.expected_cached_tokens)),
        ("kvroute.engine_cached_tokens", outcome.engine_cached_tokens),
        ("kvroute.candidates", decided.then_some(outcome.candidates)),
    ];
    all.extend(numbers.into_iter().filter_map(|(key, value)| Some(number(key, value?))));
    let reals = [
        ("kvroute.score", decided.then_some(outcome.total)),
        ("kvroute.margin", outcome.margin),
        ("kvroute.first_byte_seconds", seconds(outcome.first_byte)),
        ("kvroute.tokenization_seconds", seconds(outcome.tokenization)),
    ];
    all.extend(reals.into_iter().filter_map(|(key, value)| Some(real(key, value?))));
    all
}
