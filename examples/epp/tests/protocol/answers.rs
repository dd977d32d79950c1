//! Answers that pass by, and what is learnt from them.

use kvroute_core::Finish;
use kvroute_epp::proto::{Event, HttpBody, HttpHeaders, HttpTrailers, Reply};

use crate::envoy::served;
use crate::setup::{Running, answer, pod, prompt};

const COMPLETIONS: &str = "/v1/completions";

#[tokio::test]
async fn usage_is_read_from_documents_and_from_streams() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer_all(&answer(32), served(&one.name())).await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer(200, "text/event-stream; charset=utf-8", served(&one.name())).await;
    talk.answer_piece("data: {\"choices\":[{\"text\":\"x\"}],\"usage\":null}\n\n", false).await;
    let usage = format!("data: {}\n\ndata: [DONE]\n\n", answer(384));
    let (half, rest) = usage.split_at(90);
    talk.answer_piece(half, false).await;
    talk.answer_piece(rest, false).await;
    talk.answer_piece("", true).await;
    let outcomes = running.outcomes(2).await;
    let cached: Vec<_> = outcomes.iter().map(|outcome| outcome.engine_cached_tokens).collect();
    assert_eq!(cached, [Some(32), Some(384)]);
    assert!(outcomes[1].uncached_tokens < outcomes[0].uncached_tokens, "it was sent there before");
    assert!(outcomes.iter().all(|outcome| outcome.end == Finish::Completed && outcome.first_byte.is_some()));
}

#[tokio::test]
async fn long_pieces_of_an_answer_come_back_in_pieces_that_envoy_takes() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 100)).await.forwarded();
    talk.answer(200, "application/octet-stream", None).await;
    let body = HttpBody { body: vec![7; 1_000_000].into(), end_of_stream: true };
    talk.say(Some(Event::ResponseBody(body)), None).await;
    let mut length = 0;
    loop {
        let Some(Reply::ResponseBody(body)) = talk.hear().await.reply else { panic!("no body") };
        let mutation = body.response.unwrap().body_mutation.unwrap().mutation.unwrap();
        let kvroute_epp::proto::Mutation::Streamed(piece) = mutation;
        assert!(piece.body.len() <= 62_000);
        length += piece.body.len();
        if piece.end_of_stream {
            break;
        }
    }
    assert_eq!(length, 1_000_000);
    running.outcomes(1).await;
}

#[tokio::test]
async fn an_error_of_the_pod_is_one_against_it_and_a_refusal_is_none() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    for status in [500, 503, 400] {
        let mut talk = running.talk().await;
        talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
        talk.answer(status, "application/json", served(&one.name())).await;
        talk.answer_piece("{\"error\":{}}", true).await;
        talk.end().await;
    }
    let outcomes = running.outcomes(3).await;
    let ends: Vec<_> = outcomes.iter().map(|outcome| (outcome.status, outcome.end)).collect();
    assert_eq!(ends, [(500, Finish::Failed), (503, Finish::Failed), (400, Finish::Cancelled)]);
    let status = running.picker.gateway().router().status();
    assert_eq!(status.pods[0].predicted.blocks, 0, "nothing is expected to be cached");
}

#[tokio::test]
async fn answers_without_a_body_and_with_trailers_end() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 100)).await.forwarded();
    let head = HttpHeaders { headers: None, end_of_stream: true };
    talk.say(Some(Event::ResponseHeaders(head)), None).await;
    assert!(matches!(talk.hear().await.reply, Some(Reply::ResponseHeaders(_))));
    talk.end().await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 100)).await.forwarded();
    talk.answer(200, "application/json", None).await;
    talk.answer_piece("{}", false).await;
    talk.say(Some(Event::ResponseTrailers(HttpTrailers::default())), None).await;
    assert!(matches!(talk.hear().await.reply, Some(Reply::ResponseTrailers(_))));
    talk.end().await;
    let outcomes = running.outcomes(2).await;
    assert!(outcomes.iter().all(|outcome| outcome.end == Finish::Completed));
}

#[tokio::test]
async fn envoy_may_answer_by_itself_before_the_request_is_whole() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    talk.piece("{\"prompt\":\"a", false).await;
    talk.answer(413, "text/plain", None).await;
    talk.piece(" long one\"}", true).await;
    talk.answer_piece("too large", true).await;
    let outcome = running.outcomes(1).await.remove(0);
    assert_eq!((outcome.status, outcome.pod), (413, None));
}

#[tokio::test]
async fn a_pod_may_answer_before_it_has_read_all_of_a_long_request() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.request(COMPLETIONS, &[], None).await;
    talk.piece(prompt(1_000_000, 1_000_000), true).await;
    // Nothing of the body has been taken yet.
    let headers = HttpHeaders { headers: None, end_of_stream: false };
    talk.say(Some(Event::ResponseHeaders(headers)), served(&one.name())).await;
    talk.outcome(true).await.forwarded();
    assert!(matches!(talk.hear().await.reply, Some(Reply::ResponseHeaders(_))));
    talk.answer_piece("no", true).await;
    running.outcomes(1).await;
}
