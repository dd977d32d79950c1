//! Endpoints that several pods publish to, ranks, and streams that come and go.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use kvroute_io::events::{Mode, Stream, SubscribeError, SubscriberOptions, rank_endpoint};

use crate::publisher::{Publisher, Replay};
use crate::support::{Bench, batches, depths, expected, free_endpoint, nothing, until};

#[test]
fn pods_that_connect_to_one_endpoint_are_told_apart_by_topic() {
    let bench = Bench::new(3, SubscriberOptions::default());
    let endpoint = free_endpoint();
    let mut publishers: Vec<_> = (0..3)
        .map(|pod| Publisher::connect(&endpoint, &format!("kv@pod-{pod}@org/model@main"), Some(Replay::New)))
        .collect();
    for (pod, publisher) in publishers.iter().enumerate() {
        bench.subscriber.add(bench.stream(pod, &endpoint, Mode::Bind, publisher.replay_endpoint())).unwrap();
    }
    until("all are connected", || bench.status().endpoints[0].counters.connections == 3);
    for (pod, publisher) in publishers.iter_mut().enumerate() {
        publisher.publish_all(&batches(pod)[..100]);
    }
    for pod in 0..3 {
        bench.until_knows(pod, Some(99), &expected(0, &batches(pod)[..100]));
    }
    let stranger = Publisher::connect(&endpoint, "", None);
    until("the stranger is connected", || bench.status().endpoints[0].counters.connections == 4);
    until("its messages are counted", || {
        stranger.raw(&[b"kv@pod-9@m", &[0; 8], b""]);
        stranger.raw(&[b"", &[0; 8], b""]);
        bench.status().endpoints[0].counters.unknown_topics > 1
    });
}

#[test]
fn one_pod_that_connects_may_have_no_topic() {
    let bench = Bench::new(1, SubscriberOptions::default());
    let endpoint = free_endpoint();
    let mut publisher = Publisher::connect(&endpoint, "", Some(Replay::New));
    bench.subscriber.add(bench.stream(0, &endpoint, Mode::Bind, publisher.replay_endpoint())).unwrap();
    until("it is connected", || bench.stream_status(0).connected);
    publisher.publish_all(&batches(0)[..100]);
    // The first may have been published before the subscription arrived; the others tell of the gap.
    bench.until_knows(0, Some(99), &expected(0, &batches(0)[..100]));
}

#[test]
fn a_publisher_that_connects_keeps_what_we_miss_while_we_are_away() {
    let batches = batches(0);
    let endpoint = free_endpoint();
    let mut publisher = Publisher::connect(&endpoint, "kv@pod-0@m", None);
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.subscriber.add(bench.stream(0, &endpoint, Mode::Bind, None)).unwrap();
    until("it is connected", || bench.stream_status(0).connected);
    std::thread::sleep(Duration::from_millis(300));
    publisher.publish_all(&batches[..50]);
    bench.until_knows(0, Some(49), &expected(0, &batches[..50]));

    bench.subscriber.remove(bench.pods[0]);
    std::thread::sleep(Duration::from_millis(300));
    publisher.publish_all(&batches[50..100]);
    bench.subscriber.add(bench.stream(0, &endpoint, Mode::Bind, None)).unwrap();
    publisher.publish_all(&batches[100..150]);
    bench.until_knows(0, Some(149), &expected(0, &batches[..150]));
}

#[test]
fn a_topic_that_is_given_is_what_is_subscribed_to() {
    let batches = batches(0);
    let bench = Bench::new(1, SubscriberOptions::default());
    let publisher = Publisher::new(None);
    let stream = bench.stream(0, &publisher.endpoint, Mode::Connect, None);
    bench.subscriber.add(Stream { topic: "mine".to_owned(), ..stream }).unwrap();
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(200));
    publisher.raw(&[b"others", &0_u64.to_be_bytes(), b"?"]);
    publisher.raw(&[b"mine/kv", &0_u64.to_be_bytes(), batches[0]]);
    bench.until_knows(0, Some(0), &expected(0, &batches[..1]));
    assert_eq!(bench.stream_status(0).counters.batches, 1);
}

#[test]
fn each_rank_has_its_own_port_and_its_own_view() {
    let (router, _) = crate::support::router(0, Default::default());
    let mut pods = Vec::new();
    for dp_rank in 0..2 {
        let domain = crate::support::story().pods[0].domain(kvroute_examples::capture::Mode::Native).unwrap();
        pods.push(
            router
                .add_pod(kvroute_core::PodSpec { dp_rank, ..kvroute_core::PodSpec::new("pod-0", domain) })
                .unwrap(),
        );
    }
    let bench = Bench::with((router, pods), SubscriberOptions::default());
    let base = free_endpoint();
    let mut payloads = Vec::new();
    for rank in 0..2_u32 {
        let endpoint = rank_endpoint(&base, rank).unwrap();
        let mut publisher = Publisher::bind(&endpoint, Some(("tcp://127.0.0.1:*", Replay::New)));
        // The last byte of a batch is its rank.
        let ranked = |payload: &&[u8]| [&payload[..payload.len() - 1], &[rank as u8]].concat();
        let own: Vec<Vec<u8>> = batches(rank as usize)[..60].iter().map(ranked).collect();
        own.iter().for_each(|payload| publisher.publish(payload));
        bench.connect(rank as usize, &endpoint, publisher.replay_endpoint());
        payloads.push((own, publisher));
    }
    for (rank, (own, _)) in payloads.iter().enumerate() {
        let own: Vec<&[u8]> = own.iter().map(|payload| &**payload).collect();
        until("both ranks know their own", || {
            depths(&bench.router, bench.pods[rank]) == expected(0, &batches(rank)[..own.len()])
        });
    }
    let status = bench.status();
    assert_eq!([status.streams[0].dp_rank, status.streams[1].dp_rank], [0, 1]);
}

#[test]
fn a_stream_that_is_removed_brings_nothing_more() {
    let batches = batches(0);
    let mut publisher = Publisher::new(Some(Replay::New));
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_connected(0);
    publisher.publish_all(&batches[..50]);
    bench.until_knows(0, Some(49), &expected(0, &batches[..50]));
    bench.subscriber.remove(bench.pods[0]);
    assert!(bench.status().streams.is_empty());
    std::thread::sleep(Duration::from_millis(300));
    publisher.publish_all(&batches[50..100]);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(depths(&bench.router, bench.pods[0]), expected(0, &batches[..50]));
    bench.connect(0, &publisher.endpoint, publisher.replay_endpoint());
    bench.until_knows(0, Some(99), &expected(0, &batches[..100]));
}

#[test]
fn a_pod_that_the_router_no_longer_has_is_counted_and_harms_nobody() {
    let mut publisher = Publisher::new(None);
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.connect(0, &publisher.endpoint, None);
    bench.until_connected(0);
    bench.router.remove_pod(bench.pods[0]).unwrap();
    until("its batches are refused", || {
        publisher.publish(batches(0)[0]);
        bench.status().streams[0].counters.refused > 0
    });
}

#[test]
fn what_cannot_be_added_is_refused_with_a_reason() {
    let bench = Bench::new(2, SubscriberOptions::default());
    let add = |stream: Stream| bench.subscriber.add(stream);
    let stream = |pod| bench.stream(pod, "tcp://127.0.0.1:9", Mode::Connect, None);
    assert!(matches!(add(Stream { endpoint: "9".into(), ..stream(0) }), Err(SubscribeError::Endpoint(_))));
    let replay_endpoint = Some("tcp://*:9".into());
    assert!(matches!(add(Stream { replay_endpoint, ..stream(0) }), Err(SubscribeError::Endpoint(_))));
    add(Stream { topic: "t".into(), ..stream(0) }).unwrap();
    assert!(matches!(add(stream(0)), Err(SubscribeError::Subscribed(_))));
    assert!(matches!(add(Stream { topic: "t".into(), ..stream(1) }), Err(SubscribeError::Endpoint(_))));
    bench.router.remove_pod(bench.pods[1]).unwrap();
    assert!(matches!(add(stream(1)), Err(SubscribeError::UnknownPod(_))));
}

#[test]
fn an_endpoint_that_cannot_be_bound_says_so_and_is_tried_again() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", taken.local_addr().unwrap());
    let bench = Bench::new(1, SubscriberOptions::default());
    bench.subscriber.add(bench.stream(0, &endpoint, Mode::Bind, None)).unwrap();
    let error = || bench.status().endpoints[0].counters.error.clone();
    until("the error shows", || {
        error().is_some_and(|error| error.contains(&endpoint) && error.contains("in use"))
    });
    drop(taken);
    until("it is bound", || error().is_none());
}

#[test]
fn dropping_a_subscriber_ends_its_threads_whatever_its_peers_do() {
    let hanging = Publisher::new(Some(Replay::Never));
    let bench = Bench::new(3, SubscriberOptions::default());
    bench.connect(0, &hanging.endpoint, hanging.replay_endpoint());
    bench.connect(1, "tcp://127.0.0.1:9", Some("tcp://127.0.0.1:9"));
    // An address that is for documentation and answers nobody.
    bench.connect(2, "tcp://192.0.2.1:5557", None);
    until("a replay hangs", || bench.stream_status(0).counters.replaying);
    let start = Instant::now();
    drop(bench.subscriber);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(depths(&bench.router, bench.pods[0]), nothing());
}
