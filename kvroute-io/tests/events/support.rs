//! A router to be fed, what it should answer, and patience.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kvroute_core::index::{GapPolicy, MatchTable, PodOptions};
use kvroute_core::{CacheDomain, PodId, PodSpec, Router};
use kvroute_examples::capture::{self, Capture, Item, Mode as Hashes, Query};
use kvroute_io::events::{Mode, Stream, StreamStatus, Subscriber, SubscriberOptions, SubscriberStatus};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What real schedulers of four pods published, and prompts they were asked for.
pub(crate) fn story() -> &'static Capture {
    static STORY: OnceLock<Capture> = OnceLock::new();
    STORY.get_or_init(|| read("sim-cbor-small.jsonl.gz"))
}

pub(crate) fn read(capture: &str) -> Capture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures").join(capture);
    capture::read(&path).unwrap()
}

/// The batches of one pod of the story, in the order of their numbers from 0.
pub(crate) fn batches(of: usize) -> Vec<&'static [u8]> {
    let mut batches = Vec::new();
    for item in &story().items {
        match item {
            Item::Batch { pod, sequence, payload } if *pod == of => {
                assert_eq!(*sequence, batches.len() as u64);
                batches.push(&**payload);
            }
            _ => {}
        }
    }
    batches
}

fn queries() -> impl Iterator<Item = &'static Query> {
    story().items.iter().filter_map(|item| match item {
        Item::Query(query) => Some(query),
        Item::Batch { .. } => None,
    })
}

fn domain() -> Arc<CacheDomain> {
    story().pods[0].domain(Hashes::Native).unwrap()
}

/// Pods `pod-0` and so on, waiting for replays or not.
pub(crate) fn router(pods: usize, on_gap: GapPolicy) -> (Arc<Router>, Vec<PodId>) {
    let router = Router::default();
    let options = PodOptions { on_gap, ..PodOptions::default() };
    let add = |at| {
        let spec = PodSpec { options: options.clone(), ..PodSpec::new(format!("pod-{at}"), domain()) };
        router.add_pod(spec).unwrap()
    };
    let pods = (0..pods).map(add).collect();
    (Arc::new(router), pods)
}

/// Leading blocks that the router says a pod has, for every prompt of the story.
pub(crate) fn depths(router: &Router, pod: PodId) -> Vec<u32> {
    let (domain, mut table, mut blocks) = (domain(), MatchTable::default(), Vec::new());
    let depth = |query: &Query| {
        domain.hasher().hash_into(&query.token_ids, &query.context, &mut blocks).unwrap();
        router.index().lookup(&domain, &blocks, &mut table);
        table.blocks(pod).total()
    };
    queries().map(depth).collect()
}

/// The same for a pod that was given just these batches, the first with the number `first`.
pub(crate) fn expected<'a>(first: u64, batches: impl IntoIterator<Item = &'a &'a [u8]>) -> Vec<u32> {
    let (router, pods) = router(1, GapPolicy::Clear);
    for (sequence, payload) in (first..).zip(batches) {
        router.apply(pods[0], sequence, payload).unwrap();
    }
    depths(&router, pods[0])
}

/// Nothing is known.
pub(crate) fn nothing() -> Vec<u32> {
    expected(0, [])
}

/// Waits until `is_so`.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An endpoint of this machine that nobody has at the moment, and the port above it is free too. Below the ports
/// that the system gives out by itself, or another test gets it meanwhile.
pub(crate) fn free_endpoint() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 10_000) as u16;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(2, Ordering::Relaxed)) % 10_000;
        if [port, port + 1].iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return format!("tcp://127.0.0.1:{port}");
        }
    }
}

/// Subscriptions to one router.
pub(crate) struct Bench {
    pub(crate) router: Arc<Router>,
    pub(crate) pods: Vec<PodId>,
    pub(crate) subscriber: Subscriber,
}

impl Bench {
    pub(crate) fn new(pods: usize, options: SubscriberOptions) -> Self {
        Self::with(router(pods, GapPolicy::Replay), options)
    }

    pub(crate) fn with((router, pods): (Arc<Router>, Vec<PodId>), options: SubscriberOptions) -> Self {
        let subscriber = Subscriber::start(Arc::clone(&router), options).unwrap();
        Self { router, pods, subscriber }
    }

    /// Subscribes to a publisher that binds.
    pub(crate) fn connect(&self, pod: usize, endpoint: &str, replay: Option<&str>) {
        self.subscriber.add(self.stream(pod, endpoint, Mode::Connect, replay)).unwrap();
    }

    pub(crate) fn stream(&self, pod: usize, endpoint: &str, mode: Mode, replay: Option<&str>) -> Stream {
        let (endpoint, replay_endpoint) = (endpoint.to_owned(), replay.map(str::to_owned));
        Stream { pod: self.pods[pod], endpoint, mode, replay_endpoint, topic: String::new() }
    }

    pub(crate) fn status(&self) -> SubscriberStatus {
        self.subscriber.status()
    }

    pub(crate) fn stream_status(&self, pod: usize) -> StreamStatus {
        let name = format!("pod-{pod}");
        self.status().streams.into_iter().find(|stream| stream.pod == name).unwrap()
    }

    /// Waits until a pod is connected and no replay is under way.
    pub(crate) fn until_connected(&self, pod: usize) {
        until(&format!("pod {pod} is connected"), || {
            let stream = self.stream_status(pod);
            stream.connected && !stream.counters.replaying
        });
    }

    /// Waits until a pod has had the batch of this number, and knows exactly this.
    pub(crate) fn until_knows(&self, pod: usize, sequence: Option<u64>, depths_then: &[u32]) {
        let start = Instant::now();
        loop {
            let stream = self.stream_status(pod);
            let is_there = stream.counters.last_sequence == sequence && !stream.counters.replaying;
            if is_there && depths(&self.router, self.pods[pod]) == depths_then {
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "pod {pod} does not come to {sequence:?}: {stream:#?}; same depths: {}",
                depths(&self.router, self.pods[pod]) == depths_then
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
