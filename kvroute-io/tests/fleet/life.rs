//! Pods that fall silent, restart, leave and come back.

use std::time::Duration;

use kvroute_core::{Finish, HashContext, LoadReport, Workspace};
use kvroute_io::fleet::PodState;

use super::support::*;

#[tokio::test]
async fn load_is_reported_and_forgotten_when_it_is_old() {
    let fake = FakePod::vllm().await;
    fake.answer("/metrics", metrics(7, 1000));
    let fleet = start(config(&[&fake]));
    let name = fake.name();
    until_state(&fleet, &name, PodState::Ready).await;
    let load = || fleet.router().pod(&name, 0).and_then(|pod| pod.load());
    assert_eq!(load(), Some(LoadReport { running: 7, waiting: 0, kv_usage: 0.0 }));
    fake.answer("/metrics", metrics(9, 1000));
    until("the next report is there", || load().filter(|load| load.running == 9)).await;
    let id = fleet.router().pod(&name, 0).unwrap().id();
    let rank = pod(&fleet, &name).unwrap().ranks.remove(0);
    assert!(rank.load_seconds_ago.unwrap() < 0.4 && !rank.stale);
    assert_eq!(rank.cache.unwrap().hit_tokens, 5696);

    // It answers, but tells no load any more.
    fake.answer("/metrics", Reply::Status(404));
    until("the report is forgotten", || load().is_none().then_some(())).await;
    let status = pod(&fleet, &name).unwrap();
    assert!(status.ranks[0].stale && status.ranks[0].load_seconds_ago.unwrap() >= 0.4);
    assert_eq!((status.state, status.error.as_deref()), (PodState::Ready, Some("GET /metrics: status 404")));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(fleet.router().pod(&name, 0).unwrap().id(), id, "it was learnt again, and is what it was");
    assert_eq!(chosen(&fleet), [&*name]);
    fake.answer("/metrics", metrics(1, 1000));
    until("there is one again", || load().filter(|load| load.running == 1)).await;
    let status = pod(&fleet, &name).unwrap();
    assert_eq!((status.ranks[0].stale, status.error), (false, None));
}

#[tokio::test]
async fn a_pod_that_does_not_answer_gets_no_requests_until_it_does() {
    let (steady, failing) = (FakePod::vllm().await, FakePod::vllm().await);
    let fleet = start(config(&[&steady, &failing]));
    let (steady_name, name, port) = (steady.name(), failing.name(), failing.url.port());
    until_state(&fleet, &steady_name, PodState::Ready).await;
    until_state(&fleet, &name, PodState::Ready).await;
    let id = fleet.router().pod(&name, 0).unwrap().id();

    failing.answer("/metrics", Reply::Hang);
    let silent = until_state(&fleet, &name, PodState::Silent).await;
    assert!(
        silent.scrapes.failures_in_a_row >= 3 && silent.error.unwrap().contains("/metrics: no answer within")
    );
    assert_eq!(chosen(&fleet), [&*steady_name]);
    failing.answer("/metrics", metrics(0, 1000));
    until_state(&fleet, &name, PodState::Ready).await;
    assert!(fleet.router().pod_by_id(id).unwrap().is_accepting(), "it is the same as before");

    failing.stop().await;
    let silent = until_state(&fleet, &name, PodState::Silent).await;
    assert!(silent.error.unwrap().contains("unreachable"));
    assert_eq!(chosen(&fleet), [&*steady_name]);
    // Another one at its place: it is what it is from the start, not what was there before.
    let other = FakePod::at(port).await;
    other.answer("/v1/models", Reply::text(MODELS.replace("tiny", "other")));
    other.answer("/metrics", metrics(0, 2000));
    let ready = until_state(&fleet, &name, PodState::Ready).await;
    assert_eq!(ready.domain.as_deref(), Some("other (other-llama), own, 32"));
    assert_eq!((ready.scrapes.restarts, ready.scrapes.failures_in_a_row), (1, 0));
    assert!(fleet.router().pod_by_id(id).is_err(), "what the other one held is forgotten");
    assert!(fleet.model("other").is_some());
}

#[tokio::test]
async fn a_restart_between_two_scrapes_empties_a_pod_without_events() {
    let fake = FakePod::vllm().await;
    let fleet = start(config(&[&fake]));
    until_state(&fleet, &fake.name(), PodState::Ready).await;
    let id = fleet.router().pod(&fake.name(), 0).unwrap().id();
    fake.answer("/metrics", metrics(0, 3000));
    until("the pod is a new one", || {
        fleet.router().pod(&fake.name(), 0).filter(|pod| pod.id() != id && fleet.target(pod.id()).is_some())
    })
    .await;
    assert!(fleet.target(id).is_none());
    assert_eq!(pod(&fleet, &fake.name()).unwrap().scrapes.restarts, 1);
}

#[tokio::test]
async fn a_pod_that_leaves_the_list_finishes_what_it_has() {
    let (stays, leaves) = (FakePod::vllm().await, FakePod::vllm().await);
    let fleet = start(config(&[&stays, &leaves]));
    let (kept, name) = (stays.name(), leaves.name());
    until_state(&fleet, &kept, PodState::Ready).await;
    until_state(&fleet, &name, PodState::Ready).await;
    // A request in flight on it.
    let (context, subset) = (HashContext::default(), [&*name]);
    let prompt: Vec<u32> = (0..100).collect();
    let request =
        kvroute_core::Request { subset: Some(&subset), ..kvroute_core::Request::new(&prompt, &context) };
    let dispatch = fleet.router().dispatch(&request, fleet.clock().now(), &mut Workspace::default()).unwrap();

    fleet.reconfigure(config(&[&stays])).unwrap();
    until_state(&fleet, &name, PodState::Draining).await;
    assert_eq!(chosen(&fleet), [&*kept]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(fleet.target(dispatch.decision.pod).is_some(), "its request goes on");

    // It is named again while it drains.
    fleet.reconfigure(config(&[&stays, &leaves])).unwrap();
    until_state(&fleet, &name, PodState::Ready).await;
    assert_eq!(fleet.router().pod(&name, 0).unwrap().id(), dispatch.decision.pod);
    fleet.reconfigure(config(&[&stays])).unwrap();
    until_state(&fleet, &name, PodState::Draining).await;
    fleet.router().finish(dispatch.ticket, Finish::Completed, None);
    until("it is gone", || pod(&fleet, &name).is_none().then_some(())).await;
    assert_eq!(fleet.router().pods().len(), 1);

    let mut without_patience = config(&[]);
    without_patience.drain_ms = 0;
    fleet.reconfigure(without_patience).unwrap();
    until("all are gone", || fleet.router().pods().is_empty().then_some(())).await;
    fleet.reconfigure(config(&[&leaves])).unwrap();
    until_state(&fleet, &name, PodState::Ready).await;
}

#[tokio::test]
async fn a_pod_that_is_described_otherwise_joins_anew_and_the_others_stay() {
    let (first, second) = (FakePod::vllm().await, FakePod::vllm().await);
    let fleet = start(config(&[&first, &second]));
    until_state(&fleet, &first.name(), PodState::Ready).await;
    until_state(&fleet, &second.name(), PodState::Ready).await;
    let kept = fleet.router().pod(&second.name(), 0).unwrap().id();
    let mut other = config(&[&first, &second]);
    other.pods[0].labels.insert("zone".into(), "a".into());
    fleet.reconfigure(other.clone()).unwrap();
    until("the label is there", || {
        fleet.router().pod(&first.name(), 0).filter(|pod| pod.labels().contains_key("zone"))
    })
    .await;
    assert_eq!(fleet.router().pod(&second.name(), 0).unwrap().id(), kept);

    other.scrape.interval_ms = 0;
    let error = fleet.reconfigure(other).unwrap_err();
    assert!(error.to_string().contains("fleet.scrape.interval_ms: found `0`"), "{error}");
}

#[tokio::test]
async fn requests_expire_by_the_fleets_clock() {
    let fake = FakePod::vllm().await;
    let config = config(&[&fake]);
    let options = kvroute_core::RouterOptions {
        request_ttl: Duration::from_millis(100),
        ..kvroute_core::RouterOptions::default()
    };
    let router = kvroute_core::Router::new(options, kvroute_core::Policy::default()).unwrap();
    let fleet = kvroute_io::fleet::Fleet::start(router.into(), config).unwrap();
    until_state(&fleet, &fake.name(), PodState::Ready).await;
    let (prompt, context) = ((0..100).collect::<Vec<u32>>(), HashContext::default());
    let request = kvroute_core::Request::new(&prompt, &context);
    fleet.router().dispatch(&request, fleet.clock().now(), &mut Workspace::default()).unwrap();
    until("it expired", || (fleet.router().counters().expired == 1).then_some(())).await;
}
