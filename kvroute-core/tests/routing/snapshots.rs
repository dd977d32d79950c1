//! A router started from a snapshot goes on as if the one before had never stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kvroute_core::event::{BlockRemoved, GroupKind};
use kvroute_core::index::{CopyPolicy, MatchTable, RestoredBlocks};
use kvroute_core::router::{Refusal, RestoredPod, RouterStatus};
use kvroute_core::{ErrorKind, PodOptions, Restore, RestoreReport, Snapshot};

use super::*;

const NOW: Duration = seconds(1000);
/// Another process counts from another moment.
const LATER: Duration = seconds(3);

fn written(router: &Router) -> Vec<u8> {
    let (mut snapshot, mut bytes) = (router.snapshot(NOW), Vec::new());
    while let Some(chunk) = snapshot.next_chunk(router).unwrap() {
        assert!((1..=Snapshot::CHUNK).contains(&chunk.len()));
        bytes.extend_from_slice(chunk);
    }
    assert_eq!(snapshot.next_chunk(router).unwrap(), None);
    bytes
}

fn restore(router: &Router, bytes: &[u8]) -> Result<RestoreReport, kvroute_core::Error> {
    let mut restore = Restore::default();
    bytes.chunks(1000).try_for_each(|chunk| restore.push(chunk))?;
    restore.finish(router, LATER)
}

/// A new router that knows the domain, and what it made of the snapshot.
fn successor(options: RouterOptions, bytes: &[u8]) -> (Router, RestoreReport) {
    let router = Router::new(options, demo_policy()).unwrap();
    router.add_domain(domain("model", BLOCK_SIZE)).unwrap();
    let report = restore(&router, bytes).unwrap();
    (router, report)
}

fn id(router: &Router, name: &str) -> PodId {
    router.pod(name, 0).unwrap().id()
}

fn dispatch(router: &Router, token_ids: &[u32], session: &str, now: Duration) -> Dispatch {
    let context = HashContext::default();
    let request = Request { session: Some(Session::Id(session)), ..Request::new(token_ids, &context) };
    router.dispatch(&request, now, &mut Workspace::default()).unwrap()
}

/// One of everything that is carried.
fn busy_router() -> Router {
    let (router, ids) = router_of(&["a", "b", "c"]);
    store(&router, ids[0], &prompt(1), 8, Tier::Gpu);
    store(&router, ids[0], &prompt(1), 8, Tier::Gpu);
    store(&router, ids[1], &prompt(1), 10, Tier::Gpu);
    store(&router, ids[1], &prompt(2), 6, Tier::Gpu);
    // A hole, an offloaded block, and one that waits for its parent.
    let blocks = stored(&prompt(1), 10, Tier::Gpu).block_hashes;
    let removal = BlockRemoved { block_hashes: blocks[3..4].to_vec(), tier: Some(Tier::Gpu), group: 0 };
    apply(&router, ids[1], KvEvent::Removed(removal));
    let offloaded =
        BlockStored { block_hashes: blocks[4..6].to_vec(), tier: Some(Tier::Cpu), ..BlockStored::default() };
    apply(&router, ids[1], KvEvent::Stored(offloaded));
    let orphan = BlockStored { parent: Some(EngineHash(99)), ..stored(&prompt(3), 1, Tier::Gpu) };
    apply(&router, ids[2], KvEvent::Stored(orphan));
    for n in 0..5 {
        let ticket = dispatch(&router, &prompt(n), &format!("s{n}"), NOW).ticket;
        router.finish(ticket, Finish::Completed, Some(0));
    }
    router.set_accepting(ids[2], false).unwrap();
    router
}

/// What is known of the pods, ids and loads left out.
fn known(router: &Router) -> RouterStatus {
    let mut status = router.status();
    for pod in &mut status.pods {
        (pod.id, pod.load) = (0, None);
    }
    // Tables of other histories have other sizes.
    (status.index.bytes, status.index.view_bytes) = (0, 0);
    status
}

#[test]
fn a_successor_knows_what_its_predecessor_knew_and_decides_the_same() {
    let router = busy_router();
    let (other, report) = successor(RouterOptions::default(), &written(&router));
    assert_eq!((report.sessions, report.sessions_left_out), (5, 0));
    assert!(report.pods.iter().all(|pod| pod.added && pod.blocks.is_ok_and(|blocks| blocks.refused == 0)));
    assert_eq!(known(&other), known(&router));
    for n in 0..6 {
        for session in ["s0", "s1", "s4", "new"] {
            let pod = |router: &Router, now| {
                let dispatch = dispatch(router, &prompt(n), session, now);
                let pod = router.pod_by_id(dispatch.decision.pod).unwrap();
                (pod.name().to_string(), dispatch.decision.total, dispatch.decision.uncached_tokens)
            };
            assert_eq!(pod(&other, LATER), pod(&router, NOW), "prompt {n}, session {session}");
        }
    }
    assert_eq!(known(&other), known(&router));
}

#[test]
fn a_successor_gives_back_what_it_got() {
    let router = busy_router();
    let (other, _) = successor(RouterOptions::default(), &written(&router));
    let (bytes, before) = (other.index().bytes(), router.index().bytes());
    assert!(bytes <= before + before / 4, "{bytes}, not {before}");
    for pod in other.pods() {
        other.remove_pod(pod.id()).unwrap();
    }
    assert_eq!((other.index().blocks(), other.index().bytes()), (0, 0));
}

#[test]
fn every_part_that_is_missing_and_every_changed_byte_is_an_error_and_changes_nothing() {
    let bytes = written(&busy_router());
    let (router, ids) = router_of(&["a", "z"]);
    store(&router, ids[1], &prompt(7), 3, Tier::Gpu);
    let (before, memory) = (router.status(), router.index().bytes());
    for length in 0..bytes.len() {
        assert_eq!(restore(&router, &bytes[..length]).unwrap_err().kind(), ErrorKind::Decode, "{length}");
    }
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert_eq!(restore(&router, &changed).unwrap_err().kind(), ErrorKind::Decode, "{at}");
    }
    assert_eq!((router.status(), router.index().bytes()), (before, memory));
    assert!(restore(&router, &bytes).is_ok());
}

#[test]
fn an_error_stays_and_a_snapshot_of_another_version_names_both() {
    let mut bytes = written(&busy_router());
    bytes[8] = 1;
    let mut restore = Restore::default();
    let expected = "snapshot: its format is of version 1, this library reads 2";
    assert_eq!(restore.push(&bytes).unwrap_err().to_string(), expected);
    bytes[8] = 2;
    assert_eq!(restore.push(&bytes).unwrap_err().to_string(), expected);
    assert_eq!(restore.finish(&Router::default(), LATER).unwrap_err().to_string(), expected);
}

#[test]
fn a_fleet_that_does_not_fit_in_a_snapshot_never_ends_one() {
    let (router, domain) = (Router::default(), domain("model", BLOCK_SIZE));
    for number in 0..=16_384 {
        router.add_pod(PodSpec::new(number.to_string(), Arc::clone(&domain))).unwrap();
    }
    let mut snapshot = router.snapshot(NOW);
    let mut next = || snapshot.next_chunk(&router).map(|chunk| chunk.map(<[u8]>::len));
    let error = (0..=20_000).find_map(|_| next().err()).expect("one pod too many");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(next(), Err(error), "whoever asks on is told again");
}

#[test]
fn the_next_batch_applies_a_repeated_one_is_known_and_a_gap_and_a_restart_are_noticed() {
    use kvroute_core::index::{IgnoreReason, Outcome, ResyncReason};

    let batch = |n: u8| vec![0x93, 0xca, 0x40, 0, 0, n, 0x90, 0];
    let (router, ids) = router_of(&["a"]);
    for n in 0..5 {
        assert_eq!(router.apply(ids[0], u64::from(n), &batch(n)).unwrap().outcome, Outcome::Applied);
    }
    store(&router, ids[0], &prompt(1), 4, Tier::Gpu);
    let bytes = written(&router);
    let answer = |sequence: u64, n: u8| {
        let (router, _) = successor(RouterOptions::default(), &bytes);
        let outcome = router.apply(id(&router, "a"), sequence, &batch(n)).unwrap().outcome;
        (outcome, router.index().blocks())
    };
    assert_eq!(answer(5, 5), (Outcome::Applied, 4));
    assert_eq!(answer(4, 4), (Outcome::Ignored(IgnoreReason::Duplicate), 4));
    assert_eq!(answer(2, 2), (Outcome::Ignored(IgnoreReason::Duplicate), 4));
    assert_eq!(answer(4, 9), (Outcome::NeedsResync(ResyncReason::Restarted), 0));
    assert_eq!(answer(0, 9), (Outcome::Applied, 0));
    assert_eq!(answer(8, 8), (Outcome::Applied, 0), "lost batches may have been removals");
}

/// Parts of a report, by pod.
fn refusals(report: &RestoreReport) -> Vec<(&str, bool, Option<Refusal>)> {
    let row = |pod: &'_ RestoredPod| (pod.id.is_some(), pod.blocks.err());
    report.pods.iter().map(|pod| (&*pod.name, row(pod).0, row(pod).1)).collect()
}

#[test]
fn a_pod_that_reads_its_stream_otherwise_gets_nothing_and_the_report_says_why() {
    let bytes = written(&busy_router());
    let router = Router::default();
    let report = restore(&router, &bytes).unwrap();
    let unknown = Some(Refusal::UnknownDomain);
    assert_eq!(refusals(&report), [("a", false, unknown), ("b", false, unknown), ("c", false, unknown)]);
    assert_eq!((router.pods().len(), report.sessions, report.sessions_left_out), (0, 0, 5));

    let router = Router::default();
    router.add_domain(domain("model", 8)).unwrap();
    let report = restore(&router, &bytes).unwrap();
    assert!(report.pods.iter().all(|pod| pod.blocks == Err(Refusal::OtherHashes)));
    assert_eq!(router.pods().len(), 0);

    let router = Router::default();
    router.add_domain(domain("model", BLOCK_SIZE)).unwrap();
    router.add_pod(PodSpec::new("a", domain("other", BLOCK_SIZE))).unwrap();
    let options = PodOptions { copies: CopyPolicy::Set, ..PodOptions::default() };
    router.add_pod(PodSpec { options, ..PodSpec::new("b", domain("model", BLOCK_SIZE)) }).unwrap();
    let c = router.add_pod(PodSpec::new("c", domain("model", BLOCK_SIZE))).unwrap();
    store(&router, c, &prompt(9), 2, Tier::Gpu);
    let before = router.index().blocks();
    let report = restore(&router, &bytes).unwrap();
    let expected = [
        ("a", true, Some(Refusal::OtherDomain)),
        ("b", true, Some(Refusal::OtherOptions)),
        ("c", true, Some(Refusal::InUse)),
    ];
    assert_eq!(refusals(&report), expected);
    assert_eq!(router.index().blocks(), before);
    assert!(!router.pod_by_id(c).unwrap().is_accepting(), "it was drained");
}

#[test]
fn a_pod_that_is_here_keeps_its_id_and_its_bounds() {
    let bytes = written(&busy_router());
    let (router, ids) = router_with(
        RouterOptions {
            index: IndexOptions { max_predicted: 4, ..IndexOptions::default() },
            max_sessions: 2,
            ..RouterOptions::default()
        },
        &["c", "a"],
    );
    let report = restore(&router, &bytes).unwrap();
    let by_name = |name: &str| report.pods.iter().find(|pod| pod.name == name).unwrap();
    assert_eq!(by_name("a").id, Some(ids[1]));
    assert_eq!((by_name("a").added, by_name("b").added), (false, true));
    assert!(
        report.pods.iter().all(|pod| pod.blocks.is_ok_and(|blocks: RestoredBlocks| blocks.predicted <= 4))
    );
    assert_eq!((report.sessions, report.sessions_left_out, router.counters().sessions), (2, 3, 2));
    // Twice changes nothing: what came since is later.
    let again = restore(&router, &bytes).unwrap();
    assert!(again.pods.iter().all(|pod| !pod.added && pod.blocks == Err(Refusal::InUse)));
}

#[test]
fn sessions_keep_the_time_they_have_left_and_go_in_the_order_of_their_use() {
    let options = || RouterOptions { max_sessions: 8, ..RouterOptions::default() };
    let (router, _) = router_with(options(), &["a", "b", "c"]);
    for n in 0..8 {
        let at = NOW.saturating_sub(seconds(100 - n));
        dispatch(&router, &prompt(n as u32), &format!("s{n}"), at);
    }
    dispatch(&router, &prompt(0), "s0", NOW);
    let (other, report) = successor(options(), &written(&router));
    assert_eq!(report.sessions, 8);
    let homes = |router: &Router, now: Duration| -> Vec<bool> {
        let context = HashContext::default();
        let at_home = |n: u32| {
            let name = format!("s{n}");
            let request = Request { session: Some(Session::Id(&name)), ..Request::new(&[], &context) };
            let mut workspace = Workspace::default();
            router.decide(&request, now, &mut workspace).unwrap();
            router.explain(&workspace).session.is_none()
        };
        (0..11).map(at_home).collect()
    };
    for (more, left) in [(0, 8), (199, 8), (203, 5), (299, 1), (300, 0)] {
        let remembered = homes(&other, LATER + seconds(more));
        assert_eq!(remembered, homes(&router, NOW + seconds(more)), "{more} s");
        assert_eq!(remembered.iter().filter(|home| **home).count(), left, "{more} s");
    }
    for n in 8..11 {
        dispatch(&router, &prompt(n), &format!("s{n}"), NOW);
        dispatch(&other, &prompt(n), &format!("s{n}"), LATER);
    }
    assert_eq!(homes(&other, LATER), homes(&router, NOW), "the same ones were pushed out");
}

#[test]
fn a_snapshot_goes_on_with_its_own_router_only() {
    let (mut router, _) = router_of(&["a", "b"]);
    let mut snapshot = router.snapshot(NOW);
    assert!(snapshot.next_chunk(&router).unwrap().is_some());
    assert_eq!(snapshot.next_chunk(&Router::default()).unwrap_err().kind(), ErrorKind::InvalidInput);
    router.reset();
    assert_eq!(snapshot.next_chunk(&router).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_pod_that_goes_meanwhile_is_left_out_and_one_that_comes_is_not_in_it() {
    let (router, ids) = router_of(&["a", "b", "c"]);
    ids.iter().for_each(|&id| store(&router, id, &prompt(1), 5, Tier::Gpu));
    dispatch(&router, &prompt(1), "s", NOW);
    let (mut snapshot, mut bytes) = (router.snapshot(NOW), Vec::new());
    bytes.extend_from_slice(snapshot.next_chunk(&router).unwrap().unwrap());
    router.remove_pod(ids[1]).unwrap();
    router.add_pod(PodSpec::new("d", domain("model", BLOCK_SIZE))).unwrap();
    while let Some(chunk) = snapshot.next_chunk(&router).unwrap() {
        bytes.extend_from_slice(chunk);
    }
    let (other, report) = successor(RouterOptions::default(), &bytes);
    assert_eq!(refusals(&report), [("a", true, None), ("c", true, None)]);
    assert_eq!(other.index().blocks(), 5);
}

/// Pods store and remove along shared chains while snapshots are taken: in each, every pod has what it had after
/// the number of batches that its part says.
#[test]
fn a_snapshot_taken_while_events_come_has_each_pod_as_it_was_at_one_moment() {
    const STEPS: usize = 3000;
    let (router, ids) = router_of(&["a", "b", "c"]);
    let token_ids: Vec<u32> = (0..STEPS as u32 * BLOCK_SIZE).collect();
    let chain = stored(&token_ids, STEPS, Tier::Gpu);
    // Two blocks more and one less each time: the tail moves, and others hang on the same runs.
    let step = |at: usize| {
        let size = BLOCK_SIZE as usize;
        let store = BlockStored {
            block_hashes: chain.block_hashes[at..at + 2].to_vec(),
            parent: at.checked_sub(1).map(|before| chain.block_hashes[before]),
            token_ids: token_ids[at * size..(at + 2) * size].to_vec(),
            ..chain.clone()
        };
        let block_hashes = chain.block_hashes[at + 1..at + 2].to_vec();
        let remove = BlockRemoved { block_hashes, tier: Some(Tier::Gpu), group: 0 };
        let events = vec![KvEvent::Stored(store), KvEvent::Removed(remove)];
        EventBatch { events, ..EventBatch::default() }
    };
    let done = AtomicBool::new(false);
    let snapshots = thread::scope(|scope| {
        let writers: Vec<_> = ids
            .iter()
            .map(|&id| {
                let (router, step) = (&router, &step);
                scope.spawn(move || {
                    for at in 0..STEPS - 1 {
                        router.apply_events(id, &step(at)).unwrap();
                    }
                })
            })
            .collect();
        let (router, done) = (&router, &done);
        let reader = scope.spawn(move || {
            let mut snapshots = vec![written(router)];
            while !done.load(Ordering::Relaxed) && snapshots.len() < 40 {
                snapshots.push(written(router));
            }
            snapshots.push(written(router));
            snapshots
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap()
    });
    for bytes in snapshots {
        let (other, report) = successor(RouterOptions::default(), &bytes);
        for pod in report.pods {
            let batches = other.index().counters(pod.id.unwrap()).unwrap().batches;
            assert_eq!(pod.blocks.unwrap().held, batches, "{}", pod.name);
        }
        other.pods().iter().for_each(|pod| other.remove_pod(pod.id()).unwrap());
        assert_eq!((other.index().blocks(), other.index().bytes()), (0, 0));
    }
}

/// Engines announce that a block was offloaded after it left the device, by its name alone.
#[test]
fn a_block_that_left_the_device_before_the_snapshot_can_be_offloaded_after_it() {
    let (router, ids) = router_of(&["a"]);
    let chain = stored(&prompt(1), 10, Tier::Gpu);
    let offloaded = |blocks: std::ops::Range<usize>| {
        KvEvent::Stored(BlockStored {
            block_hashes: chain.block_hashes[blocks].to_vec(),
            tier: Some(Tier::Cpu),
            ..BlockStored::default()
        })
    };
    apply(&router, ids[0], KvEvent::Stored(chain.clone()));
    apply(&router, ids[0], offloaded(0..1));
    let block_hashes = chain.block_hashes[7..].iter().rev().copied().collect();
    apply(&router, ids[0], KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(Tier::Gpu), group: 0 }));
    let (other, _) = successor(RouterOptions::default(), &written(&router));
    for router in [&router, &other] {
        apply(router, id(router, "a"), offloaded(7..9));
        let counters = router.index().counters(id(router, "a")).unwrap();
        assert_eq!((counters.blocks_refused, router.index().blocks()), (0, 9));
    }
    assert_eq!(known(&other), known(&router));
}

#[test]
fn a_run_that_another_took_the_place_of_between_two_pods_is_written_again() {
    let one_shard = IndexOptions { shards: 1, ..IndexOptions::default() };
    let options = || RouterOptions { index: one_shard, ..RouterOptions::default() };
    let (router, ids) = router_with(options(), &["a", "b"]);
    store(&router, ids[0], &prompt(1), 10, Tier::Gpu);
    let (mut snapshot, mut bytes) = (router.snapshot(NOW), Vec::new());
    // The header, and the first pod's part.
    (0..2).for_each(|_| bytes.extend_from_slice(snapshot.next_chunk(&router).unwrap().unwrap()));
    // What was written of the first pod's run says nothing of the one in its place.
    clear(&router, ids[0]);
    store(&router, ids[1], &prompt(2), 10, Tier::Gpu);
    while let Some(chunk) = snapshot.next_chunk(&router).unwrap() {
        bytes.extend_from_slice(chunk);
    }
    let (other, _) = successor(options(), &bytes);
    assert_eq!(other.index().blocks(), 20);
    let domain = domain("model", BLOCK_SIZE);
    for (name, prompt) in [("a", prompt(1)), ("b", prompt(2))] {
        let hashes = domain.hasher().hash(&prompt, &HashContext::default()).unwrap();
        let mut table = MatchTable::default();
        other.index().lookup(&domain, &hashes, &mut table);
        assert_eq!(table.matches().len(), 1);
        assert_eq!(table.blocks(id(&other, name)).total(), 10, "{name}");
    }
}

/// A pod that lives already stores and removes the very blocks that are being restored.
#[test]
fn pods_that_live_are_not_disturbed_by_what_is_restored_around_them() {
    const BLOCKS: usize = 1500;
    let token_ids: Vec<u32> = (0..BLOCKS as u32 * BLOCK_SIZE).collect();
    let chain = stored(&token_ids, BLOCKS, Tier::Gpu);
    let (predecessor, ids) = router_of(&["a", "b"]);
    store(&predecessor, ids[0], &token_ids, BLOCKS, Tier::Gpu);
    store(&predecessor, ids[1], &token_ids, 1100, Tier::Gpu);
    dispatch(&predecessor, &token_ids, "s", NOW);
    let bytes = written(&predecessor);
    for round in 0..60 {
        let index = IndexOptions { shards: 1 << (round % 5), ..IndexOptions::default() };
        let options = RouterOptions { index, ..RouterOptions::default() };
        let (router, ids) = router_with(options, &["live"]);
        let done = AtomicBool::new(false);
        let length = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut length = 0;
                for at in 1.. {
                    length = 1 + at * 331 % BLOCKS;
                    store(&router, ids[0], &token_ids, length, Tier::Gpu);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let block_hashes = chain.block_hashes[..length].iter().rev().copied().collect();
                    let removal = BlockRemoved { block_hashes, tier: Some(Tier::Gpu), group: 0 };
                    apply(&router, ids[0], KvEvent::Removed(removal));
                }
                length
            });
            let report = restore(&router, &bytes).unwrap();
            assert!(report.pods.iter().all(|pod| pod.blocks.is_ok_and(|blocks| blocks.refused == 0)));
            done.store(true, Ordering::Relaxed);
            writer.join().unwrap()
        });
        let counters = router.index().counters(ids[0]).unwrap();
        assert_eq!((counters.unknown_removals, counters.blocks_refused), (0, 0), "round {round}");
        let hashes = domain("model", BLOCK_SIZE).hasher().hash(&token_ids, &HashContext::default()).unwrap();
        let mut table = MatchTable::default();
        router.index().lookup(&domain("model", BLOCK_SIZE), &hashes, &mut table);
        let depths =
            [ids[0], id(&router, "a"), id(&router, "b")].map(|pod| table.blocks(pod).total() as usize);
        assert_eq!(depths, [length, BLOCKS, 1100], "round {round}");
        assert_eq!(router.index().blocks(), BLOCKS, "every block has one name");
        router.pods().iter().for_each(|pod| router.remove_pod(pod.id()).unwrap());
        assert_eq!((router.index().blocks(), router.index().bytes()), (0, 0), "round {round}");
    }
}

#[test]
fn pods_come_back_with_all_that_they_were_added_with() {
    let router = Router::default();
    let options = PodOptions {
        groups: vec![(0, GroupKind::FullAttention), (3, GroupKind::SlidingWindow { window: 128 })],
        adapters: vec![(-7, "sql".into())],
        max_parked: 5,
        max_parked_bytes: usize::MAX,
        max_retired: 0,
        ..PodOptions::default()
    };
    let spec = PodSpec {
        dp_rank: 3,
        role: Role::Prefill,
        capacity: 2.5,
        labels: [("zone".to_string(), "eu\u{e9}".to_string())].into(),
        options,
        ..PodSpec::new("10.0.0.7:8000", domain("model", BLOCK_SIZE))
    };
    router.add_pod(spec).unwrap();
    let (other, report) = successor(RouterOptions::default(), &written(&router));
    let (old, new) = (&router.pods()[0], &other.pods()[0]);
    assert_eq!((report.pods[0].dp_rank, report.pods[0].id), (3, Some(new.id())));
    assert_eq!(
        (new.name(), new.dp_rank(), new.role(), new.labels()),
        (old.name(), 3, Role::Prefill, old.labels())
    );
    // Written again, nothing differs: options included.
    assert_eq!(written(&other), written(&router));
}
