//! Events of pods that say where they are.

use std::path::Path;

use kvroute_examples::capture::{self, Item};
use kvroute_io::fleet::PodState;

use super::support::*;

#[tokio::test]
async fn a_pods_events_are_subscribed_to_where_it_says() {
    let context = zmq::Context::new();
    let publisher = context.socket(zmq::PUB).unwrap();
    publisher.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = publisher.get_last_endpoint().unwrap().unwrap();
    let port = endpoint.rsplit_once(':').unwrap().1;
    let fake = FakePod::vllm().await;
    let source = format!(
        "{{\"0\":{{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://*:{port}\",\
          \"replay_endpoint\":null,\"topic\":\"kv@pod-0@tiny\"}}}}"
    );
    fake.answer("/kv_event_sources", Reply::text(source));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures/sim-cbor-small.jsonl.gz");
    let story = capture::read(&path).unwrap();
    let block_size = story.pods[0].block_size;
    let page = METRICS.replace("block_size=\"32\"", &format!("block_size=\"{block_size}\""));
    fake.answer("/metrics", Reply::text(page));

    let fleet = start(config(&[&fake]));
    let pod = until_state(&fleet, &fake.name(), PodState::Ready).await;
    assert_eq!(pod.known.unwrap().streams[0].endpoint, format!("tcp://127.0.0.1:{port}"));
    let connected = || fleet.status().events.streams.first().filter(|stream| stream.connected).map(drop);
    until("the stream is connected", connected).await;
    let batches = story.items.iter().filter_map(|item| match item {
        Item::Batch { pod: 0, sequence, payload } => Some((*sequence, payload)),
        _ => None,
    });
    // Subscribing takes a moment more than connecting: what is lost at first shows as a gap, not as silence.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for (sequence, payload) in batches.take(50) {
        publisher.send_multipart([&b"kv@pod-0@tiny"[..], &sequence.to_be_bytes(), payload], 0).unwrap();
    }
    until("blocks are known", || (fleet.router().index().blocks() > 0).then_some(())).await;
    let id = fleet.router().pod(&fake.name(), 0).unwrap().id();
    fleet.reconfigure(config(&[])).unwrap();
    until("it is gone", || fleet.router().pod_by_id(id).is_err().then_some(())).await;
    assert!(fleet.status().events.streams.is_empty());
    assert_eq!(fleet.router().index().blocks(), 0);
}

#[tokio::test]
async fn each_rank_is_a_pod_of_its_own_behind_one_url() {
    let fake = FakePod::vllm().await;
    let page = "vllm:num_requests_running{engine=\"0\",model_name=\"tiny\"} 1\n\
        vllm:num_requests_running{engine=\"1\",model_name=\"tiny\"} 5\n";
    fake.answer("/metrics", Reply::text(page));
    let fleet = start(config(&[&fake]));
    let pod = until_state(&fleet, &fake.name(), PodState::Ready).await;
    assert_eq!(pod.ranks.iter().map(|rank| rank.rank).collect::<Vec<_>>(), [0, 1]);
    for (rank, running) in [(0, 1), (1, 5)] {
        let routed = fleet.router().pod(&fake.name(), rank).unwrap();
        assert_eq!(routed.load().unwrap().running, running);
        let target = fleet.target(routed.id()).unwrap();
        assert_eq!((target.rank, target.ranks), (rank, 2));
    }
}
