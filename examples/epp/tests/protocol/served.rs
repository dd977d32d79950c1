//! Requests that were answered elsewhere than where they were sent.

use kvroute_core::Finish;

use crate::envoy::served;
use crate::pod::Pod;
use crate::setup::{Running, answer, pod, prompt};

const COMPLETIONS: &str = "/v1/completions";

fn predicted(running: &Running, pod: &Pod) -> usize {
    let status = running.picker.gateway().router().status();
    let pod = status.pods.iter().find(|status| status.name == pod.name()).expect("it is there");
    pod.predicted.blocks
}

#[tokio::test]
async fn what_envoy_took_elsewhere_is_booked_where_it_was_answered() {
    let (one, two) = (pod().await, pod().await);
    let running = Running::start(&[&one, &two], "gateway: {answer_headers: true}").await;
    let mut talk = running.talk().await;
    let forwarded = talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    let (chosen, other) = if forwarded.destination() == one.name() { (&one, &two) } else { (&two, &one) };
    assert_eq!((running.booked(chosen), running.booked(other)), (1, 0));
    let headers = talk.answer(200, "application/json", served(&other.name())).await;
    assert_eq!(headers["x-kvroute-pod"], other.name());
    assert_eq!((running.booked(chosen), running.booked(other)), (0, 1));
    talk.answer_piece(&answer(0), true).await;
    let outcome = running.outcomes(1).await.remove(0);
    assert_eq!((outcome.pod.as_deref(), outcome.end), (Some(&*other.name()), Finish::Completed));
    assert_eq!(outcome.retries, 0, "the other one was not even asked");
    assert_eq!((predicted(&running, chosen), predicted(&running, other)), (0, 25));
    let mut talk = running.talk().await;
    let forwarded = talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    assert_eq!(forwarded.destination(), other.name(), "there the prefix is now");
}

#[tokio::test]
async fn the_second_of_the_list_answers_after_the_first_failed() {
    let (one, two) = (pod().await, pod().await);
    let policy = "router: {policy: {decode: {fallbacks: 1}}}";
    let running = Running::start(&[&one, &two], policy).await;
    let mut talk = running.talk().await;
    let forwarded = talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    let (first, second) = forwarded.destination().split_once(',').unwrap();
    talk.answer_all(&answer(0), served(second)).await;
    let outcome = running.outcomes(1).await.remove(0);
    assert_eq!((outcome.pod.as_deref(), outcome.retries), (Some(second), 1));
    let failed = running.picker.gateway().router().pod(first, 0).unwrap();
    assert_eq!(failed.failures().0, 1);
}

#[tokio::test]
async fn an_answer_of_a_pod_that_nobody_knows_is_booked_nowhere() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer(200, "application/json", served("10.1.2.3:8000")).await;
    running.nothing_is_booked();
    talk.answer_piece(&answer(0), true).await;
    let outcome = running.outcomes(1).await.remove(0);
    assert_eq!((outcome.pod, outcome.status, outcome.end), (None, 200, Finish::Completed));
    assert_eq!(predicted(&running, &one), 0);
}

#[tokio::test]
async fn without_word_of_who_answered_it_was_the_chosen_one() {
    let one = pod().await;
    let running = Running::start(&[&one], "").await;
    let mut talk = running.talk().await;
    talk.ask(COMPLETIONS, &[], None, &prompt(0, 400)).await.forwarded();
    talk.answer_all(&answer(0), served("")).await;
    let outcome = running.outcomes(1).await.remove(0);
    assert_eq!(outcome.pod.as_deref(), Some(&*one.name()));
}
