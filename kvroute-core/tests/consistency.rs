//! What overlapping calls see, with real threads.
//!
//! A lookup that overlaps an apply must answer, for every pod, something between the least and the greatest
//! answer that was true meanwhile. The histories here are made so that a torn read has an answer no instant
//! had, and every block of a chain is a run of its own in a shard of its own, so that there is much to tear.
//! One file though it is long: every test leans on the same few actors, and they are read together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kvroute_core::event::{BlockRemoved, BlockStored, EventBatch, GroupKind, KvEvent};
use kvroute_core::hash::{BlockHasher, HashScheme, HashSeed, VllmAlgorithm, VllmEra, VllmScheme};
use kvroute_core::index::{BlockIndex, CopyPolicy, IndexOptions, MatchTable, PodId, PodOptions};
use kvroute_core::oracle::OraclePod;
use kvroute_core::{BlockHash, CacheDomain, EngineHash, Tier};

/// How long each of the tests that wait for an accident goes on.
const LONG_ENOUGH: Duration = Duration::from_millis(1500);

fn domain() -> Arc<CacheDomain> {
    let seed = HashSeed::Value("0".to_owned());
    let scheme = VllmScheme::for_era(VllmAlgorithm::XxhashCbor, VllmEra::Tagged, &seed).expect("a scheme");
    // One token a block keeps the events short.
    let hasher = BlockHasher::new(HashScheme::Vllm(scheme), 1).expect("a hasher");
    Arc::new(CacheDomain::new("model", hasher).expect("a domain"))
}

fn stored_in(group: u32, tier: Tier, parent: Option<u64>, blocks: &[u64]) -> KvEvent {
    KvEvent::Stored(BlockStored {
        block_hashes: blocks.iter().copied().map(EngineHash).collect(),
        parent: parent.map(EngineHash),
        token_ids: vec![0; blocks.len()],
        block_size: 1,
        tier: Some(tier),
        group,
        ..BlockStored::default()
    })
}

fn stored(parent: Option<u64>, blocks: &[u64]) -> KvEvent {
    stored_in(0, Tier::Gpu, parent, blocks)
}

fn removed_from(group: u32, tier: Tier, blocks: &[u64]) -> KvEvent {
    let block_hashes = blocks.iter().copied().map(EngineHash).collect();
    KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(tier), group })
}

fn removed(blocks: &[u64]) -> KvEvent {
    removed_from(0, Tier::Gpu, blocks)
}

fn apply(index: &BlockIndex, pod: PodId, event: KvEvent) {
    let batch = EventBatch { events: vec![event], ..EventBatch::default() };
    index.apply_events(pod, &batch).expect("a known pod");
}

/// Numbers that look like hashes.
fn scatter(i: u64) -> u64 {
    (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// A small generator: the tests' choices repeat, the interleavings do not.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}

/// A chain every block of which is a run of its own: a pod that stays has made another way on after each.
fn chain_of_single_runs(index: &BlockIndex, domain: &Arc<CacheDomain>, length: u64) -> Vec<u64> {
    let keeper = index.add_pod(Arc::clone(domain), PodOptions::default());
    let chain: Vec<u64> = (0..length).map(scatter).collect();
    for (i, &block) in chain.iter().enumerate() {
        let parent = i.checked_sub(1).map(|before| chain[before]);
        apply(index, keeper, stored(parent, &[block, scatter(1_000_000 + i as u64)]));
    }
    chain
}

fn query(blocks: &[u64]) -> Vec<BlockHash> {
    blocks.iter().copied().map(BlockHash).collect()
}

/// One step of a history, and the answer that is true after it.
struct Step {
    event: KvEvent,
    truth: u32,
}

/// Runs `cycle` round and round in one thread while others look up, and checks every answer against the
/// states of its interval. Answers how many lookups overlapped at least one step.
fn answers_lie_within_their_interval(
    index: &BlockIndex,
    domain: &CacheDomain,
    pod: PodId,
    blocks: &[u64],
    cycle: &[Step],
) -> usize {
    let query = query(blocks);
    // Steps begun and steps done. A lookup overlaps the states from the last one done before it began to
    // the last one begun before it ended.
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (stop, overlaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let readers = 2;
    let start = Barrier::new(readers + 1);
    let truth = |state: usize| cycle[(state + cycle.len() - 1) % cycle.len()].truth;
    thread::scope(|scope| {
        for _ in 0..readers {
            scope.spawn(|| {
                let mut table = MatchTable::default();
                start.wait();
                let end = Instant::now() + LONG_ENOUGH;
                while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                    let first = done.load(Ordering::SeqCst);
                    index.lookup(domain, &query, &mut table);
                    let last = begun.load(Ordering::SeqCst);
                    let answer = table.blocks(pod).total();
                    let states = || (first..=last.min(first + cycle.len())).map(truth);
                    let (least, most) = (states().min().unwrap_or(0), states().max().unwrap_or(0));
                    let within = (least..=most).contains(&answer);
                    // The others must not wait for a thread that panicked.
                    stop.fetch_or(!within, Ordering::Relaxed);
                    assert!(within, "answer {answer}, but {least}..={most} in states {first}..={last}");
                    overlaps.fetch_add(usize::from(last > first), Ordering::Relaxed);
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
        start.wait();
        let mut state = 0;
        while !stop.load(Ordering::Relaxed) {
            let step = &cycle[state % cycle.len()];
            state += 1;
            begun.store(state, Ordering::SeqCst);
            apply(index, pod, step.event.clone());
            done.store(state, Ordering::SeqCst);
        }
    });
    overlaps.into_inner()
}

#[test]
fn a_lookup_never_joins_a_head_that_went_with_a_tail_that_came() {
    let (index, domain) = (BlockIndex::default(), domain());
    let chain = chain_of_single_runs(&index, &domain, 24);
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    let (head, tail) = (chain[0], chain[23]);
    apply(&index, pod, stored(None, &chain[..23]));
    // The whole chain is never there: head and tail take turns.
    let cycle = [
        Step { event: removed(&[head]), truth: 0 },
        Step { event: stored(Some(chain[22]), &[tail]), truth: 0 },
        Step { event: removed(&[tail]), truth: 0 },
        Step { event: stored(None, &[head]), truth: 23 },
    ];
    let overlaps = answers_lie_within_their_interval(&index, &domain, pod, &chain, &cycle);
    assert!(overlaps > 100, "only {overlaps} lookups overlapped a step");
}

#[test]
fn a_lookup_never_looks_past_a_hole_that_wanders() {
    let (index, domain) = (BlockIndex::default(), domain());
    let chain = chain_of_single_runs(&index, &domain, 16);
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    apply(&index, pod, stored(None, &chain));
    apply(&index, pod, removed(&chain[15..]));
    // One hole wanders from the end to the front and begins again: the next opens before it closes, so
    // that the chain is never whole.
    let mut cycle = Vec::new();
    for hole in (0..16_usize).rev() {
        let next = hole.checked_sub(1).unwrap_or(15);
        cycle.push(Step { event: removed(&chain[next..=next]), truth: hole.min(next) as u32 });
        let parent = hole.checked_sub(1).map(|before| chain[before]);
        cycle.push(Step { event: stored(parent, &chain[hole..=hole]), truth: next as u32 });
    }
    let overlaps = answers_lie_within_their_interval(&index, &domain, pod, &chain, &cycle);
    assert!(overlaps > 100, "only {overlaps} lookups overlapped a step");
}

#[test]
fn a_lookup_never_joins_what_was_before_a_clear_with_what_came_after() {
    let (index, domain) = (BlockIndex::default(), domain());
    let chain = chain_of_single_runs(&index, &domain, 3);
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    apply(&index, pod, stored(None, &chain[..2]));
    // First and second block, then second and third, never all three.
    let mut cycle = vec![
        Step { event: KvEvent::Cleared, truth: 0 },
        Step { event: stored(Some(chain[0]), &chain[1..]), truth: 0 },
    ];
    cycle.extend((0..4).map(|_| Step { event: removed(&[]), truth: 0 }));
    cycle.extend([
        Step { event: KvEvent::Cleared, truth: 0 },
        Step { event: stored(None, &chain[..2]), truth: 2 },
    ]);
    let overlaps = answers_lie_within_their_interval(&index, &domain, pod, &chain, &cycle);
    assert!(overlaps > 100, "only {overlaps} lookups overlapped a step");
}

#[test]
fn a_lookup_sees_a_chain_that_moves_between_tiers_whole() {
    let (index, domain) = (BlockIndex::default(), domain());
    let chain = chain_of_single_runs(&index, &domain, 8);
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    let (second, last) = (chain[1], chain[7]);
    // Host memory holds all, the device all but the second and the last block.
    apply(&index, pod, stored_in(0, Tier::Cpu, None, &chain));
    apply(&index, pod, stored(None, &chain[..1]));
    apply(&index, pod, stored(Some(second), &chain[2..7]));
    // The device comes to hold all and host memory loses the last block, then all of it backwards: at every
    // instant the device's prefix and host memory together make the whole chain. The waits in between are
    // steps that change nothing, so that a lookup can fall behind and catch up.
    let whole = |event| Step { event, truth: 8 };
    let wait = || whole(removed(&[]));
    let mut cycle = vec![
        whole(stored(Some(chain[0]), &[second])),
        whole(stored(Some(chain[6]), &[last])),
        whole(removed_from(0, Tier::Cpu, &[last])),
    ];
    cycle.extend((0..6).map(|_| wait()));
    cycle.extend([
        whole(stored_in(0, Tier::Cpu, Some(chain[6]), &[last])),
        whole(removed(&[last])),
        whole(removed(&[second])),
    ]);
    let overlaps = answers_lie_within_their_interval(&index, &domain, pod, &chain, &cycle);
    assert!(overlaps > 100, "only {overlaps} lookups overlapped a step");
}

#[test]
fn a_lookup_sees_a_sliding_window_that_moves_whole() {
    let (index, domain) = (BlockIndex::default(), domain());
    let chain = chain_of_single_runs(&index, &domain, 10);
    // Two blocks before the position.
    let options = PodOptions {
        groups: vec![(0, GroupKind::FullAttention), (1, GroupKind::SlidingWindow { window: 3 })],
        ..PodOptions::default()
    };
    let pod = index.add_pod(Arc::clone(&domain), options);
    apply(&index, pod, stored(None, &chain));
    apply(&index, pod, stored_in(1, Tier::Gpu, Some(chain[7]), &chain[8..]));
    // A second window, nearer, opens before the far one closes.
    let sliding = |parent: usize, blocks: &[u64]| stored_in(1, Tier::Gpu, Some(chain[parent]), blocks);
    let step = |event, truth| Step { event, truth };
    let mut cycle = vec![
        step(sliding(0, &chain[1..2]), 10),
        step(sliding(1, &chain[2..3]), 10),
        step(removed_from(1, Tier::Gpu, &chain[8..9]), 3),
    ];
    cycle.extend((0..6).map(|_| step(removed(&[]), 3)));
    cycle.extend([
        step(sliding(7, &chain[8..9]), 10),
        step(removed_from(1, Tier::Gpu, &chain[2..3]), 10),
        step(removed_from(1, Tier::Gpu, &chain[1..2]), 10),
    ]);
    let overlaps = answers_lie_within_their_interval(&index, &domain, pod, &chain, &cycle);
    assert!(overlaps > 100, "only {overlaps} lookups overlapped a step");
}

#[test]
fn steps_to_an_offloaded_block_are_never_credited() {
    let (index, domain) = (BlockIndex::default(), domain());
    let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
    let chain: Vec<u64> = (0..12).map(scatter).collect();
    let offloaded = KvEvent::Stored(BlockStored {
        block_hashes: vec![EngineHash(chain[11])],
        tier: Some(Tier::Cpu),
        ..BlockStored::default()
    });
    apply(&index, pod, stored(None, &chain));
    apply(&index, pod, offloaded.clone());
    apply(&index, pod, removed(&chain));
    // The last block comes to host memory and goes again, with nothing before it.
    let cycle = [
        Step { event: removed_from(0, Tier::Cpu, &chain[11..]), truth: 0 },
        Step { event: offloaded, truth: 0 },
    ];
    let overlaps = answers_lie_within_their_interval(&index, &domain, pod, &chain, &cycle);
    assert!(overlaps > 100, "only {overlaps} lookups overlapped a step");
}

/// Prompts that share beginnings, and what writers do with them.
struct Tree {
    prompts: Vec<Vec<u64>>,
}

impl Tree {
    /// Long enough that chains cross the longest run.
    fn new() -> Self {
        let mut prompts: Vec<Vec<u64>> = Vec::new();
        for (variant, (parent, fork, length)) in [
            (0, 0, 1300),
            (0, 1, 40),
            (0, 700, 760),
            (0, 1024, 1100),
            (2, 730, 780),
            (0, 1200, 2300),
            (0, 0, 30),
            (6, 29, 33),
        ]
        .into_iter()
        .enumerate()
        {
            let mut prompt = prompts.get(parent).map_or_else(Vec::new, |parent| parent[..fork].to_vec());
            prompt.extend((fork..length).map(|i| scatter((variant * 10_000 + i) as u64)));
            prompts.push(prompt);
        }
        Self { prompts }
    }

    /// One change of one pod, also made to its oracle. Stores begin anywhere the pod holds the block before.
    fn act(&self, random: &mut Random, index: &BlockIndex, pod: PodId, oracle: &mut OraclePod) {
        let prompt = &self.prompts[random.below(self.prompts.len())];
        let held = |oracle: &OraclePod, block| oracle.holds(0, Tier::Gpu, BlockHash(block));
        let at = random.below(prompt.len());
        match random.below(10) {
            0 if random.below(20) == 0 => {
                apply(index, pod, KvEvent::Cleared);
                oracle.clear();
            }
            0..=5 => {
                let start = if held(oracle, prompt[at.saturating_sub(1)]) { at } else { 0 };
                let end = (start + 1 + random.below(80)).min(prompt.len());
                let parent = start.checked_sub(1).map(|before| prompt[before]);
                apply(index, pod, stored(parent, &prompt[start..end]));
                prompt[start..end].iter().for_each(|&block| oracle.store(0, Tier::Gpu, BlockHash(block)));
            }
            _ => {
                let count = 1 + random.below(60);
                let blocks: Vec<u64> = prompt[at..]
                    .iter()
                    .copied()
                    .take(count)
                    .filter(|&block| held(oracle, block))
                    .rev()
                    .collect();
                apply(index, pod, removed(&blocks));
                blocks.iter().for_each(|&block| oracle.remove(0, Some(Tier::Gpu), BlockHash(block)));
            }
        }
    }
}

#[test]
fn racing_writers_of_shared_chains_leave_what_each_of_them_holds() {
    let tree = Tree::new();
    for round in 0..6 {
        let domain = domain();
        // Few shards make races, many make chains cross them.
        let shards = if round % 2 == 0 { 1 } else { 64 };
        let index =
            BlockIndex::new(IndexOptions { shards, max_bytes: usize::MAX, ..IndexOptions::default() });
        let options = PodOptions { copies: CopyPolicy::Count, ..PodOptions::default() };
        let pods: Vec<PodId> = (0..4).map(|_| index.add_pod(Arc::clone(&domain), options.clone())).collect();
        let (start, stop) = (Barrier::new(pods.len() + 1), AtomicBool::new(false));
        let oracles: Vec<OraclePod> = thread::scope(|scope| {
            let writers: Vec<_> = pods
                .iter()
                .enumerate()
                .map(|(i, &pod)| {
                    let (index, tree, start) = (&index, &tree, &start);
                    scope.spawn(move || {
                        let mut random = Random(scatter((round * 10 + i) as u64));
                        let mut oracle = OraclePod::new(&[(0, GroupKind::FullAttention)]);
                        start.wait();
                        (0..150).for_each(|_| tree.act(&mut random, index, pod, &mut oracle));
                        oracle
                    })
                })
                .collect();
            scope.spawn(|| {
                let mut table = MatchTable::default();
                start.wait();
                while !stop.load(Ordering::Relaxed) {
                    for prompt in &tree.prompts {
                        index.lookup(&domain, &query(prompt), &mut table);
                    }
                }
            });
            let oracles = writers.into_iter().map(|writer| writer.join().expect("a writer")).collect();
            stop.store(true, Ordering::Relaxed);
            oracles
        });

        let mut table = MatchTable::default();
        for (variant, prompt) in tree.prompts.iter().enumerate() {
            let query = query(prompt);
            index.lookup(&domain, &query, &mut table);
            for (i, (&pod, oracle)) in pods.iter().zip(&oracles).enumerate() {
                let expected: u32 = oracle.usable(&query, 1).iter().sum();
                let found = table.blocks(pod).total();
                assert_eq!(found, expected, "round {round}, pod {i}, prompt {variant}");
            }
        }
        for (i, &pod) in pods.iter().enumerate() {
            assert_eq!(index.counters(pod).expect("a pod").unknown_removals, 0, "round {round}, pod {i}");
            assert_eq!(index.counters(pod).expect("a pod").blocks_refused, 0, "round {round}, pod {i}");
        }
        pods.iter().for_each(|&pod| index.remove_pod(pod).expect("a known pod"));
        assert_eq!((index.blocks(), index.bytes()), (0, 0), "round {round}");
    }
}

#[test]
fn racing_stores_of_one_chain_keep_every_block_once() {
    for round in 0..150_u64 {
        let (index, domain) = (BlockIndex::default(), domain());
        let pods: Vec<PodId> =
            (0..3).map(|_| index.add_pod(Arc::clone(&domain), PodOptions::default())).collect();
        let chain: Vec<u64> = (0..1500).map(|i| scatter(round * 10_000 + i)).collect();
        let start = Barrier::new(pods.len());
        thread::scope(|scope| {
            for (i, &pod) in pods.iter().enumerate() {
                let (index, chain, start) = (&index, &chain, &start);
                scope.spawn(move || {
                    start.wait();
                    // Pieces of different lengths, so that one grows a run where another hangs one off it.
                    let piece = [64, 100, 333][i];
                    for (at, blocks) in chain.chunks(piece).enumerate() {
                        let parent = (at * piece).checked_sub(1).map(|before| chain[before]);
                        apply(index, pod, stored(parent, blocks));
                        if at % 3 == i {
                            let parent = blocks[blocks.len() / 2];
                            apply(index, pod, stored(Some(parent), &[scatter(parent ^ 1)]));
                        }
                    }
                });
            }
        });
        let mut table = MatchTable::default();
        index.lookup(&domain, &query(&chain), &mut table);
        assert!(pods.iter().all(|&pod| table.blocks(pod).total() == 1500), "round {round}");
        let forks = index.blocks() - 1500;
        assert!((9..40).contains(&forks), "{forks} blocks beside the chain: some are kept twice");
        pods.iter().for_each(|&pod| index.remove_pod(pod).expect("a known pod"));
        assert_eq!((index.blocks(), index.bytes()), (0, 0), "round {round}");
    }
}

#[test]
fn stores_and_removals_that_meet_at_one_fork_leave_nothing_behind() {
    let (index, domain) = (
        BlockIndex::new(IndexOptions { shards: 2, max_bytes: usize::MAX, ..IndexOptions::default() }),
        domain(),
    );
    let pods: Vec<PodId> =
        (0..3).map(|_| index.add_pod(Arc::clone(&domain), PodOptions::default())).collect();
    let start = Barrier::new(pods.len());
    thread::scope(|scope| {
        for (i, &pod) in pods.iter().enumerate() {
            let (index, start) = (&index, &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..8000_u64 {
                    // All pods share block 1; each goes on with a block of its own, or with the others'.
                    let own = if round % 3 == 0 { 50 } else { 10 + i as u64 };
                    apply(index, pod, stored(None, &[1, own]));
                    apply(index, pod, stored(Some(own), &[own + 100]));
                    if round % 2 == 0 {
                        apply(index, pod, removed(&[1]));
                        apply(index, pod, removed(&[own, own + 100]));
                    } else {
                        apply(index, pod, removed(&[own + 100, own, 1]));
                    }
                }
            });
        }
    });
    for &pod in &pods {
        assert_eq!(index.counters(pod).expect("a pod").unknown_removals, 0);
    }
    assert_eq!((index.blocks(), index.bytes()), (0, 0));
}

#[test]
fn pods_that_come_and_go_are_never_credited_under_another_name() {
    let (index, domain) = (BlockIndex::default(), domain());
    let chain: Vec<u64> = (0..64).map(scatter).collect();
    let query = query(&chain);
    let stays = index.add_pod(Arc::clone(&domain), PodOptions::default());
    apply(&index, stays, stored(None, &chain[..40]));
    // Every pod that ever was: how much it may be credited with, and when it was gone.
    let known: Mutex<HashMap<PodId, (u32, bool)>> = Mutex::new(HashMap::from([(stays, (40, false))]));
    let (stop, lookups, start) = (AtomicBool::new(false), AtomicU32::new(0), Barrier::new(4));
    thread::scope(|scope| {
        for churner in 0..2 {
            let (index, domain, chain, known, stop, start) = (&index, &domain, &chain, &known, &stop, &start);
            scope.spawn(move || {
                let mut random = Random(scatter(churner));
                start.wait();
                while !stop.load(Ordering::Relaxed) {
                    // Two at a time, so that slots and lanes change owners.
                    let pods: Vec<PodId> = (0..2)
                        .map(|_| {
                            let depth = 1 + random.below(63);
                            let pod = index.add_pod(Arc::clone(domain), PodOptions::default());
                            known.lock().expect("the lock").insert(pod, (depth as u32, false));
                            apply(index, pod, stored(None, &chain[..depth]));
                            if random.below(3) == 0 {
                                apply(index, pod, stored_in(0, Tier::Cpu, None, &chain[..depth]));
                            }
                            pod
                        })
                        .collect();
                    for pod in pods {
                        index.remove_pod(pod).expect("a known pod");
                        known.lock().expect("the lock").get_mut(&pod).expect("it came").1 = true;
                    }
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut table = MatchTable::default();
                start.wait();
                let end = Instant::now() + LONG_ENOUGH;
                while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                    let gone: Vec<PodId> = {
                        let mut known = known.lock().expect("the lock");
                        let gone = known.iter().filter(|(_, pod)| pod.1).map(|(&id, _)| id).collect();
                        // Those that go from now on stay listed until the next round.
                        known.retain(|_, pod| !pod.1);
                        gone
                    };
                    for _ in 0..10 {
                        index.lookup(&domain, &query, &mut table);
                        let fine = table.blocks(stays).total() == 40
                            && table.matches().iter().all(|found| {
                                let limit = known.lock().expect("the lock").get(&found.pod).map(|pod| pod.0);
                                // A pod not listed may be one another reader has struck off meanwhile.
                                !gone.contains(&found.pod)
                                    && limit.is_none_or(|limit| found.blocks.total() <= limit)
                            });
                        stop.fetch_or(!fine, Ordering::Relaxed);
                        assert!(fine, "{:?}", table.matches());
                        lookups.fetch_add(1, Ordering::Relaxed);
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    });
    assert!(lookups.into_inner() > 100);
    index.remove_pod(stays).expect("a known pod");
    assert_eq!((index.blocks(), index.bytes(), index.view_bytes()), (0, 0, 0));
}

#[test]
fn applies_to_a_pod_that_goes_either_count_or_fail() {
    let (index, domain) = (BlockIndex::default(), domain());
    for round in 0..400_u64 {
        let pod = index.add_pod(Arc::clone(&domain), PodOptions::default());
        let start = Barrier::new(3);
        thread::scope(|scope| {
            for writer in 0..2 {
                let (index, start) = (&index, &start);
                scope.spawn(move || {
                    start.wait();
                    let batch = |block| EventBatch {
                        events: vec![stored(None, &[scatter(block)])],
                        ..EventBatch::default()
                    };
                    // Until the pod is gone; nothing may be stored for it after that.
                    (0..).take_while(|i| index.apply_events(pod, &batch(writer * 100 + i)).is_ok()).count()
                });
            }
            start.wait();
            (0..round % 50).for_each(|_| std::hint::spin_loop());
            index.remove_pod(pod).expect("a known pod");
        });
        assert_eq!((index.blocks(), index.bytes()), (0, 0), "round {round}");
    }
}
