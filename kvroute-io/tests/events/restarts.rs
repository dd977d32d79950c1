//! Engines that restart, and connections that break.

use std::time::Duration;

use kvroute_core::index::GapPolicy;
use kvroute_io::events::SubscriberOptions;

use crate::publisher::{Publisher, Replay};
use crate::support::{Bench, batches, expected, nothing, router, until};

/// What another engine published: that of another pod.
const OTHER: usize = 1;

/// A subscriber that knows the first `count` batches of a publisher, which is then gone.
fn then_gone(
    count: usize,
    replay: Option<Replay>,
    options: SubscriberOptions,
) -> (Bench, String, Option<String>) {
    let batches = batches(0);
    let mut publisher = Publisher::new(replay);
    let on_gap = if replay.is_some() { GapPolicy::Replay } else { GapPolicy::Clear };
    let bench = Bench::with(router(1, on_gap), options);
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(200));
    publisher.publish_all(&batches[..count]);
    bench.until_knows(0, Some(count as u64 - 1), &expected(0, &batches[..count]));
    let endpoints = (publisher.endpoint.clone(), publisher.replay_endpoint().map(str::to_owned));
    drop(publisher);
    until("the connection is lost", || !bench.stream_status(0).connected);
    (bench, endpoints.0, endpoints.1)
}

fn quick() -> SubscriberOptions {
    SubscriberOptions { reconnect_first: Duration::from_millis(50), ..SubscriberOptions::default() }
}

#[test]
fn a_restarted_engine_is_a_new_view() {
    let new = batches(OTHER);
    for replay in [Some(Replay::New), Some(Replay::Old), None] {
        let (bench, endpoint, replay_endpoint) = then_gone(100, replay, quick());
        let mut publisher = Publisher::bind(&endpoint, replay_endpoint.as_deref().zip(replay));
        bench.until_connected(0);
        std::thread::sleep(Duration::from_millis(200));
        publisher.publish_all(&new[..50]);
        bench.until_knows(0, Some(49), &expected(0, &new[..50]));
    }
}

#[test]
fn a_restart_shows_though_the_numbers_go_on_where_they_were() {
    let new = batches(OTHER);
    for replay in [Some(Replay::New), None] {
        let slow = SubscriberOptions { reconnect_first: Duration::from_millis(800), ..Default::default() };
        let (bench, endpoint, replay_endpoint) = then_gone(10, replay, slow);
        // The first ten are published to nobody, so the subscriber sees the eleventh first.
        let mut publisher = Publisher::bind(&endpoint, replay_endpoint.as_deref().zip(replay));
        publisher.publish_all(&new[..10]);
        bench.until_connected(0);
        std::thread::sleep(Duration::from_millis(200));
        publisher.publish_all(&new[10..60]);
        let first = if replay.is_some() { 0 } else { 10 };
        bench.until_knows(0, Some(59), &expected(first as u64, &new[first..60]));
        let counters = bench.stream_status(0).counters;
        assert_eq!(counters.batches, 60, "the test is about what it says: {counters:#?}");
    }
}

#[test]
fn a_restarted_engine_that_published_nothing_yet_has_nothing() {
    for replay in [Some(Replay::New), None] {
        let (bench, endpoint, replay_endpoint) = then_gone(100, replay, quick());
        let _publisher = Publisher::bind(&endpoint, replay_endpoint.as_deref().zip(replay));
        bench.until_knows(0, None, &nothing());
        if replay.is_some() {
            assert_eq!(bench.stream_status(0).applied.restarts, 1);
        }
    }
}

#[test]
fn an_engine_that_restarts_often_is_followed() {
    let (bench, endpoint, replay_endpoint) = then_gone(20, Some(Replay::New), quick());
    for round in 0..5 {
        let new = batches(round % 4);
        let replay = replay_endpoint.as_deref().map(|endpoint| (endpoint, Replay::New));
        let mut publisher = Publisher::bind(&endpoint, replay);
        publisher.publish_all(&new[..30]);
        bench.until_knows(0, Some(29), &expected(0, &new[..30]));
    }
}

#[test]
fn a_connection_that_comes_back_to_the_same_engine_costs_nothing() {
    let batches = batches(0);
    let (bench, endpoint, replay_endpoint) = then_gone(100, Some(Replay::New), quick());
    // The same engine: all it ever published is kept, and its numbers go on.
    let mut publisher = Publisher::bind(&endpoint, replay_endpoint.as_deref().map(|it| (it, Replay::New)));
    batches[..120].iter().for_each(|payload| publisher.lose(payload));
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(200));
    publisher.publish_all(&batches[120..200]);
    bench.until_knows(0, Some(199), &expected(0, &batches[..200]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
}

#[test]
fn a_new_engine_found_in_the_middle_of_a_replay_is_replayed_from_its_start() {
    let (old, new) = (batches(0), batches(OTHER));
    let (bench, endpoint, replay_endpoint) = then_gone(100, Some(Replay::New), quick());
    let mut publisher = Publisher::bind(&endpoint, replay_endpoint.as_deref().map(|it| (it, Replay::New)));
    publisher.publish_all(&new[..150]);
    bench.until_knows(0, Some(149), &expected(0, &new[..150]));
    let status = bench.stream_status(0);
    assert_eq!((status.applied.restarts, status.counters.lost), (1, 0), "{status:#?}");
    assert_ne!(expected(0, &new[..150]), expected(0, &old[..100]));
}

#[test]
fn an_engine_that_cannot_be_compared_with_the_one_before_costs_the_view() {
    let options = SubscriberOptions { replay_timeout: Duration::from_millis(500), ..quick() };
    let (bench, endpoint, replay_endpoint) = then_gone(100, Some(Replay::New), options);
    let _publisher = Publisher::bind(&endpoint, replay_endpoint.as_deref().map(|it| (it, Replay::Never)));
    bench.until_knows(0, None, &nothing());
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.replay_failures, counters.views_dropped), (1, 1), "{counters:#?}");
}

#[test]
fn an_engine_that_begins_anew_while_the_old_ones_replay_is_under_way_is_followed() {
    let (old, new) = (batches(0), batches(OTHER));
    let mut publisher = Publisher::new(Some(Replay::Late(Duration::from_millis(400))));
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_connected(0);
    publisher.publish_all(&old[..100]);
    // Nothing but the gap is to ask for a replay.
    std::thread::sleep(Duration::from_millis(1800));
    bench.until_knows(0, Some(99), &expected(0, &old[..100]));
    publisher.lose(old[100]);
    publisher.publish_all(&old[101..105]);
    until("the replay is asked for", || bench.stream_status(0).counters.replaying);
    for (sequence, payload) in (0_u64..5).zip(&new) {
        publisher.raw(&[b"", &sequence.to_be_bytes(), payload]);
    }
    until("it has ended", || !bench.stream_status(0).counters.replaying);
    publisher.start_over();
    new[..5].iter().for_each(|payload| publisher.lose(payload));
    publisher.publish_all(&new[5..20]);
    bench.until_knows(0, Some(19), &expected(0, &new[..20]));
    assert_eq!(bench.stream_status(0).applied.restarts, 1);
}
