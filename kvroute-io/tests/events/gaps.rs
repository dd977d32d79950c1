//! Batches that are missing: before the start, on the way, and for good.

use std::time::Duration;

use kvroute_core::index::GapPolicy;
use kvroute_io::events::SubscriberOptions;

use crate::publisher::{Publisher, Replay};
use crate::support::{Bench, batches, depths, expected, nothing, router, until};

#[test]
fn a_late_joiner_has_what_was_published_before_from_the_replay() {
    let batches = batches(0);
    for replay in [Replay::New, Replay::Old] {
        let mut publisher = Publisher::new(Some(replay));
        publisher.publish_all(&batches[..100]);
        let bench = Bench::new(1, SubscriberOptions::default());
        bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
        bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
        publisher.publish_all(&batches[100..200]);
        bench.until_knows(0, Some(199), &expected(0, &batches[..200]));

        let counters = bench.stream_status(0).counters;
        assert_eq!(counters.batches, 100, "{replay:?}");
        assert!(counters.replayed >= 100 && counters.replays >= 1, "{counters:#?}");
        assert_eq!((counters.gaps, counters.lost, counters.views_dropped), (0, 0, 0));
        assert!(counters.longest_lag_seconds >= counters.lag_seconds);
    }
}

#[test]
fn a_late_joiner_without_replay_keeps_what_it_hears() {
    let batches = batches(0);
    let mut publisher = Publisher::new(None);
    publisher.publish_all(&batches[..100]);
    let bench = Bench::with(router(1, GapPolicy::Clear), SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, None);
    bench.until_connected(0);
    // The subscription reaches the publisher a moment after the connection.
    std::thread::sleep(Duration::from_millis(200));
    publisher.publish_all(&batches[100..]);
    let last = batches.len() as u64 - 1;
    bench.until_knows(0, Some(last), &expected(100, &batches[100..]));
}

#[test]
fn what_an_engine_no_longer_keeps_is_lost_and_counted() {
    let batches = batches(0);
    let mut publisher = Publisher::new(Some(Replay::New));
    publisher.publish_all(&batches[..100]);
    publisher.keep_last(40);
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_knows(0, Some(99), &expected(60, &batches[60..100]));
    assert_eq!(bench.stream_status(0).counters.lost, 60);
}

/// A publisher whose first 100 batches are known, with a subscriber that is up to date.
fn up_to_date(replay: Option<Replay>, options: SubscriberOptions) -> (Publisher, Bench) {
    let batches = batches(0);
    let mut publisher = Publisher::new(replay);
    let on_gap = if replay.is_some() { GapPolicy::Replay } else { GapPolicy::Clear };
    let bench = Bench::with(router(1, on_gap), options);
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(200));
    publisher.publish_all(&batches[..100]);
    bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
    (publisher, bench)
}

#[test]
fn batches_lost_on_the_way_are_replayed() {
    let batches = batches(0);
    let (mut publisher, bench) = up_to_date(Some(Replay::New), SubscriberOptions::default());
    for (at, payload) in batches[100..].iter().enumerate() {
        if at % 7 == 3 { publisher.lose(payload) } else { publisher.publish(payload) }
    }
    let last = batches.len() as u64 - 1;
    publisher.publish(batches[0]);
    bench.until_knows(0, Some(last + 1), &expected(0, batches.iter().chain([&batches[0]])));
    let counters = bench.stream_status(0).counters;
    assert!(counters.gaps > 0 && counters.replayed > 0, "{counters:#?}");
    assert_eq!((counters.lost, counters.views_dropped, counters.replay_failures), (0, 0, 0));
}

/// Found with a publisher that drops most at its own high water mark: while one gap is replayed, the next ones open.
#[test]
fn gaps_that_open_faster_than_they_are_replayed_are_all_closed() {
    let batches = batches(0);
    let (mut publisher, bench) = up_to_date(Some(Replay::Behind(10)), SubscriberOptions::default());
    for (at, payload) in batches[100..200].iter().enumerate() {
        if at % 2 == 0 { publisher.lose(payload) } else { publisher.publish(payload) }
    }
    bench.until_knows(0, Some(199), &expected(0, &batches[..200]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
    assert!(counters.replays > 8, "{counters:#?}");
}

/// Found with a publisher that drops most at its own high water mark. The index remembers the bytes of some hundred
/// batches and takes older ones for those of a restarted engine.
#[test]
fn what_was_held_and_came_by_replay_too_is_no_restart() {
    let many: Vec<&[u8]> = batches(0).into_iter().cycle().take(800).collect();
    let (mut publisher, bench) =
        up_to_date(Some(Replay::Late(Duration::from_millis(400))), SubscriberOptions::default());
    publisher.lose(many[100]);
    publisher.publish_all(&many[101..]);
    bench.until_knows(0, Some(799), &expected(0, &many));
    let status = bench.stream_status(0);
    assert_eq!((status.applied.restarts, status.counters.lost), (0, 0), "{status:#?}");
    assert!(status.counters.repeated >= 699, "{status:#?}");
}

#[test]
fn batches_that_nobody_has_cost_the_view_and_are_counted() {
    let batches = batches(0);
    for replay in [Some(Replay::New), None] {
        let (mut publisher, bench) = up_to_date(replay, SubscriberOptions::default());
        publisher.forget();
        publisher.forget();
        publisher.publish_all(&batches[102..200]);
        bench.until_knows(0, Some(199), &expected(102, &batches[102..200]));
        let status = bench.stream_status(0);
        assert_eq!(status.applied.gaps, 1, "{status:#?}");
        if replay.is_some() {
            assert_eq!((status.counters.lost, status.counters.views_dropped), (2, 1));
        }
    }
}

#[test]
fn a_pod_that_waits_for_replays_goes_on_without_where_there_are_none() {
    let batches = batches(0);
    let mut publisher = Publisher::new(None);
    let bench = Bench::with(router(1, GapPolicy::Replay), SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, None);
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(200));
    publisher.publish_all(&batches[..50]);
    publisher.forget();
    publisher.publish_all(&batches[51..100]);
    bench.until_knows(0, Some(99), &expected(51, &batches[51..100]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.gaps, counters.lost, counters.views_dropped), (1, 1, 1));
}

#[test]
fn what_does_not_fit_while_a_replay_is_under_way_is_replayed_after_it() {
    let batches = batches(0);
    let options = SubscriberOptions { max_held_batches: 4, ..SubscriberOptions::default() };
    let late = Replay::Late(Duration::from_millis(400));
    let (mut publisher, bench) = up_to_date(Some(late), options);
    publisher.lose(batches[100]);
    publisher.publish_all(&batches[101..110]);
    until("a replay is under way", || bench.stream_status(0).counters.overflowed >= 5);
    assert_eq!(depths(&bench.router, bench.pods[0]), expected(0, &batches[..100]), "nothing is applied");
    bench.until_knows(0, Some(109), &expected(0, &batches[..110]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
    assert_eq!((counters.held, counters.held_bytes), (0, 0), "{counters:#?}");
    assert!(counters.replays >= 3, "at the start, for the gap, for what did not fit: {counters:#?}");
}

#[test]
fn a_queue_that_is_full_of_bytes_overflows_too() {
    let batches = batches(0);
    let options = SubscriberOptions { max_held_bytes: 1, ..SubscriberOptions::default() };
    let (mut publisher, bench) = up_to_date(Some(Replay::Late(Duration::from_millis(300))), options);
    publisher.lose(batches[100]);
    publisher.publish_all(&batches[101..110]);
    bench.until_knows(0, Some(109), &expected(0, &batches[..110]));
    let counters = bench.stream_status(0).counters;
    assert!(counters.overflowed > 0 && counters.lost == 0, "{counters:#?}");
}

#[test]
fn a_replay_that_hangs_holds_up_no_other_pod_and_costs_the_view() {
    let batches = batches(0);
    let one = std::num::NonZeroUsize::MIN;
    let timeout = Duration::from_secs(2);
    let options = SubscriberOptions { threads: one, replay_timeout: timeout, ..Default::default() };
    let bench = Bench::new(2, options);
    let mut hanging = Publisher::new(Some(Replay::Never));
    let mut other = Publisher::new(Some(Replay::New));
    hanging.publish_all(&batches[..50]);
    other.publish_all(&batches[..50]);
    bench.connect(0, &hanging.endpoint, hanging.replay_endpoint());
    until("its replay is asked for", || bench.stream_status(0).counters.replaying);

    bench.connect(1, &other.endpoint, other.replay_endpoint());
    bench.until_knows(1, Some(49), &expected(0, &batches[..50]));
    std::thread::sleep(Duration::from_millis(200));
    hanging.publish_all(&batches[50..100]);
    other.publish_all(&batches[50..100]);
    bench.until_knows(1, Some(99), &expected(0, &batches[..100]));
    assert!(bench.stream_status(0).counters.replaying, "the other pod did not wait for it");
    assert_eq!(depths(&bench.router, bench.pods[0]), nothing());

    bench.until_knows(0, Some(99), &expected(50, &batches[50..100]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.replays, counters.replay_failures), (1, 1), "{counters:#?}");
    // Gaps are given up at once for a while.
    hanging.forget();
    hanging.publish_all(&batches[101..150]);
    bench.until_knows(0, Some(149), &expected(101, &batches[101..150]));
    assert_eq!(bench.stream_status(0).counters.replays, 1);
}

#[test]
fn a_replay_that_breaks_off_is_continued_where_it_stopped() {
    let batches = batches(0);
    let mut publisher = Publisher::new(Some(Replay::Short(30)));
    publisher.publish_all(&batches[..100]);
    let options = SubscriberOptions { replay_timeout: Duration::from_secs(1), ..Default::default() };
    let bench = Bench::new(1, options);
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.replay_failures, counters.lost, counters.views_dropped), (3, 0, 0), "{counters:#?}");
}

#[test]
fn a_replay_with_a_hole_is_continued_where_the_hole_is() {
    let batches = batches(0);
    let mut publisher = Publisher::new(Some(Replay::Holey(40, 50)));
    publisher.publish_all(&batches[..100]);
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
}

#[test]
fn a_replay_without_an_end_costs_no_view_once_it_showed_the_same_engine() {
    let batches = batches(0);
    let options = SubscriberOptions { replay_timeout: Duration::from_millis(400), ..Default::default() };
    let bench = Bench::new(1, options);
    let mut publisher = Publisher::new(Some(Replay::Endless));
    publisher.publish_all(&batches[..100]);
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
    std::thread::sleep(Duration::from_millis(200));
    publisher.publish_all(&batches[100..200]);
    bench.until_knows(0, Some(199), &expected(0, &batches[..200]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
    assert!(counters.replay_failures >= 2, "{counters:#?}");
}
