//! Which pod a request goes to, and how that is said.

use kvroute_epp::proto::{BodySendMode, Event, HttpHeaders, Reply};

use crate::envoy::{Talk, served, set, subset};
use crate::setup::{Running, answer, pod, prompt};

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn a_head_goes_on_first_and_then_the_body_in_pieces_that_envoy_takes() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let body = prompt(100_000, 40_000);
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[("x-prefiller-host-port", "10.9.9.9:1")], None).await;
    for (at, piece) in body.as_bytes().chunks(10_000).enumerate() {
        talk.piece(piece.to_vec(), (at + 1) * 10_000 >= body.len()).await;
    }
    let forwarded = talk.outcome(true).await.forwarded();
    assert_eq!(forwarded.destination(), one.name());
    assert_eq!(forwarded.body, body.as_bytes());
    assert!(forwarded.set.contains_key("x-request-id"));
    assert!(forwarded.removed.contains(&"x-prefiller-host-port".to_owned()), "a client chooses no pods");
    let (last, others) = forwarded.pieces.split_last().unwrap();
    assert!(others.iter().all(|piece| *piece == 62_000) && *last <= 62_000, "{:?}", forwarded.pieces);
    assert_eq!(running.booked(&one), 1);
    talk.answer_all(&answer(0), served(&one.name())).await;
    let outcome = running.outcomes(1).await.remove(0);
    assert_eq!((outcome.status, outcome.prompt_tokens, outcome.retries), (200, 40_000, 0));
    assert_eq!(outcome.pod.as_deref(), Some(&*one.name()));
}

#[tokio::test]
async fn a_prompt_goes_where_its_prefix_went() {
    let (one, two) = (pod().await, pod().await);
    let running = Running::start(&[&one, &two], "gateway: {answer_headers: true}").await;
    let mut homes = Vec::new();
    for first in [0, 10_000, 20_000, 30_000] {
        let mut talk = running.talk().await;
        let home = talk.ask(COMPLETIONS, &[], None, &prompt(first, 400)).await.forwarded();
        homes.push(home.destination().to_owned());
        talk.answer_all(&answer(0), served(home.destination())).await;
    }
    running.outcomes(4).await;
    for (first, home) in [0, 10_000, 20_000, 30_000].into_iter().zip(homes) {
        let mut talk = running.talk().await;
        let forwarded = talk.ask(COMPLETIONS, &[], None, &prompt(first, 480)).await.forwarded();
        assert_eq!(forwarded.destination(), home);
        let headers = talk.answer(200, "application/json", served(&home)).await;
        assert_eq!(headers["x-kvroute-pod"], home);
        assert_eq!(headers["x-kvroute-prompt-tokens"], "480");
        talk.answer_piece(&answer(400), true).await;
    }
    running.outcomes(8).await;
}

#[tokio::test]
async fn a_request_without_a_body_goes_where_there_is_room() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    for (method, path) in [("GET", "/v1/models"), ("POST", COMPLETIONS)] {
        let mut talk = running.talk().await;
        let headers = kvroute_epp::proto::HeaderMap {
            headers: [(":method", method), (":path", path)]
                .map(|(key, value)| kvroute_epp::proto::HeaderValue {
                    key: key.into(),
                    value: value.into(),
                    raw_value: Default::default(),
                })
                .into(),
        };
        let head = HttpHeaders { headers: Some(headers), end_of_stream: true };
        talk.say(Some(Event::RequestHeaders(head)), None).await;
        assert_eq!(talk.outcome(false).await.forwarded().destination(), one.name());
        talk.answer_all("{}", None).await;
    }
    running.outcomes(2).await;
}

#[tokio::test]
async fn a_subset_bounds_the_choice_and_an_empty_one_leaves_nobody() {
    let (one, two) = (pod().await, pod().await);
    let running = Running::start(&[&one, &two], "").await;
    for only in [&one, &two] {
        for _ in 0..3 {
            let mut talk = running.talk().await;
            let hint = subset(&[&only.name(), "10.0.0.1:1"]);
            let forwarded = talk.ask(COMPLETIONS, &[], hint, &prompt(0, 100)).await.forwarded();
            assert_eq!(forwarded.destination(), only.name());
        }
    }
    for hint in [subset(&[]), subset(&["10.0.0.1:1"])] {
        let mut talk = running.talk().await;
        let (status, message) = talk.ask(COMPLETIONS, &[], hint, &prompt(0, 100)).await.refused();
        assert_eq!(status, 503, "{message}");
    }
    running.outcomes(8).await;
}

#[tokio::test]
async fn the_next_best_pods_are_told_where_the_policy_asks_for_them() {
    let (one, two) = (pod().await, pod().await);
    let policy = "router: {policy: {decode: {fallbacks: 1}}}";
    let running = Running::start(&[&one, &two], policy).await;
    let mut talk = running.talk().await;
    let forwarded = talk.ask(COMPLETIONS, &[], None, &prompt(0, 100)).await.forwarded();
    let mut named: Vec<_> = forwarded.destination().split(',').collect();
    named.sort_unstable();
    let mut all = [one.name(), two.name()];
    all.sort_unstable();
    assert_eq!(named, all);
}

#[tokio::test]
async fn a_sidecar_is_told_the_prefill_pod_and_both_are_booked() {
    let (decode, prefill) = (pod().await, pod().await);
    let document = format!(
        "fleet:\n  pods:\n  - {{url: '{}', role: decode}}\n  - {{url: '{}', role: prefill}}\n\
         router: {{policy: {{prefill: {{max_uncached_tokens: 64}}}}}}\n",
        decode.url(),
        prefill.url()
    );
    let running = Running::with_document(&document, 2).await;
    let mut talk = running.talk().await;
    let client = [("x-prefiller-host-port", "10.9.9.9:1")];
    let forwarded = talk.ask(COMPLETIONS, &client, None, &prompt(0, 400)).await.forwarded();
    assert_eq!(forwarded.destination(), decode.name());
    assert_eq!(forwarded.set["x-prefiller-host-port"], prefill.name());
    assert_eq!((running.booked(&decode), running.booked(&prefill)), (1, 1));
    talk.answer(200, "text/event-stream", served(&decode.name())).await;
    talk.answer_piece("data: {\"choices\":[{\"text\":\"x\"}]}\n\n", false).await;
    assert_eq!((running.booked(&decode), running.booked(&prefill)), (1, 0), "the first token came");
    talk.answer_piece("data: [DONE]\n\n", true).await;
    // A short prompt is computed where it is answered.
    let mut talk = running.talk().await;
    let forwarded = talk.ask(COMPLETIONS, &client, None, &prompt(50_000, 20)).await.forwarded();
    assert!(!forwarded.set.contains_key("x-prefiller-host-port"));
    assert!(forwarded.removed.contains(&"x-prefiller-host-port".to_owned()));
    drop(talk);
    let outcomes = running.outcomes(2).await;
    assert_eq!(outcomes[0].prefill_pod.as_deref(), Some(&*prefill.name()));
}

#[tokio::test]
async fn sessions_come_home() {
    let (one, two) = (pod().await, pod().await);
    let running = Running::start(&[&one, &two], "router: {policy: {preset: llm-d-demo}}").await;
    let mut homes = Vec::new();
    for first in 0..6 {
        let mut talk = running.talk().await;
        let headers = [("x-session-id", "a-conversation")];
        let forwarded = talk.ask(COMPLETIONS, &headers, None, &prompt(first * 1000, 40)).await.forwarded();
        homes.push(forwarded.destination().to_owned());
        talk.answer_all(&answer(0), None).await;
    }
    homes.dedup();
    assert_eq!(homes.len(), 1);
}

#[tokio::test]
async fn a_buffered_body_goes_on_with_its_destination() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = Talk::with_modes(running.address, BodySendMode::Buffered, BodySendMode::Streamed).await;
    talk.request(COMPLETIONS, &[], None).await;
    let reply = talk.hear().await;
    assert!(matches!(reply.reply, Some(Reply::RequestHeaders(_))) && reply.dynamic_metadata.is_none());
    talk.piece(prompt(0, 400), true).await;
    let reply = talk.hear().await;
    assert!(reply.dynamic_metadata.is_some());
    let Some(Reply::RequestBody(body)) = reply.reply else { panic!("{reply:?}") };
    let common = body.response.unwrap();
    assert_eq!(set(common.header_mutation.as_ref())["x-gateway-destination-endpoint"], one.name());
    assert!(common.clear_route_cache && common.body_mutation.is_none());
    talk.answer(200, "application/json", None).await;
    let piece = kvroute_epp::proto::HttpBody { body: answer(16).into(), end_of_stream: true };
    talk.say(Some(Event::ResponseBody(piece)), None).await;
    let Some(Reply::ResponseBody(body)) = talk.hear().await.reply else { panic!("no answer's body") };
    assert_eq!(body.response, None, "it goes on as it is");
    assert_eq!(running.outcomes(1).await[0].engine_cached_tokens, Some(16));
}

#[tokio::test]
async fn a_body_that_ends_with_trailers_does_not_end_before_them() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    let body = prompt(0, 100);
    talk.piece(body.clone(), false).await;
    talk.trailers().await;
    talk.outcome(false).await.forwarded();
    let Some(Reply::RequestBody(piece)) = talk.hear().await.reply else { panic!("no body") };
    let mutation = piece.response.unwrap().body_mutation.unwrap().mutation.unwrap();
    let kvroute_epp::proto::Mutation::Streamed(piece) = mutation;
    assert_eq!((&*piece.body, piece.end_of_stream), (body.as_bytes(), false));
    assert!(matches!(talk.hear().await.reply, Some(Reply::RequestTrailers(_))));
}
