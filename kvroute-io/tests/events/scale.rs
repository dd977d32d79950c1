//! Many pods on two threads.

use std::num::NonZeroUsize;
use std::time::Instant;

use kvroute_io::events::SubscriberOptions;

use crate::publisher::{Publisher, Replay};
use crate::support::{Bench, batches, expected, until};

const PODS: usize = 200;

/// Batches a pod: some before the subscription, some after.
const EACH: usize = 60;

#[test]
fn two_hundred_pods_are_followed_by_two_threads() {
    let two = NonZeroUsize::MIN.saturating_add(1);
    let bench = Bench::new(PODS, SubscriberOptions { threads: two, ..SubscriberOptions::default() });
    let mut publishers: Vec<_> = (0..PODS)
        .map(|pod| {
            let mut publisher = Publisher::new((pod % 2 == 0).then_some(Replay::New));
            if pod % 2 == 0 {
                publisher.publish_all(&batches(pod % 4)[..EACH / 2]);
            }
            publisher
        })
        .collect();
    let start = Instant::now();
    for (pod, publisher) in publishers.iter().enumerate() {
        bench.connect(pod, &publisher.endpoint, publisher.replay_endpoint());
    }
    until("all are connected and replayed", || {
        let status = bench.status();
        status.streams.iter().all(|stream| {
            let is_whole =
                stream.counters.replayed == 0 || stream.counters.last_sequence == Some(EACH as u64 / 2 - 1);
            stream.connected && !stream.counters.replaying && is_whole
        })
    });
    println!("{PODS} pods connected, half of them replayed, after {:?}", start.elapsed());
    std::thread::sleep(std::time::Duration::from_millis(500));

    let start = Instant::now();
    let last = Some(EACH as u64 - 1);
    for (pod, publisher) in publishers.iter_mut().enumerate() {
        let first = if pod % 2 == 0 { EACH / 2 } else { 0 };
        publisher.publish_all(&batches(pod % 4)[first..EACH]);
    }
    until("all batches are applied", || {
        bench.status().streams.iter().all(|stream| stream.counters.last_sequence == last)
    });
    println!("{} batches applied after {:?}", PODS / 2 * (EACH / 2 + EACH), start.elapsed());
    let whole: Vec<_> = (0..4).map(|of| expected(0, &batches(of)[..EACH])).collect();
    for pod in 0..PODS {
        bench.until_knows(pod, last, &whole[pod % 4]);
    }
    let streams = bench.status().streams;
    assert!(streams.iter().all(|stream| stream.counters.lost == 0 && stream.counters.views_dropped == 0));
}
