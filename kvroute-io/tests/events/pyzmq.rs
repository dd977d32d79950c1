//! libzmq's own publishers (pyzmq), each a process that can be killed, with what real engines published. After every
//! step the router must answer what the engine itself said it had.
//!
//! These need a Python with `tests/requirements.txt`, named by `KVROUTE_PYZMQ`; `cargo xtask test --only events` makes one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use kvroute_core::index::{GapPolicy, MatchTable, PodOptions};
use kvroute_core::{PodSpec, Router};
use kvroute_examples::capture::{Capture, Item, Mode as Hashes, Query};
use kvroute_io::events::{Mode, SubscriberOptions};

use crate::support::{Bench, batches, expected, free_endpoint, read, router, until};

struct Process {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    endpoint: String,
    replay_endpoint: Option<String>,
    published: u64,
}

impl Process {
    fn start(endpoint: &str, arguments: &[&str]) -> Self {
        let python = std::env::var_os("KVROUTE_PYZMQ").expect("KVROUTE_PYZMQ names a Python with pyzmq");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/events/publisher.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(["--endpoint", endpoint])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a Python");
        let commands = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("ready"), "{line:?}");
        let (endpoint, replay_endpoint) = (words.next().unwrap().to_owned(), words.next().map(str::to_owned));
        let first = arguments.iter().position(|argument| *argument == "--first");
        let published = first.map_or(0, |at| arguments[at + 1].parse().unwrap());
        Self { child, commands, answers, endpoint, replay_endpoint, published }
    }

    fn tell(&mut self, command: &str, payload: &[u8]) {
        let argument = base64::engine::general_purpose::STANDARD.encode(payload);
        writeln!(self.commands.as_mut().unwrap(), "{command} {argument}").unwrap();
        self.published += u64::from(command != "sleep");
    }

    fn publish(&mut self, payload: &[u8]) {
        self.tell("batch", payload);
    }

    /// Waits until it has done all it was told.
    fn flush(&mut self) {
        writeln!(self.commands.as_mut().unwrap(), "flush").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), format!("flushed {}", self.published));
    }

    /// As `kill -9`.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ANYWHERE: &str = "tcp://127.0.0.1:*";

/// A router with the pods of a capture.
fn of_capture(capture: &Capture, hashes: Hashes, options: SubscriberOptions) -> Bench {
    let router = Router::default();
    let add = |pod: &kvroute_examples::capture::CapturedPod| {
        let options = PodOptions { on_gap: GapPolicy::Replay, ..PodOptions::default() };
        let spec = PodSpec::new(pod.name.clone(), pod.domain(hashes).unwrap());
        router.add_pod(PodSpec { options, ..spec }).unwrap()
    };
    let pods = capture.pods.iter().map(add).collect();
    Bench::with((Arc::new(router), pods), options)
}

/// What came of a capture.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    answers: usize,
    equal: usize,
    /// Different, for a reason that was known beforehand.
    explained: usize,
}

/// Publishes `items` in their order; before a query, waits until the router has all of them, and compares. `publish` is
/// told which batch of its pod it is.
fn play(
    capture: &Capture,
    bench: &Bench,
    items: &[Item],
    mut publish: impl FnMut(usize, u64, &[u8]),
    mut tally: Option<&mut Tally>,
) {
    let mut last: Vec<Option<u64>> = vec![None; capture.pods.len()];
    for item in items {
        match item {
            Item::Batch { pod, sequence, payload } => {
                publish(*pod, *sequence, payload);
                last[*pod] = Some(*sequence);
            }
            Item::Query(query) => {
                until("all that was published is applied", || {
                    let streams = bench.status().streams;
                    let has = |(at, last): (usize, &Option<u64>)| {
                        last.is_none() || streams[at].counters.last_sequence == *last
                    };
                    last.iter().enumerate().all(has)
                });
                if let Some(tally) = tally.as_deref_mut() {
                    compare(capture, bench, query, tally);
                }
            }
        }
    }
}

fn compare(capture: &Capture, bench: &Bench, query: &Query, tally: &mut Tally) {
    for answer in &query.answers {
        let pod = bench.router.pod(&capture.pods[answer.pod].name, 0).unwrap();
        let (domain, mut table, mut blocks) = (pod.domain(), MatchTable::default(), Vec::new());
        domain.hasher().hash_into(&query.token_ids, &query.context, &mut blocks).unwrap();
        blocks.truncate(domain.searchable_blocks(query.token_ids.len()));
        bench.router.index().lookup(domain, &blocks, &mut table);
        let cached = table.blocks(pod.id()).total() * domain.block_size();
        tally.answers += 1;
        tally.equal += usize::from(cached == answer.cached);
        tally.explained += usize::from(cached != answer.cached && answer.exception.is_some());
        assert!(
            cached == answer.cached || answer.exception.is_some(),
            "{}: {answer:?}, ours {cached}",
            query.name
        );
    }
}

/// A capture of one pod, live with a late subscriber, published by a process that binds.
fn late_join() -> Capture {
    read("live-late-join")
}

#[test]
#[ignore = "needs pyzmq: cargo xtask test --only events"]
fn real_pods_that_connect_are_known_as_they_know_themselves() {
    let capture = read("live-3pods");
    for hashes in [Hashes::Native, Hashes::Translated] {
        let bench = of_capture(&capture, hashes, SubscriberOptions::default());
        let endpoint = free_endpoint();
        let mut processes: Vec<_> = capture
            .pods
            .iter()
            .map(|pod| {
                let topic = format!("kv@{}@tiny", pod.name);
                Process::start(&endpoint, &["--connect", "--topic", &topic, "--replay", ANYWHERE])
            })
            .collect();
        for (pod, process) in processes.iter().enumerate() {
            let replay = process.replay_endpoint.as_deref();
            bench.subscriber.add(bench.stream(pod, &endpoint, Mode::Bind, replay)).unwrap();
        }
        let mut tally = Tally::default();
        let publish = |pod: usize, sequence, payload: &[u8]| {
            assert_eq!(processes[pod].published, sequence);
            processes[pod].publish(payload);
        };
        play(&capture, &bench, &capture.items, publish, Some(&mut tally));
        assert_eq!(tally, Tally { answers: 524, equal: 519, explained: 5 }, "{hashes:?}");
        let lost: u64 = bench.status().streams.iter().map(|stream| stream.counters.lost).sum();
        assert_eq!(lost, 0);
    }
}

#[test]
#[ignore = "needs pyzmq: cargo xtask test --only events"]
fn a_real_pod_that_binds_and_is_found_late_is_known_as_it_knows_itself() {
    let capture = late_join();
    for old in [false, true] {
        let bench = of_capture(&capture, Hashes::Native, SubscriberOptions::default());
        let mut arguments = vec!["--replay", ANYWHERE];
        arguments.extend(old.then_some("--old"));
        let mut process = Process::start(ANYWHERE, &arguments);
        // The capture's own subscriber missed the first 23 batches.
        let middle =
            capture.items.iter().position(|item| matches!(item, Item::Batch { sequence: 23, .. })).unwrap();
        for item in &capture.items[..middle] {
            if let Item::Batch { payload, .. } = item {
                process.publish(payload);
            }
        }
        process.flush();
        bench.connect(0, &process.endpoint, process.replay_endpoint.as_deref());
        let mut tally = Tally::default();
        let publish = |_, sequence, payload: &[u8]| {
            assert_eq!(process.published, sequence);
            process.publish(payload);
        };
        play(&capture, &bench, &capture.items[middle..], publish, Some(&mut tally));
        assert!(tally.answers > 50 && tally.explained <= 1, "{tally:?}");
        assert!(bench.stream_status(0).counters.replayed >= 23);
    }
}

#[test]
#[ignore = "needs pyzmq: cargo xtask test --only events"]
fn an_engine_killed_in_the_middle_and_started_again_is_known_anew() {
    let capture = late_join();
    let options = SubscriberOptions { reconnect_first: Duration::from_millis(50), ..Default::default() };
    for replay in [true, false] {
        let bench = of_capture(&capture, Hashes::Native, options.clone());
        let arguments: &[&str] = if replay { &["--replay", ANYWHERE] } else { &[] };
        let mut process = Process::start(ANYWHERE, arguments);
        let (endpoint, replay_endpoint) = (process.endpoint.clone(), process.replay_endpoint.clone());
        bench.connect(0, &endpoint, replay_endpoint.as_deref());
        bench.until_connected(0);
        std::thread::sleep(Duration::from_millis(300));
        for kills in 0..3 {
            let mut tally = Tally::default();
            let publish = |_, _, payload: &[u8]| process.publish(payload);
            let upto = capture.items.len() * (kills + 1) / 3;
            play(&capture, &bench, &capture.items[..upto], publish, Some(&mut tally));
            assert!(tally.answers > 20, "{tally:?}");
            process.kill();
            until("the connection is lost", || !bench.stream_status(0).connected);
            let arguments: Vec<&str> =
                replay_endpoint.iter().flat_map(|endpoint| ["--replay", endpoint.as_str()]).collect();
            process = Process::start(&endpoint, &arguments);
            bench.until_connected(0);
            std::thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(bench.stream_status(0).counters.lost, 0);
    }
}

#[test]
#[ignore = "needs pyzmq: cargo xtask test --only events"]
fn what_is_lost_on_the_way_comes_by_replay() {
    let capture = late_join();
    let bench = of_capture(&capture, Hashes::Native, SubscriberOptions::default());
    let mut process = Process::start(ANYWHERE, &["--replay", ANYWHERE]);
    bench.connect(0, &process.endpoint, process.replay_endpoint.as_deref());
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(300));
    // A loss shows with the next batch, so what stands before a query is not lost.
    let mut items = capture.items.iter().peekable();
    let mut tally = Tally::default();
    while let Some(item) = items.next() {
        match item {
            Item::Batch { sequence, payload, .. } => {
                let is_followed = matches!(items.peek(), Some(Item::Batch { .. }));
                process.tell(if is_followed && sequence % 2 == 0 { "lose" } else { "batch" }, payload);
            }
            Item::Query(query) => {
                let last = process.published.checked_sub(1);
                until("all is applied", || bench.stream_status(0).counters.last_sequence == last);
                compare(&capture, &bench, query, &mut tally);
            }
        }
    }
    let counters = bench.stream_status(0).counters;
    assert!(tally.answers > 90 && counters.gaps > 10, "{tally:?} {counters:#?}");
    assert_eq!((counters.lost, counters.views_dropped), (0, 0));
}

#[test]
#[ignore = "needs pyzmq: cargo xtask test --only events"]
fn ten_thousand_batches_are_replayed_past_the_marks_of_the_engines_socket() {
    let batches = batches(0);
    let mut process = Process::start(ANYWHERE, &["--replay", ANYWHERE]);
    let many: Vec<&[u8]> = batches.iter().copied().cycle().take(10_000).collect();
    many.iter().for_each(|payload| process.publish(payload));
    process.flush();
    // Once with room for all of it, once with so little that the engine's socket drops some.
    for room in [16_384, 10] {
        let options = SubscriberOptions { replay_high_water_mark: room, ..SubscriberOptions::default() };
        let bench = Bench::new(1, options);
        let start = std::time::Instant::now();
        bench.connect(0, &process.endpoint, process.replay_endpoint.as_deref());
        bench.until_knows(0, Some(9_999), &expected(0, &many));
        let counters = bench.stream_status(0).counters;
        println!(
            "room for {room}: {} batches in {} replays, {} broken off, after {:?}",
            counters.replayed,
            counters.replays,
            counters.replay_failures,
            start.elapsed()
        );
        assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
    }
}

#[test]
#[ignore = "needs pyzmq: cargo xtask test --only events"]
fn what_a_publisher_drops_at_its_own_mark_is_noticed_and_replayed() {
    let batches = batches(0);
    let (router, pods) = router(1, GapPolicy::Replay);
    let options = SubscriberOptions { high_water_mark: 1, ..SubscriberOptions::default() };
    let bench = Bench::with((router, pods), options);
    let mut process = Process::start(ANYWHERE, &["--replay", ANYWHERE, "--hwm", "2"]);
    bench.connect(0, &process.endpoint, process.replay_endpoint.as_deref());
    bench.until_connected(0);
    std::thread::sleep(Duration::from_millis(300));
    let many: Vec<&[u8]> = batches.iter().copied().cycle().take(5_000).collect();
    many.iter().for_each(|payload| process.publish(payload));
    process.flush();
    // The last ones may be among what was dropped; the next one tells.
    until("all is known", || {
        process.publish(batches[0]);
        let counters = bench.stream_status(0).counters;
        !counters.replaying && counters.last_sequence.is_some_and(|last| last + 1 >= process.published - 1)
    });
    let counters = bench.stream_status(0).counters;
    println!("{} of {} batches came, {} gaps", counters.batches, process.published, counters.gaps);
    assert!(counters.gaps > 0, "nothing was dropped: {counters:#?}");
    assert_eq!((counters.lost, counters.views_dropped), (0, 0), "{counters:#?}");
}
