//! Publishers that lie.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kvroute_io::events::SubscriberOptions;

use crate::publisher::{Publisher, Replay};
use crate::support::{Bench, batches, expected, until};

/// A bad and a good publisher on one thread.
fn bad_beside_good(bad: Option<Replay>, options: SubscriberOptions) -> (Publisher, Publisher, Bench) {
    let bench = Bench::new(2, SubscriberOptions { threads: NonZeroUsize::MIN, ..options });
    let publishers = [Publisher::new(bad), Publisher::new(Some(Replay::New))];
    for (pod, publisher) in publishers.iter().enumerate() {
        bench.connect(pod, &publisher.endpoint, publisher.replay_endpoint());
        bench.until_connected(pod);
    }
    thread::sleep(Duration::from_millis(200));
    let [bad, good] = publishers;
    (bad, good, bench)
}

/// The good pod's view is whole.
fn check_good(mut good: Publisher, bench: &Bench) {
    let batches = batches(1);
    good.publish_all(&batches[..100]);
    bench.until_knows(1, Some(99), &expected(0, &batches[..100]));
    let counters = bench.stream_status(1).counters;
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
}

#[test]
fn messages_that_are_no_batches_are_counted_and_change_nothing() {
    let (mut bad, good, bench) = bad_beside_good(Some(Replay::New), SubscriberOptions::default());
    let batches = batches(0);
    bad.publish_all(&batches[..50]);
    let eight: &[u8] = &[0; 8];
    let many = vec![eight; 10_000];
    let messages: [&[&[u8]]; 6] =
        [&[b""], &[b"", eight], &[b"", &[0; 7], b"x"], &[b"", &[0; 9], b"x"], &[b"", eight, b"", b""], &many];
    messages.iter().for_each(|frames| bad.raw(frames));
    bad.publish_all(&batches[50..100]);
    bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
    let malformed = |at: &kvroute_io::events::EndpointStatus| at.counters.malformed;
    assert_eq!(bench.status().endpoints.iter().map(malformed).sum::<u64>(), 6);
    check_good(good, &bench);
}

#[test]
fn numbers_that_jump_cost_their_own_view_and_replays_are_not_asked_for_ever() {
    let (bad, good, bench) = bad_beside_good(Some(Replay::New), SubscriberOptions::default());
    let batches = batches(0);
    let numbers = [u64::MAX, 5, 0, 1 << 63, u64::MAX - 1, 7, u64::MAX, 0, 1, 9];
    for round in 0..20 {
        for (at, number) in numbers.iter().enumerate() {
            bad.raw(&[b"", &number.to_be_bytes(), batches[round + at]]);
        }
    }
    check_good(good, &bench);
    until("all of it was judged", || {
        let counters = bench.stream_status(0).counters;
        counters.batches == 200 && !counters.replaying
    });
    let counters = bench.stream_status(0).counters;
    assert!(counters.replays < 800, "{counters:#?}");
    assert_eq!(counters.held, 0);
}

#[test]
fn payloads_of_garbage_are_counted_and_the_stream_goes_on() {
    let (mut bad, good, bench) = bad_beside_good(Some(Replay::New), SubscriberOptions::default());
    let batches = batches(0);
    bad.publish_all(&batches[..50]);
    // An array that claims four billion events; bytes of no kind; nothing.
    for garbage in [&[0x93, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xdd, 0xff, 0xff, 0xff, 0xff][..], b"\xc1\xc1", b""]
    {
        bad.publish(garbage);
    }
    bad.publish_all(&batches[53..100]);
    bench.until_knows(0, Some(99), &expected(53, &batches[53..100]));
    assert_eq!(bench.stream_status(0).counters.undecodable, 3);
    check_good(good, &bench);
}

#[test]
fn a_message_above_the_bound_is_not_taken_and_the_stream_goes_on() {
    let options = SubscriberOptions {
        max_message_bytes: 100_000,
        replay_timeout: Duration::from_secs(1),
        reconnect_first: Duration::from_millis(50),
        ..SubscriberOptions::default()
    };
    let (mut bad, good, bench) = bad_beside_good(Some(Replay::New), options);
    let batches = batches(0);
    bad.publish_all(&batches[..50]);
    bench.until_knows(0, Some(49), &expected(0, &batches[..50]));
    bad.publish(&vec![0xc0; 200_000]);
    until("the connection was given up and made again", || {
        bench.status().endpoints.iter().any(|at| at.counters.connected > 1)
    });
    check_good(good, &bench);
    // Its replay cannot bring it either.
    until("the replay failed", || bench.stream_status(0).counters.replay_failures > 0);
    until("there is a connection", || bench.stream_status(0).connected);
    thread::sleep(Duration::from_millis(200));
    bad.publish_all(&batches[51..100]);
    bench.until_knows(0, Some(99), &expected(51, &batches[51..100]));
}

#[test]
fn replies_of_garbage_are_counted_and_a_replay_without_an_end_fails() {
    let options = SubscriberOptions { replay_timeout: Duration::from_millis(300), ..Default::default() };
    let (mut bad, good, bench) = bad_beside_good(Some(Replay::Garbage), options);
    check_good(good, &bench);
    let batches = batches(0);
    bad.publish_all(&batches[..50]);
    bench.until_knows(0, Some(49), &expected(0, &batches[..50]));
    let counters = bench.stream_status(0).counters;
    assert_eq!((counters.malformed_replies, counters.replay_failures), (4, 1), "{counters:#?}");
}

#[test]
fn a_peer_that_speaks_something_else_is_no_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let options = SubscriberOptions { heartbeat_timeout: Duration::from_millis(300), ..Default::default() };
    let bench = Bench::new(1, options);
    bench.connect(0, &endpoint, Some(&endpoint));
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    let _ = peer.read(&mut [0; 64]);
    let _again: (TcpStream, _) = listener.accept().unwrap();
    assert!(!bench.stream_status(0).connected);
}

#[test]
fn a_flood_on_one_pod_leaves_the_others_their_turn() {
    let (mut bad, good, bench) = bad_beside_good(None, SubscriberOptions::default());
    let is_over = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let batches = batches(0);
            while !is_over.load(Ordering::Relaxed) {
                bad.publish_all(&batches[..50]);
            }
        });
        until("the flood has come", || bench.stream_status(0).counters.batches > 10_000);
        let start = Instant::now();
        check_good(good, &bench);
        is_over.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        start.elapsed()
    });
    assert!(last < Duration::from_secs(10), "{last:?}");
}
