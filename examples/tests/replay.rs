//! Replays of the small captures: as they are, and with the things that happen to streams done to them.
//!
//! An answer can only be expected to be right where the index had a chance to know: between the loss of a
//! pod's batch (or its engine's restart) and the next batch of that pod nothing tells. The variants leave
//! such answers out, and only those.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kvroute_core::index::{
    BlockIndex, CopyPolicy, GapPolicy, MatchTable, Outcome, PodId, PodOptions, ResyncReason,
};
use kvroute_core::{BlockHash, CacheDomain};
use kvroute_examples::capture::{self, Capture, Item, Mode};
use kvroute_examples::replay::{ReplayOptions, Summary, replay};

const MODES: [Mode; 2] = [Mode::Native, Mode::Translated];

const CBOR: &str = "sim-cbor-small.jsonl.gz";
const FULL_REPORTS: &str = "sim-full-reports-small.jsonl.gz";
const BYTES: &str = "sim-sha256-bytes-small.jsonl.gz";
const HYBRID: &str = "sim-hybrid-swa-small.jsonl.gz";
const SIMULATED: [&str; 4] = [CBOR, FULL_REPORTS, BYTES, HYBRID];

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures").join(name)
}

fn read(name: &str) -> Capture {
    capture::read(&testdata(name)).unwrap()
}

fn run(capture: &Capture, mode: Mode) -> Summary {
    replay(capture, ReplayOptions { mode, copies: CopyPolicy::Infer }).unwrap()
}

/// Hits that the index knew exactly: what keeps a test from passing on an index that knows nothing.
fn exact_hits(summary: &Summary) -> u64 {
    let missed = summary.differences.iter().filter(|difference| difference.engine.cached > 0).count();
    summary.hits - missed as u64
}

fn assert_exact(capture: &Capture, what: &str) {
    for mode in MODES {
        let summary = run(capture, mode);
        let first = summary.differences.first();
        assert_eq!(summary.exact, summary.answers, "{what}, {mode:?}: {first:?}");
        assert_eq!(summary.lost, 0, "{what}, {mode:?}");
        assert!(summary.hits * 4 > summary.answers, "{what}, {mode:?}: {} hits", summary.hits);
    }
}

/// Something was lost for good, and nothing is credited that the engine does not have.
fn assert_never_over(capture: &Capture, what: &str) {
    for mode in MODES {
        let summary = run(capture, mode);
        let over = summary
            .differences
            .iter()
            .find(|d| d.index.0 > d.engine.cached || Some(d.index.1) > d.engine.full);
        assert_eq!(summary.over, 0, "{what}, {mode:?}: {over:?}");
        assert!(summary.under > 0, "{what}, {mode:?}: the loss cost nothing");
        assert!(exact_hits(&summary) > 0, "{what}, {mode:?}: nothing was learnt again");
    }
}

// --- the captures as they are ---

#[test]
fn simulated_captures_are_exact_in_both_modes() {
    for name in SIMULATED {
        assert_exact(&read(name), name);
    }
}

#[test]
fn live_captures_differ_only_where_a_clear_is_announced_late() {
    for (name, answers, late) in [("live-3pods", 524, 5), ("live-late-join", 102, 1)] {
        let capture = read(name);
        let mut expected: Vec<_> = queries(&capture)
            .flat_map(|query| query.answers.iter().map(move |answer| (&query.name, answer)))
            .filter(|(_, answer)| answer.exception.is_some())
            .map(|(query, answer)| (query.clone(), capture.pods[answer.pod].name.clone()))
            .collect();
        expected.sort();
        assert_eq!(expected.len(), late, "{name}");
        for mode in MODES {
            let summary = run(&capture, mode);
            let mut differing: Vec<_> =
                summary.differences.iter().map(|d| (d.query.clone(), d.pod.clone())).collect();
            differing.sort();
            assert_eq!(differing, expected, "{name}, {mode:?}");
            assert_eq!((summary.answers, summary.under), (answers, 0), "{name}, {mode:?}");
            assert_eq!(summary.over, late as u64, "{name}, {mode:?}");
            assert!(summary.hits * 3 > summary.answers, "{name}, {mode:?}: {} hits", summary.hits);
        }
    }
}

/// What the replay socket sent is taken away, which leaves what a subscriber saw that came too late.
#[test]
fn a_live_subscriber_that_joined_late_is_never_over() {
    let directory = scratch("late-join");
    for entry in std::fs::read_dir(testdata("live-late-join")).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with("replay") {
            std::fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
    }
    let capture = capture::read(&directory).unwrap();
    for mode in MODES {
        let summary = run(&capture, mode);
        assert_eq!(summary.lost, 1, "{mode:?}");
        assert!(summary.under > 0 && exact_hits(&summary) > 0, "{mode:?}: {summary:?}");
        for difference in &summary.differences {
            let over = difference.index.0 > difference.engine.cached;
            assert!(!over || difference.engine.exception.is_some(), "{mode:?}: {difference:?}");
        }
    }
}

#[test]
fn reports_of_reused_blocks_need_the_inferring_policy() {
    let capture = read(FULL_REPORTS);
    for mode in MODES {
        let [infer, count, set] = [CopyPolicy::Infer, CopyPolicy::Count, CopyPolicy::Set]
            .map(|copies| replay(&capture, ReplayOptions { mode, copies }).unwrap());
        assert_eq!((infer.over, infer.under), (0, 0), "{mode:?}");
        // Reports taken for copies leave blocks behind; copies taken for reports lose blocks.
        assert!(count.over > 0 && count.under == 0, "{mode:?}: {} {}", count.over, count.under);
        assert!(set.over == 0 && set.under > 0, "{mode:?}: {} {}", set.over, set.under);
    }
}

// --- what happens to streams ---

#[test]
fn duplicated_batches_change_nothing() {
    for name in SIMULATED {
        assert_exact(&with_duplicates(&read(name)), name);
    }
}

#[test]
fn a_batch_that_comes_late_is_replayed_and_costs_nothing() {
    for name in SIMULATED {
        for (every, later) in [(7, 3), (40, 25), (150, 400)] {
            assert_exact(&with_late_batches(&read(name), every, later), &format!("{name}, {later} later"));
        }
    }
}

#[test]
fn lost_batches_never_lead_to_credit_that_is_not_there() {
    for name in SIMULATED {
        for seed in 0..8 {
            let mut dice = Dice(seed);
            let capture = without_batches(&read(name), |_, _| dice.one_in(100));
            assert_never_over(&capture, &format!("{name}, seed {seed}"));
        }
    }
}

#[test]
fn a_late_joiner_is_never_over() {
    for name in SIMULATED {
        for first in [1, 10, 60] {
            let capture = without_batches(&read(name), |_, sequence| sequence < first);
            assert_never_over(&capture, &format!("{name}, from {first}"));
        }
    }
}

#[test]
fn batches_that_cannot_be_read_never_lead_to_credit_that_is_not_there() {
    for name in SIMULATED {
        let mut capture = read(name);
        let mut dice = Dice(1);
        for item in &mut capture.items {
            if let Item::Batch { payload, .. } = item
                && dice.one_in(100)
            {
                payload.truncate(payload.len() / 2);
            }
        }
        assert_never_over(&capture, name);
    }
}

#[test]
fn a_restarted_engine_begins_anew() {
    let (before, after) = (read(CBOR), read(FULL_REPORTS));
    assert_exact(&restarted(&before, &after, 0), "all pods");
    assert_exact(&restarted(&after, &before, 0), "all pods, the other way round");
    for pod in 0..before.pods.len() {
        assert_exact(&one_pod_restarted(&before, &after, pod), &format!("pod {pod} of many"));
    }
}

#[test]
fn a_restart_whose_first_batches_are_lost_leaves_nothing_of_the_old_view() {
    let (before, after) = (read(CBOR), read(FULL_REPORTS));
    for lost in [1, 2, 30] {
        assert_never_over(&restarted(&before, &after, lost), &format!("{lost} batches lost"));
    }
}

#[test]
fn lost_batches_and_restarts_together_are_never_over() {
    let (before, after) = (read(CBOR), read(FULL_REPORTS));
    for seed in 0..4 {
        let mut dice = Dice(seed);
        let lossy = |capture: &Capture, dice: &mut Dice| without_batches(capture, |_, _| dice.one_in(50));
        // Losses around the restart itself: it is noticed with the first batch that arrives.
        let (before, after) = (lossy(&before, &mut dice), lossy(&after, &mut dice));
        let capture = restarted(&with_duplicates(&before), &with_duplicates(&after), 3);
        assert_never_over(&capture, &format!("seed {seed}"));
    }
}

/// The subscriber was away while the engine restarted and its numbers passed the last one it had seen:
/// only the bytes of the last applied batch tell, when it is replayed.
#[test]
fn a_restart_behind_a_gap_is_noticed_by_the_bytes_of_the_last_batch() {
    const SEEN: u64 = 40;
    const MET: u64 = 60;
    let (before, after) = (read(CBOR), read(FULL_REPORTS));
    for mode in MODES {
        let (subject, fresh) = (OnePod::new(&after, mode), OnePod::new(&after, mode));
        for (sequence, payload) in batches_of(&before, 0).take_while(|batch| batch.0 < SEEN) {
            assert_eq!(subject.apply(sequence, payload), Outcome::Applied);
        }
        let batches: Vec<_> = batches_of(&after, 0).collect();
        let replay = |from: u64, outcome: Outcome| {
            for &(sequence, payload) in &batches[from as usize..] {
                assert_eq!(subject.apply(sequence, payload), outcome, "{mode:?}, batch {sequence}");
                if outcome != Outcome::Applied {
                    break;
                }
            }
        };
        let (sequence, payload) = batches[MET as usize];
        let gap = Outcome::NeedsResync(ResyncReason::Gap { replay_from: SEEN - 1 });
        assert_eq!(subject.apply(sequence, payload), gap, "{mode:?}");
        replay(SEEN - 1, Outcome::NeedsResync(ResyncReason::Restarted));
        assert_eq!(subject.index.blocks(), 0, "{mode:?}: the old view is dropped");
        replay(0, Outcome::Applied);
        for &(sequence, payload) in &batches {
            fresh.apply(sequence, payload);
        }
        let mut hits = 0;
        for query in queries(&after) {
            assert_eq!(subject.ask(query), fresh.ask(query), "{mode:?}, query {}", query.name);
            hits += usize::from(fresh.ask(query) > 0);
        }
        assert!(hits > 0, "{mode:?}");
    }
}

// --- what is wrong with a file is said with its name and line ---

const HEADER: &str = r#"{"kvsim":1,"vllm":"0.32.0","block_size":16,"hash_algo":"sha256_cbor","pythonhashseed":"42","pods":[{"pod":0},{"pod":1}]}"#;

fn error_of(file: &str, content: impl AsRef<[u8]>) -> String {
    let path = scratch("broken").join(file);
    std::fs::write(&path, content).unwrap();
    let error = capture::read(&path).expect_err(file).to_string();
    std::fs::remove_file(&path).unwrap();
    error
}

#[test]
fn a_bad_line_of_a_simulated_capture_is_named() {
    let good = r#"{"b":0,"s":0,"p":"kwCQAA=="}"#;
    let bad = [
        ("unknown-pod", r#"{"b":2,"s":0,"p":"kwCQAA=="}"#, "no pod 2"),
        ("negative-pod", r#"{"b":-1,"s":0,"p":"kwCQAA=="}"#, ""),
        ("truncated-base64", r#"{"b":1,"s":0,"p":"kwCQA"}"#, ""),
        ("broken-json", r#"{"b":1,"s":0,"p":"kwCQ"#, "EOF"),
        ("neither-batch-nor-query", r#"{"x":1}"#, ""),
        ("answers", r#"{"q":0,"t":[1],"cached":[0],"full":[0,0]}"#, "1 and 2 answers for 2 pods"),
        ("token-beyond-u32", r#"{"q":0,"t":[4294967296],"cached":[0,0],"full":[0,0]}"#, ""),
    ];
    for (name, line, says) in bad {
        let file = format!("{name}.jsonl");
        let error = error_of(&file, format!("{HEADER}\n{good}\n{line}\n{good}\n"));
        assert!(error.contains(&format!("{file}:3: ")) && error.contains(says), "{error}");
    }
}

#[test]
fn a_bad_header_is_named() {
    for (file, content) in [("no-json.jsonl", "kvsim"), ("no-block-size.jsonl", r#"{"kvsim":1}"#)] {
        let error = error_of(file, content);
        assert!(error.contains(&format!("{file}:1: ")), "{error}");
    }
    assert!(error_of("empty.jsonl", "").contains("empty.jsonl: empty"));
    let error = error_of("other.jsonl", "{}\n");
    assert!(error.contains("other.jsonl: neither"), "{error}");
}

#[test]
fn a_packed_file_that_ends_too_early_is_an_error_where_it_ends() {
    let packed = std::fs::read(testdata(BYTES)).unwrap();
    let error = error_of("half.jsonl.gz", &packed[..packed.len() / 2]);
    let line = error.split("half.jsonl.gz:").nth(1).and_then(|rest| rest.split(':').next()?.parse().ok());
    assert!(line.is_some_and(|line: u32| (300..500).contains(&line)), "{error}");
    let error = error_of("not-packed.jsonl.gz", HEADER);
    assert!(error.contains("not-packed.jsonl.gz:1: "), "{error}");
}

#[test]
fn a_bad_line_of_a_live_capture_is_named() {
    let pods = r#"[{"pod":"pod-0","topic":"kv","block_size":16,"hash_algo":"sha256","hash_seed":"unset"}]"#;
    let bad = [
        ("events.jsonl", r#"{"dir":"in","frames":["a3Y=","AAAAAAAAAAA=","kwCQA"]}"#, ""),
        ("events.jsonl", r#"{"dir":"in","frames":["a3Y=","AAAAAAAAAAA=","wQ=="]}"#, ""),
        ("workload.jsonl", r#"{"n":7,"pod":"pod-9","t0":1.0}"#, "no pod pod-9"),
        ("workload.jsonl", r#"{"n":7,"pod":"pod-0","t0":1.0}"#, "request 7 is incomplete"),
        ("http-pod-0.jsonl", "{", "EOF"),
        (
            "http-pod-0.jsonl",
            r#"{"request":{"path":"/v1/models"},"response":{"status":200,"body":"["}}"#,
            "EOF",
        ),
    ];
    for (number, (file, line, says)) in bad.into_iter().enumerate() {
        let directory = scratch(&format!("broken-live-{number}"));
        std::fs::write(directory.join("pods.json"), pods).unwrap();
        // The first line of frames is a header without any; the other kinds need none.
        let good =
            if file.starts_with("events") { "{}" } else { r#"{"n":1,"pod":"pod-0","t0":0.5,"reset":true}"# };
        std::fs::write(directory.join(file), format!("{good}\n{line}\n")).unwrap();
        let error = capture::read(&directory).expect_err(line).to_string();
        assert!(error.contains(&format!("{file}:2: ")) && error.contains(says), "{error}");
    }
}

// --- what the tests are made of ---

/// An empty directory of this test run.
fn scratch(name: &str) -> PathBuf {
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Reproducible randomness (SplitMix64).
struct Dice(u64);

impl Dice {
    fn one_in(&mut self, sides: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31).is_multiple_of(sides)
    }
}

fn queries(capture: &Capture) -> impl Iterator<Item = &capture::Query> {
    capture.items.iter().filter_map(|item| if let Item::Query(query) = item { Some(query) } else { None })
}

fn batches_of(capture: &Capture, of: usize) -> impl Iterator<Item = (u64, &[u8])> {
    capture.items.iter().filter_map(move |item| match item {
        Item::Batch { pod, sequence, payload } if *pod == of => Some((*sequence, &payload[..])),
        _ => None,
    })
}

/// Every batch twice in a row, and every fifth once more 20 items later.
fn with_duplicates(capture: &Capture) -> Capture {
    let mut items = Vec::new();
    for (at, item) in capture.items.iter().enumerate() {
        items.push(item.clone());
        if matches!(item, Item::Batch { .. }) {
            items.push(item.clone());
        }
        let earlier = at.checked_sub(20).filter(|at| at % 5 == 0).map(|at| &capture.items[at]);
        items.extend(earlier.filter(|item| matches!(item, Item::Batch { .. })).cloned());
    }
    Capture { pods: capture.pods.clone(), items }
}

/// Every so many items a batch is moved back by `later` items.
fn with_late_batches(capture: &Capture, every: usize, later: usize) -> Capture {
    let moved = |at: usize| at % every == every - 1 && matches!(capture.items[at], Item::Batch { .. });
    let items = mark_unnoticed(capture, |at, _, _| moved(at)).items;
    let mut result = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if !moved(at) {
            result.push(item.clone());
        }
        result.extend(at.checked_sub(later).filter(|&at| moved(at)).map(|at| items[at].clone()));
    }
    let rest = items.len().saturating_sub(later)..items.len();
    result.extend(rest.filter(|&at| moved(at)).map(|at| items[at].clone()));
    Capture { pods: capture.pods.clone(), items: result }
}

/// Batches are lost for good: `lost` says which, by pod and number.
fn without_batches(capture: &Capture, mut lost: impl FnMut(usize, u64) -> bool) -> Capture {
    let mut gone = vec![false; capture.items.len()];
    let mut capture = mark_unnoticed(capture, |at, pod, sequence| {
        gone[at] = lost(pod, sequence);
        gone[at]
    });
    let mut gone = gone.into_iter();
    capture.items.retain(|_| !gone.next().unwrap_or(false));
    capture
}

/// Leaves out the answers of pods whose last batch was not delivered where it stands.
fn mark_unnoticed(capture: &Capture, mut missing: impl FnMut(usize, usize, u64) -> bool) -> Capture {
    let mut capture = capture.clone();
    let mut unnoticed = vec![false; capture.pods.len()];
    for (at, item) in capture.items.iter_mut().enumerate() {
        match item {
            Item::Batch { pod, sequence, .. } => unnoticed[*pod] = missing(at, *pod, *sequence),
            Item::Query(query) => query.answers.retain(|answer| !unnoticed[answer.pod]),
        }
    }
    capture
}

/// Every engine of `before` is restarted and does what it does in `after`, whose first `lost` batches of
/// each pod nobody gets.
fn restarted(before: &Capture, after: &Capture, lost: u64) -> Capture {
    assert_eq!(before.pods.len(), after.pods.len());
    let mut items = before.items.clone();
    let mut unnoticed = vec![true; after.pods.len()];
    for item in &after.items {
        let mut item = item.clone();
        match &mut item {
            Item::Batch { sequence, .. } if *sequence < lost => continue,
            Item::Batch { pod, .. } => unnoticed[*pod] = false,
            Item::Query(query) => query.answers.retain(|answer| !unnoticed[answer.pod]),
        }
        items.push(item);
    }
    Capture { pods: before.pods.clone(), items }
}

/// Half-way through `before` one pod's engine is restarted and does what it does in `after`; the others
/// go on.
fn one_pod_restarted(before: &Capture, after: &Capture, restarted: usize) -> Capture {
    let only = |item: &Item, these: &dyn Fn(usize) -> bool| match item {
        Item::Batch { pod, .. } => these(*pod).then(|| item.clone()),
        Item::Query(query) => {
            let mut query = query.clone();
            query.answers.retain(|answer| these(answer.pod));
            Some(Item::Query(query))
        }
    };
    let half = before.items.len() / 2;
    let mut items = before.items[..half].to_vec();
    let first =
        after.items.iter().position(|item| matches!(item, Item::Batch { pod, .. } if *pod == restarted));
    let mut others = before.items[half..].iter();
    // Before its first batch nobody knows.
    for item in &after.items[first.unwrap_or(0)..] {
        items.extend(only(item, &|pod| pod == restarted));
        items.extend(others.next().and_then(|item| only(item, &|pod| pod != restarted)));
    }
    items.extend(others.filter_map(|item| only(item, &|pod| pod != restarted)));
    Capture { pods: before.pods.clone(), items }
}

/// An index with one pod, for what [`replay`] would do by itself.
struct OnePod {
    index: BlockIndex,
    domain: Arc<CacheDomain>,
    pod: PodId,
}

impl OnePod {
    fn new(capture: &Capture, mode: Mode) -> Self {
        let index = BlockIndex::default();
        let domain = capture.pods[0].domain(mode).unwrap();
        let options = PodOptions { on_gap: GapPolicy::Replay, ..PodOptions::default() };
        let pod = index.add_pod(Arc::clone(&domain), options);
        Self { index, domain, pod }
    }

    fn apply(&self, sequence: u64, payload: &[u8]) -> Outcome {
        self.index.apply_batch(self.pod, sequence, payload).unwrap().outcome
    }

    fn ask(&self, query: &capture::Query) -> u32 {
        let mut hashes: Vec<BlockHash> = Vec::new();
        self.domain.hasher().hash_into(&query.token_ids, &query.context, &mut hashes).unwrap();
        let mut table = MatchTable::default();
        self.index.lookup(&self.domain, &hashes, &mut table);
        table.blocks(self.pod).total()
    }
}
