//! What makes no sense, is too much, or breaks off.

use std::time::Duration;

use kvroute_core::Finish;
use kvroute_epp::proto::{
    BodySendMode, Event, HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest, Reply,
};
use tokio::time::timeout;
use tonic::Code;

use crate::envoy::{Talk, served, set};
use crate::pod::{Answer, Pod, completion, send};
use crate::setup::{Running, answer, pod, prompt, until};

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn requests_that_cannot_be_read_are_refused_as_the_gateway_refuses_them() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    for (body, expected, says) in [
        ("{\"model\":\"m\",\"prompt\":", 400, "cannot be read"),
        ("[]", 400, "no JSON object"),
        ("", 400, "no JSON object"),
        ("{\"prompt\":[1,-1]}", 400, "cannot be read"),
        ("\u{0}\u{1}", 400, "no JSON object"),
        ("{\"model\":\"of nobody\",\"prompt\":[1]}", 404, "does not exist"),
    ] {
        let mut talk = running.talk().await;
        let (status, message) = talk.ask(COMPLETIONS, &[], None, body).await.refused();
        assert_eq!(status, expected, "{body}: {message}");
        assert!(message.contains(says), "{body}: {message}");
        assert!(matches!(talk.try_hear().await, Ok(None)), "that was all");
    }
    let outcomes = running.outcomes(6).await;
    assert!(outcomes.iter().all(|outcome| outcome.pod.is_none() && outcome.status >= 400));
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_by_their_length_or_as_they_come() {
    let one = pod().await;
    let limits = "gateway: {limits: {max_body_bytes: 1000}}";
    let running = Running::start(&[&one], limits).await;
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[("content-length", "1001")], None).await;
    assert_eq!(talk.outcome(true).await.refused().0, 413);
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    for _ in 0..3 {
        talk.piece(vec![b' '; 400], false).await;
    }
    assert_eq!(talk.outcome(true).await.refused().0, 413);
    running.outcomes(2).await;
}

#[tokio::test]
async fn where_there_is_no_memory_for_one_more_body_it_is_shed() {
    let one = pod().await;
    let limits = "gateway: {limits: {max_buffered_bytes: 1000}}";
    let running = Running::start(&[&one], limits).await;
    let mut first = running.talk().await;
    first.request(COMPLETIONS, &[], None).await;
    first.piece(vec![b' '; 900], false).await;
    until("it is held", || running.picker.gateway().buffered_bytes() == 900).await;
    let mut second = running.talk().await;
    second.request(COMPLETIONS, &[], None).await;
    second.piece(vec![b' '; 200], false).await;
    let Some(Reply::Immediate(refusal)) = second.hear().await.reply else { panic!("it is not refused") };
    let headers = set(refusal.headers.as_ref());
    assert_eq!(refusal.status.unwrap().code, 429);
    assert_eq!(headers["x-llm-d-request-dropped-reason"], "rejected-saturated");
    first.piece(prompt(0, 10), true).await;
    first.outcome(true).await.forwarded();
    drop(first);
    running.outcomes(2).await;
}

#[tokio::test]
async fn a_saturated_fleet_sheds_only_where_it_is_told_to() {
    let page = concat!(
        "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 90.0\n",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 50.0\n",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.99\n",
    );
    let busy = move |path: &str| match path {
        "/v1/models" => {
            let models = serde_json::json!({"object": "list", "data": [{"id": "m", "object": "model"}]});
            Some(Answer::json(&models))
        }
        "/metrics" => Some(Answer::stream(vec![send(page)])),
        "/version" | "/kv_event_sources" => Some(completion(0).status(404)),
        _ => None,
    };
    let one = Pod::with_facts(busy, |_| completion(0)).await;
    for (section, expected) in [("", 200), ("epp: {shed: saturated}", 429)] {
        let running = Running::start(&[&one], section).await;
        let router = running.picker.gateway().router();
        until("its load is known", || router.pods().iter().any(|pod| pod.is_overloaded())).await;
        let mut talk = running.talk().await;
        let outcome = talk.ask(COMPLETIONS, &[], None, &prompt(0, 100)).await;
        match expected {
            200 => assert_eq!(outcome.forwarded().destination(), one.name()),
            status => assert_eq!(outcome.refused().0, status),
        }
    }
}

#[tokio::test]
async fn a_request_that_does_not_come_to_its_end_is_given_up() {
    let one = pod().await;
    let running = Running::start(&[&one], "gateway: {timeouts: {body_ms: 200}}").await;
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    talk.piece("{\"prompt\":", false).await;
    let (status, message) = talk.outcome(true).await.refused();
    assert_eq!(status, 408, "{message}");
    running.outcomes(1).await;
}

#[tokio::test]
async fn a_picker_without_pods_answers_503_and_says_so_to_probes() {
    let running = Running::with_document("fleet: {pods: ['http://127.0.0.1:9']}", 0).await;
    let mut talk = running.talk().await;
    let (status, _) = talk.ask(COMPLETIONS, &[], None, &prompt(0, 100)).await.refused();
    assert_eq!(status, 503);
    assert!(!running.picker.is_ready());
}

#[tokio::test]
async fn streams_that_are_cut_give_back_what_was_booked() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    // In the request.
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    talk.piece("{\"prompt\":", false).await;
    until("it is held", || running.picker.gateway().buffered_bytes() > 0).await;
    drop(talk);
    assert_eq!(running.outcomes(1).await[0].end, Finish::Cancelled);
    // On its way.
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    assert_eq!(running.booked(&one), 1);
    drop(talk);
    assert_eq!(running.outcomes(2).await[1].end, Finish::Cancelled);
    // In the answer.
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer(200, "application/json", served(&one.name())).await;
    talk.answer_piece("{", false).await;
    drop(talk);
    let outcome = running.outcomes(3).await.remove(2);
    assert_eq!((outcome.end, outcome.status), (Finish::Cancelled, 200));
    // Half-closed in the middle.
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.end().await;
    running.outcomes(4).await;
    until("all streams end", || running.picker.streams() == 0).await;
}

#[tokio::test]
async fn messages_out_of_order_or_of_unknown_kinds_end_their_stream_alone() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut steady = running.talk().await;
    steady.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    let head = || Some(Event::RequestHeaders(HttpHeaders::default()));
    let body = || HttpBody { body: "x".into(), end_of_stream: false };
    for events in [
        vec![None],
        vec![head(), None],
        vec![head(), head()],
        vec![Some(Event::RequestBody(body()))],
        vec![Some(Event::ResponseBody(body()))],
        vec![head(), Some(Event::ResponseBody(body()))],
    ] {
        let mut talk = running.talk().await;
        for event in events.clone() {
            talk.say(event, None).await;
        }
        let status = talk.try_hear().await.expect_err("it is an error");
        assert_eq!(status.code(), Code::InvalidArgument, "{events:?}: {status}");
    }
    let mut talk = running.talk().await;
    talk.send(ProcessingRequest { observability_mode: true, ..ProcessingRequest::default() }).await;
    assert_eq!(talk.try_hear().await.expect_err("it is an error").code(), Code::FailedPrecondition);
    for (request, response) in [
        (BodySendMode::Streamed, BodySendMode::Streamed),
        (BodySendMode::BufferedPartial, BodySendMode::None),
        (BodySendMode::FullDuplexStreamed, BodySendMode::Grpc),
    ] {
        let mut talk = Talk::with_modes(running.address, request, response).await;
        talk.say(head(), None).await;
        let status = talk.try_hear().await.expect_err("it is an error");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    steady.answer_all(&answer(0), None).await;
    until("all streams end", || running.picker.streams() == 0).await;
    running.nothing_is_booked();
}

#[tokio::test]
async fn an_end_of_a_body_that_is_said_twice_counts_once() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    let body = prompt(0, 400);
    talk.piece(body.clone(), true).await;
    talk.piece(body[100..].to_owned(), true).await;
    assert_eq!(talk.outcome(true).await.forwarded().body, body.as_bytes());
    talk.answer_all(&answer(0), served(&one.name())).await;
    assert_eq!(running.outcomes(1).await[0].end, Finish::Completed);
}

#[tokio::test]
async fn whatever_is_said_in_whatever_order_nothing_stays_booked() {
    let one = pod().await;
    let running = Running::start(&[&one], "gateway: {limits: {max_body_bytes: 20000}}").await;
    // An ordinary generator (Knuth's MMIX constants), so that a failure can be had again.
    let mut seed = 1_u64;
    let mut below = move |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    for _ in 0..150 {
        let mut talk = running.talk().await;
        if below(4) > 0 {
            talk.request(COMPLETIONS, &[], None).await;
        }
        for _ in 0..below(8) {
            let is_end = below(2) == 0;
            let body = |text: String| HttpBody { body: text.into(), end_of_stream: is_end };
            let head = HttpHeaders { headers: None, end_of_stream: is_end };
            let event = match below(8) {
                0 => Event::RequestHeaders(head),
                1 | 2 => Event::RequestBody(body(prompt(0, 20))),
                3 => Event::RequestBody(body(String::new())),
                4 => Event::RequestTrailers(HttpTrailers::default()),
                5 => Event::ResponseHeaders(head),
                6 => Event::ResponseBody(body(answer(16))),
                _ => Event::ResponseTrailers(HttpTrailers::default()),
            };
            let metadata = if below(3) == 0 { served(&one.name()) } else { None };
            talk.say(Some(event), metadata).await;
        }
        match below(3) {
            // Left at once, or after some answers; or ended in order.
            0 => {}
            1 => {
                while matches!(timeout(Duration::from_millis(20), talk.try_hear()).await, Ok(Ok(Some(_)))) {}
            }
            _ => talk.close(),
        }
    }
    until("all streams end", || running.picker.streams() == 0).await;
    running.nothing_is_booked();
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
}

#[tokio::test]
async fn garbage_instead_of_grpc_disturbs_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff", b"\0"]
    {
        let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(Duration::from_millis(300), stream.read_to_end(&mut rest)).await;
    }
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer_all(&answer(0), None).await;
    running.outcomes(1).await;
}
