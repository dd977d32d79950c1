//! The engine against vLLM's own scheduler, KV-cache manager and block pool: the same calls must give the
//! same schedules, cached tokens, loads, counters and payload bytes, one by one.
//!
//! `testdata/captures/gen_requests.py` made the recordings. Larger ones can be compared by
//! `KVROUTE_REQUESTS=DIRECTORY cargo test -p kvroute-sim --release --test engine_vllm -- --ignored
//! --nocapture`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use kvroute_core::HashContext;
use kvroute_core::hash::{HashSeed, Lora, VllmAlgorithm, VllmScheme};
use kvroute_sim::engine::{Engine, EngineOptions, EngineRequest, StepResult};
use serde_json::Value;

/// What was compared.
#[derive(Debug, Default)]
struct Compared {
    requests: usize,
    transferred: usize,
    steps: usize,
    batches: usize,
    payload_bytes: usize,
    admitted: usize,
    tokens: usize,
    answers: usize,
    preemptions: u64,
    /// Time spent in the engine's steps.
    stepping: Duration,
}

/// Replays one recording.
struct Replay {
    engines: Vec<Engine>,
    /// Whether the pod's step is under way, by the recording.
    under_way: Vec<Option<Step>>,
    prompts: HashMap<u64, Vec<u32>>,
    compared: Compared,
}

/// What the recording says of the start of a step.
struct Step {
    /// Whether it computes or loads something.
    is_busy: bool,
    /// Whether the engine took it.
    was_taken: bool,
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn float(text: &Value) -> f64 {
    text.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("not a number: {text}"))
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}

fn options(header: &Value, num_blocks: u64) -> EngineOptions {
    let text = |name: &str| header[name].as_str().expect("a text");
    let count = |name: &str| u32::try_from(number(&header[name])).expect("a small number");
    let algorithm = VllmAlgorithm::from_name(text("hash_algo")).expect("a known algorithm");
    let seed = HashSeed::Value(text("pythonhashseed").into());
    let scheme = VllmScheme::for_version(algorithm, text("vllm"), &seed).expect("a scheme");
    assert_eq!(scheme.none_hash(), bytes(text("none_hash")), "root of the chains");
    EngineOptions {
        block_size: count("block_size"),
        num_blocks: u32::try_from(num_blocks).expect("a small number"),
        max_num_batched_tokens: count("max_num_batched_tokens"),
        max_num_seqs: count("max_num_seqs"),
        max_model_len: Some(count("max_model_len")),
        watermark: header["watermark"].as_f64().expect("a share"),
        scheme,
        int_hashes: header["int_block_hashes"].as_bool().expect("a flag"),
        events: true,
        dp_rank: count("dp_rank"),
    }
}

fn context(line: &Value) -> HashContext {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    HashContext {
        cache_salt: line.get("salt").map(text),
        lora: line.get("lora").map(|lora| Lora {
            name: text(&lora[0]),
            path: text(&lora[1]),
            id: lora[2].as_i64().expect("an id"),
        }),
        ..HashContext::default()
    }
}

impl Replay {
    fn new(header: &Value) -> Self {
        let pods = header["pods"].as_array().expect("pods");
        let engine =
            |pod: &Value| Engine::new(options(header, number(&pod["num_blocks"]))).expect("good options");
        Self {
            engines: pods.iter().map(engine).collect(),
            under_way: pods.iter().map(|_| None).collect(),
            prompts: HashMap::new(),
            compared: Compared::default(),
        }
    }

    fn prompt(&self, text: &Value) -> Vec<u32> {
        let text = text.as_str().expect("a prompt");
        if let Some(id) = text.strip_prefix('=') {
            return self.prompts[&id.parse().expect("an id")].clone();
        }
        let encoded = bytes(text);
        let mut rest = rmp::decode::Bytes::new(&encoded);
        let len = rmp::decode::read_array_len(&mut rest).expect("an array");
        (0..len).map(|_| rmp::decode::read_int(&mut rest).expect("a token")).collect()
    }

    fn line(&mut self, line: &Value) {
        let pod = |name: &str| line.get(name).map(|pod| number(pod) as usize);
        if let Some(pod) = pod("add") {
            self.add(pod, line);
        } else if let Some(pod) = pod("begin") {
            self.begin(pod, line);
        } else if let Some(pod) = pod("end") {
            self.end(pod, line);
        } else if let Some(pod) = pod("abort") {
            self.engines[pod].abort(number(&line["id"]));
        } else if let Some(pod) = pod("transferred") {
            self.engines[pod].transfer_finished(number(&line["id"]));
        } else if let Some(pod) = pod("reset") {
            assert_eq!(self.engines[pod].reset_prefix_cache(), line["ok"], "reset");
        } else {
            self.query(line);
        }
    }

    fn add(&mut self, pod: usize, line: &Value) {
        let id = number(&line["id"]);
        let token_ids = self.prompt(&line["t"]);
        self.prompts.insert(id, token_ids.clone());
        let transferred = line.get("transferred").is_some();
        self.compared.requests += 1;
        self.compared.transferred += usize::from(transferred);
        let max_tokens = number(&line["max"]) as u32;
        let token_ids = token_ids.into();
        let request = EngineRequest { id, token_ids, context: context(line), max_tokens, transferred };
        self.engines[pod].add_request(request).expect("a good request");
    }

    fn begin(&mut self, pod: usize, line: &Value) {
        let triples = |name: &str| -> Vec<[u64; 3]> {
            let triples = line[name].as_array().expect("a list").iter();
            triples.map(|triple| [0, 1, 2].map(|at| number(&triple[at]))).collect()
        };
        let engine = &mut self.engines[pod];
        assert!(engine.has_work());
        let before = Instant::now();
        let step = engine.begin_step();
        self.compared.stepping += before.elapsed();
        let was_taken = step.is_some();
        let step = step.cloned().unwrap_or_default();
        let scheduled = step.scheduled.iter().map(|s| [s.id, s.new_tokens.into(), s.computed_tokens.into()]);
        assert_eq!(scheduled.collect::<Vec<_>>(), triples("scheduled"), "scheduled");
        let admitted =
            step.admitted.iter().map(|a| [a.id, a.cached_tokens.into(), a.transferred_tokens.into()]);
        assert_eq!(admitted.collect::<Vec<_>>(), triples("admitted"), "admitted");
        let loading =
            step.loading.iter().map(|l| [l.id, l.cached_tokens.into(), l.transferred_tokens.into()]);
        assert_eq!(loading.collect::<Vec<_>>(), triples("loading"), "loading");
        let load = &line["load"];
        assert_eq!((engine.running() as u64, engine.waiting() as u64), (number(&load[0]), number(&load[1])));
        assert_eq!(engine.kv_usage(), float(&load[2]), "usage");
        let is_busy = !step.scheduled.is_empty() || !step.loading.is_empty();
        assert!(was_taken || !is_busy);
        self.under_way[pod] = Some(Step { is_busy, was_taken });
        self.compared.steps += 1;
        self.compared.admitted += step.admitted.len();
    }

    fn end(&mut self, pod: usize, line: &Value) {
        let step = self.under_way[pod].take().expect("a step under way");
        let engine = &mut self.engines[pod];
        let pairs = line["tokens"].as_array().expect("tokens").iter();
        let tokens: Vec<(u64, u32)> = pairs.map(|pair| (number(&pair[0]), number(&pair[1]) as u32)).collect();
        let mut next = tokens.iter();
        let sample = |id| {
            let &(expected, token) = next.next().expect("a token more than vLLM sampled");
            assert_eq!(id, expected, "whose token");
            token
        };
        let before = Instant::now();
        let StepResult { batch, produced } = engine.end_step(float(&line["ts"]), sample);
        self.compared.stepping += before.elapsed();
        assert_eq!(produced.iter().map(|token| (token.id, token.token)).collect::<Vec<_>>(), tokens);
        let mut finished: Vec<u64> =
            produced.iter().filter(|token| token.is_last).map(|token| token.id).collect();
        finished.sort_unstable();
        assert_eq!(line["finished"], Value::from(finished), "finished");
        let expected =
            line.get("p").map(|payload| (number(&line["s"]), bytes(payload.as_str().expect("hex"))));
        assert_eq!(batch, expected, "batch");
        assert_eq!(step.was_taken, step.is_busy || batch.is_some(), "a step without work and events");
        let counters = engine.counters();
        let stats = [counters.prefix_queries, counters.prefix_hits, counters.preemptions];
        assert_eq!(line["stats"], Value::from(stats.to_vec()), "prefix queries, hits, preemptions");
        self.compared.tokens += produced.len();
        if let Some((_, payload)) = batch {
            self.compared.batches += 1;
            self.compared.payload_bytes += payload.len();
        }
    }

    fn query(&mut self, line: &Value) {
        let token_ids = self.prompt(&line["query"]);
        let context = context(line);
        for (pod, engine) in self.engines.iter().enumerate() {
            let cached = engine.cached_tokens(&token_ids, &context).expect("hashes");
            assert_eq!(cached as u64, number(&line["cached"][pod]), "cached on pod {pod}");
            let announced = engine.announced_tokens(&token_ids, &context).expect("hashes");
            assert_eq!(announced as u64, number(&line["announced"][pod]), "announced by pod {pod}");
            let usable = (token_ids.len() - 1) / engine.hasher().block_size() as usize;
            let blocks = engine.hasher().hash(&token_ids, &context).expect("hashes");
            let block_size = engine.hasher().block_size() as usize;
            assert_eq!(engine.cached_blocks(&blocks[..usable]) * block_size, cached);
            assert_eq!(engine.announced_blocks(&blocks[..usable]) * block_size, announced);
            self.compared.answers += 2;
        }
    }
}

fn replay(path: &Path) -> Compared {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut lines = BufReader::new(GzDecoder::new(file)).lines();
    let mut next =
        || lines.next().map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
    let mut replay = Replay::new(&next().expect("a header"));
    let mut at = 1;
    while let Some(line) = next() {
        at += 1;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| replay.line(&line)));
        assert!(outcome.is_ok(), "{}, line {at}", path.display());
    }
    replay.compared.preemptions = replay.engines.iter().map(|engine| engine.counters().preemptions).sum();
    replay.compared
}

fn captures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures")
}

#[test]
fn engine_does_what_vllm_does_with_integer_hashes_adapters_salts_and_preemptions() {
    let compared = replay(&captures().join("requests-cbor.jsonl.gz"));
    assert!(compared.preemptions > 20 && compared.batches > 500 && compared.answers > 1000, "{compared:?}");
}

#[test]
fn engine_does_what_vllm_does_with_byte_hashes_transfers_and_a_watermark() {
    let compared = replay(&captures().join("requests-transfers.jsonl.gz"));
    assert!(compared.transferred > 70 && compared.batches > 300 && compared.answers > 1000, "{compared:?}");
}

#[test]
#[ignore = "needs recordings that are not committed"]
fn engine_does_what_vllm_does_in_larger_recordings() {
    let directory = std::env::var("KVROUTE_REQUESTS").expect("KVROUTE_REQUESTS names a directory");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        println!("{}: {:?}", path.display(), replay(&path));
    }
}
