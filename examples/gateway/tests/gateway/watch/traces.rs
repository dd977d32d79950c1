//! Traces, as they arrive at a collector.

use serde_json::Value;

use super::collector::Collector;
use crate::client::{post, post_with};
use crate::pod::{Pod, completion};
use crate::setup::{Running, until};

const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PROMPT: &str = r#"{"model": "m", "prompt": [1, 2, 3, 4]}"#;

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().expect("a list");
    let found = all.iter().find(|attribute| attribute["key"] == key);
    found.map_or(&Value::Null, |attribute| {
        attribute["value"].as_object().expect("a value").values().next().expect("one")
    })
}

#[tokio::test]
async fn a_span_arrives_and_the_pod_is_called_from_it() {
    let (collector, pod) = (Collector::start().await, Pod::answering(completion(2)).await);
    let section = format!("watch: {{traces: {{endpoint: '{}', service: test}}}}", collector.url());
    let running = Running::start(&[pod.url()], &section).await;
    let headers = format!("traceparent: {CLIENT}\r\ntracestate: vendor=1\r\n");
    post_with(running.address, "/v1/completions", &headers, PROMPT).await;
    running.wait_for_outcomes(1).await;
    running.gateway.watch().flush().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    let (service, span) = &spans[0];
    assert_eq!(service, "test");
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!((&span["name"], &span["kind"]), (&"completions".into(), &2.into()));
    let id = span["spanId"].as_str().expect("an id");
    assert_eq!(id.len(), 16);
    let seen = pod.seen();
    let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01");
    assert_eq!(seen[0].header("traceparent"), Some(&*expected));
    assert_eq!(seen[0].header("tracestate"), Some("vendor=1"));
    for (key, value) in [
        ("http.response.status_code", "200".into()),
        ("gen_ai.request.model", "m".into()),
        ("kvroute.pod", pod.name().into()),
        ("kvroute.reason", "picked".into()),
        ("kvroute.prompt_tokens", "4".into()),
        ("kvroute.expected_cached_tokens", "0".into()),
        ("kvroute.engine_cached_tokens", "2".into()),
        ("kvroute.end", Value::from("completed")),
    ] {
        assert_eq!(attribute(span, key), &value, "{key}");
    }
    assert!(attribute(span, "kvroute.overhead_seconds").as_f64().is_some_and(|seconds| seconds > 0.0));
    let nanos = |key: &str| span[key].as_str().and_then(|text| text.parse::<u128>().ok()).expect(key);
    assert!(nanos("startTimeUnixNano") < nanos("endTimeUnixNano"));
}

#[tokio::test]
async fn one_in_so_many_is_kept_and_clients_decide_for_themselves() {
    let (collector, pod) = (Collector::start().await, Pod::answering(completion(0)).await);
    let section = format!("watch: {{traces: {{endpoint: '{}', one_in: 3}}}}", collector.url());
    let running = Running::start(&[pod.url()], &section).await;
    for _ in 0..6 {
        post(running.address, "/v1/completions", PROMPT).await;
    }
    let unsampled = format!("traceparent: {}0\r\n", &CLIENT[..CLIENT.len() - 1]);
    post_with(running.address, "/v1/completions", &unsampled, PROMPT).await;
    running.wait_for_outcomes(7).await;
    running.gateway.watch().flush().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2);
    assert_ne!(spans[0].1["traceId"], spans[1].1["traceId"]);
    assert!(spans.iter().all(|(_, span)| span["parentSpanId"].is_null()));
    assert_eq!(pod.seen().iter().filter(|seen| seen.header("traceparent").is_some()).count(), 7);
}

#[tokio::test]
async fn without_traces_headers_pass_as_they_came() {
    let pod = Pod::answering(completion(0)).await;
    let running = Running::start(&[pod.url()], "").await;
    post_with(running.address, "/v1/completions", &format!("traceparent: {CLIENT}\r\n"), PROMPT).await;
    post(running.address, "/v1/completions", PROMPT).await;
    let seen = pod.seen();
    assert_eq!(seen[0].header("traceparent"), Some(CLIENT));
    assert_eq!(seen[1].header("traceparent"), None);
}

#[tokio::test]
async fn a_collector_that_refuses_or_is_gone_costs_spans_and_nothing_else() {
    let pod = Pod::answering(completion(0)).await;
    let collector = Collector::refusing().await;
    for endpoint in [collector.url(), "http://127.0.0.1:9/v1/traces".to_owned()] {
        let section = format!("watch: {{traces: {{endpoint: '{endpoint}'}}}}");
        let running = Running::start(&[pod.url()], &section).await;
        assert_eq!(post(running.address, "/v1/completions", PROMPT).await.status, 200);
        running.wait_for_outcomes(1).await;
        running.gateway.watch().flush().await;
        let page = super::metrics::Page::of(&running).await;
        assert_eq!(page.sum("kvroute_trace_spans_total", &[("result", "failed")]), 1.0);
        assert_eq!(page.sum("kvroute_trace_spans_total", &[("result", "sent")]), 0.0);
    }
    until("it was asked", || collector.requests() == 1).await;
}

#[test]
fn mistakes_are_named() {
    for (traces, said) in [
        ("{endpoint: 'collector:4318'}", "gateway.watch.traces.endpoint"),
        ("{endpoint: 'ftp://collector'}", "gateway.watch.traces.endpoint"),
        ("{endpoint: 'http://c/v1/traces', one_in: 0}", "gateway.watch.traces.one_in"),
        ("{endpoint: 'http://c/v1/traces', max_queued: 0}", "gateway.watch.traces.max_queued"),
        ("{}", "endpoint"),
    ] {
        let text = format!("gateway: {{watch: {{traces: {traces}}}}}");
        let error = kvroute_gateway::config::Document::parse(&text).expect_err(traces).to_string();
        assert!(error.contains(said), "{traces}: {error}");
    }
}
