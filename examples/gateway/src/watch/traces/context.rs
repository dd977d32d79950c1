//! Where a request stands in a trace: W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context/>).

use std::fmt;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// A request's span in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    parent: Option<u64>,
    flags: u8,
}

impl TraceContext {
    const SAMPLED: u8 = 1;

    /// A span that begins a trace.
    pub(super) fn root(trace: [u64; 2], span: u64, is_sampled: bool) -> Self {
        let trace = u128::from(trace[0]) << 64 | u128::from(trace[1]);
        Self { trace, span, parent: None, flags: u8::from(is_sampled) * Self::SAMPLED }
    }

    /// The client's span, if it sent one that the standard allows; with two or a malformed one, a trace begins here.
    pub(super) fn of_client(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Self::parse(value.to_str().ok()?.trim())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version = hex::<2>(parts.next()?)?;
        let (trace, span) = (hex::<32>(parts.next()?)?, hex::<16>(parts.next()?)?);
        let flags = hex::<2>(parts.next()?)?;
        // Later versions may have more parts; version 255 is none.
        let is_known = version != 0xff && (version > 0 || parts.next().is_none());
        let (span, flags) = (u64::try_from(span).ok()?, u8::try_from(flags).ok()?);
        (is_known && trace != 0 && span != 0).then_some(Self { trace, span, parent: None, flags })
    }

    /// A span below this one.
    pub(super) fn child(&self, span: u64) -> Self {
        Self { span, parent: Some(self.span), flags: self.flags & Self::SAMPLED, ..*self }
    }

    /// Tells whoever gets these headers that it is called from this span.
    pub(super) fn pass_on(&self, headers: &mut HeaderMap) {
        if self.parent.is_none() {
            // It belongs to a trace that nobody could read.
            headers.remove(TRACESTATE);
        }
        if let Ok(value) = HeaderValue::try_from(self.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// Whether it is kept.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & Self::SAMPLED != 0
    }

    /// The trace's id, as it is written.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    pub(super) fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    pub(super) fn parent_id(&self) -> Option<String> {
        self.parent.map(|parent| format!("{parent:016x}"))
    }
}

impl fmt::Display for TraceContext {
    /// As in the header `traceparent`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// `N` lower-case digits, as the standard wants them.
fn hex<const N: usize>(text: &str) -> Option<u128> {
    let is_hex = text.len() == N && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_standards_example_is_continued() {
        let client = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(client.to_string(), EXAMPLE);
        let child = client.child(0xb7ad6b7169203331);
        assert_eq!(child.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01");
        assert_eq!(child.parent_id().as_deref(), Some("00f067aa0ba902b7"));
        assert!(child.is_sampled());
    }

    #[test]
    fn what_the_standard_forbids_begins_a_trace() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(!TraceContext::parse(later).unwrap().is_sampled());
    }

    #[test]
    fn two_parents_are_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, EXAMPLE.parse().unwrap());
        assert!(TraceContext::of_client(&headers).is_some());
        headers.append(TRACEPARENT, EXAMPLE.parse().unwrap());
        headers.append(TRACESTATE, "a=b".parse().unwrap());
        assert_eq!(TraceContext::of_client(&headers), None);
        TraceContext::root([1, 2], 3, true).pass_on(&mut headers);
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        assert!(!headers.contains_key(TRACESTATE));
    }
}
