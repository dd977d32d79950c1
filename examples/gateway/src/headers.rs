//! Headers by which pods and clients are told things.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use crate::outcome::RequestOutcome;
use crate::route::Route;

/// Names the prefill pod to a routing sidecar (llm-d-inference-scheduler, `pkg/sidecar/proxy`, 0.4).
pub const PREFILLER: HeaderName = HeaderName::from_static("x-prefiller-host-port");

/// Says which data-parallel rank a request is for (vLLM 0.32, `entrypoints/openai`).
pub const RANK: HeaderName = HeaderName::from_static("x-data-parallel-rank");

/// Names a request in the logs of all that it passes.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An id that no other request of this process has, and hardly one of another.
#[must_use]
pub fn request_id() -> HeaderValue {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    HeaderValue::try_from(format!("kvroute-{started:x}-{number:x}"))
        .unwrap_or(HeaderValue::from_static("kvroute"))
}

/// Says where an answer comes from and why.
pub fn describe(headers: &mut HeaderMap, route: &Route, outcome: &RequestOutcome) {
    const POD: HeaderName = HeaderName::from_static("x-kvroute-pod");
    const RANK: HeaderName = HeaderName::from_static("x-kvroute-dp-rank");
    const PREFILL_POD: HeaderName = HeaderName::from_static("x-kvroute-prefill-pod");
    const PROMPT: HeaderName = HeaderName::from_static("x-kvroute-prompt");
    const UNTOKENIZED: HeaderName = HeaderName::from_static("x-kvroute-untokenized");
    const PROMPT_TOKENS: HeaderName = HeaderName::from_static("x-kvroute-prompt-tokens");
    const EXPECTED: HeaderName = HeaderName::from_static("x-kvroute-expected-cached-tokens");
    const REASON: HeaderName = HeaderName::from_static("x-kvroute-reason");
    const OVERHEAD: HeaderName = HeaderName::from_static("x-kvroute-overhead-us");
    insert(headers, POD, &route.pod.name);
    insert(headers, OVERHEAD, outcome.overhead.as_micros());
    insert(headers, PROMPT, outcome.prompt);
    if let Some(why) = outcome.untokenized {
        insert(headers, UNTOKENIZED, why);
    }
    if route.pod.names_rank {
        insert(headers, RANK, route.pod.rank);
    }
    if let Some(prefill) = &route.prefill {
        insert(headers, PREFILL_POD, &prefill.name);
    }
    if let Some(decision) = &route.decision {
        insert(headers, PROMPT_TOKENS, route.prompt_tokens);
        insert(headers, EXPECTED, decision.matched_tokens);
        insert(headers, REASON, decision.reason.name());
    }
}

pub(crate) fn insert(headers: &mut HeaderMap, name: HeaderName, value: impl ToString) {
    // A pod's name may be any text; one that no header can hold is left out.
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        headers.append(name, value);
    }
}
