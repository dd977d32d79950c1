//! The engine against live vLLM pods: the same requests in the same order must give the same cached
//! tokens, the same number of batches, and the same bytes in each.
//!
//! Compared are the stretches of `testdata/captures/live-*` in which all requests are known and came one
//! after the other: of the three pods, everything from the reset at the end of their recorded scenario on
//! (from there a pool is as good as new: which of the empty blocks is used next makes no difference that
//! can be seen); of the late-joined pod, the workload it began with. Not compared: the scenarios before,
//! whose streams, chats and simultaneous requests were not kept or have no known order; time stamps,
//! which come from the recording; and session ids, which the engine does not simulate: they are cut out
//! of the recorded bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use kvroute_core::HashContext;
use kvroute_core::hash::{HashSeed, Lora, VllmAlgorithm, VllmScheme};
use kvroute_sim::engine::{Engine, EngineOptions, EngineRequest};
use serde_json::Value;

/// One request as it was recorded.
struct Exchange {
    token_ids: Vec<u32>,
    answer: Vec<u32>,
    context: HashContext,
    session: Option<String>,
    cached_tokens: u64,
}

/// A simulated pod beside the recording of a real one.
struct Pod {
    engine: Engine,
    /// Payloads by sequence number, from the first that is compared on.
    recorded: HashMap<u64, Vec<u8>>,
    first: u64,
    requests: u64,
}

fn directory(capture: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/captures").join(capture)
}

fn lines(capture: &str, name: &str) -> Vec<Value> {
    let path = directory(capture).join(format!("{name}.jsonl.gz"));
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = BufReader::new(GzDecoder::new(file)).lines();
    lines.map(|line| serde_json::from_str(&line.expect("text")).expect("JSON")).collect()
}

fn pods(capture: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(directory(capture).join("pods.json")).expect("pods.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Payloads of one pod by sequence number.
fn payloads(capture: &str, names: &[&str], topic: &Value) -> HashMap<u64, Vec<u8>> {
    let messages = names.iter().flat_map(|name| lines(capture, name));
    let frames = messages.filter_map(|message| {
        let frames = message.get("frames")?.as_array()?.iter();
        let frames = frames.map(|frame| STANDARD.decode(frame.as_str().expect("base64")).expect("base64"));
        let [.., name, sequence, payload] = &frames.collect::<Vec<_>>()[..] else { return None };
        let sequence = u64::from_be_bytes(sequence.as_slice().try_into().ok()?);
        (name == topic.as_str()?.as_bytes()).then(|| (sequence, payload.clone()))
    });
    frames.collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).expect("token ids")
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Cuts the session out of every store of a payload: the last field of the map, and one field less.
fn without_session(mut payload: Vec<u8>, session: &str) -> Vec<u8> {
    let mut field = Vec::new();
    rmp::encode::write_str(&mut field, "session_id").expect("encodes");
    rmp::encode::write_str(&mut field, session).expect("encodes");
    while let Some(at) = find(&payload, &field) {
        payload.drain(at..at + field.len());
        let stored = find(&payload, b"\x8c\xa4type\xabBlockStored").expect("a store of twelve fields");
        payload[stored] = 0x8b;
    }
    payload
}

impl Pod {
    fn new(description: &Value, recorded: HashMap<u64, Vec<u8>>, first: u64) -> Self {
        let text = |name: &str| description[name].as_str().expect("a text");
        let count = |name: &str| description[name].as_u64().expect("a number") as u32;
        let seed = match text("hash_seed") {
            "unset" => HashSeed::Unset,
            seed => HashSeed::Value(seed.into()),
        };
        let algorithm = VllmAlgorithm::from_name(text("hash_algo")).expect("an algorithm");
        let options = EngineOptions {
            block_size: count("block_size"),
            num_blocks: count("num_blocks"),
            // `vllm serve` on a CPU, with `--max-model-len 2048 --max-num-seqs 16`.
            max_num_batched_tokens: 2048,
            max_num_seqs: 16,
            max_model_len: Some(2048),
            scheme: VllmScheme::for_version(algorithm, "0.32.0", &seed).expect("a scheme"),
            int_hashes: description["int_block_hashes"].as_bool().expect("a flag"),
            ..EngineOptions::default()
        };
        Self { engine: Engine::new(options).expect("good options"), recorded, first, requests: 0 }
    }

    /// Serves one request to its end and compares what comes out.
    fn serve(&mut self, exchange: Exchange) {
        let Exchange { token_ids, answer, context, session, cached_tokens } = exchange;
        let id = self.requests;
        self.requests += 1;
        let max_tokens = answer.len() as u32;
        let token_ids = token_ids.into();
        let request = EngineRequest { id, token_ids, context, max_tokens, transferred: false };
        self.engine.add_request(request).expect("a good request");
        let mut answer = answer.into_iter();
        let mut cached = None;
        while let Some(step) = self.engine.begin_step() {
            cached = cached.or(step.admitted.first().map(|admitted| admitted.cached_tokens));
            // The time stamp is known once the batch is: its number is that of the next recorded one.
            let result = self.engine.end_step(0.0, |_| answer.next().expect("no token more than recorded"));
            let Some((sequence, mut payload)) = result.batch else { continue };
            let recorded =
                self.recorded.remove(&(sequence + self.first)).expect("no batch more than recorded");
            let recorded = match &session {
                Some(session) => without_session(recorded, session),
                None => recorded,
            };
            payload[2..10].copy_from_slice(&recorded[2..10]);
            assert_eq!(payload, recorded, "request {id}, batch {sequence}");
        }
        assert_eq!(answer.next(), None, "all tokens were produced");
        assert_eq!(cached.map(u64::from), Some(cached_tokens), "cached tokens of request {id}");
    }

    /// Everything that was recorded of the pod came out of the engine too.
    fn finish(&self, until: u64) {
        let left = self.recorded.keys().filter(|&&sequence| (self.first..until).contains(&sequence));
        assert_eq!(left.count(), 0, "batches that the engine did not make");
    }
}

/// A request of the workload.
fn of_workload(line: &Value, lora_path: &str) -> Exchange {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let lora = text("lora_name").map(|name| Lora { name, path: lora_path.into(), id: 1 });
    Exchange {
        token_ids: tokens(&line["prompt_token_ids"]),
        answer: tokens(&line["generated_token_ids"]),
        context: HashContext { lora, cache_salt: text("cache_salt"), ..HashContext::default() },
        session: text("session_id"),
        cached_tokens: line["cached_tokens"].as_u64().expect("a number"),
    }
}

/// A completion of the scenario, of the plain model.
fn of_scenario(exchange: &Value) -> Exchange {
    let body = exchange["response"]["body"].as_str().expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    Exchange {
        token_ids: tokens(&body["choices"][0]["prompt_token_ids"]),
        answer: tokens(&body["choices"][0]["token_ids"]),
        context: HashContext::default(),
        session: None,
        cached_tokens: body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number"),
    }
}

/// Where the adapter lies, as the pod's `/v1/models` says.
fn adapter_path(http: &[Value]) -> String {
    let models = http.iter().find(|exchange| exchange["request"]["path"] == "/v1/models").expect("models");
    let body = models["response"]["body"].as_str().expect("a body");
    let models: Value = serde_json::from_str(body).expect("JSON");
    let mut models = models["data"].as_array().expect("models").iter();
    let adapter = models.find(|model| model["id"] == "lora-a").expect("the adapter");
    adapter["root"].as_str().expect("a path").to_owned()
}

#[test]
fn engine_matches_live_pods() {
    const CAPTURE: &str = "live-3pods";
    let mut pods: HashMap<String, (Pod, String, u64)> = HashMap::new();
    for description in self::pods(CAPTURE) {
        let name = description["pod"].as_str().expect("a name").to_owned();
        let recorded = payloads(CAPTURE, &["events-scenario", "events-workload"], &description["topic"]);
        let cleared = recorded.iter().filter(|(_, payload)| find(payload, b"AllBlocksCleared").is_some());
        let first = *cleared.map(|(sequence, _)| sequence).min().expect("a reset");
        let until = recorded.len() as u64;
        let http = lines(CAPTURE, &format!("http-{name}"));
        let mut pod = Pod::new(&description, recorded, first);
        let after =
            http.iter().position(|exchange| exchange["name"] == "reset_prefix_cache").expect("a reset");
        assert!(pod.engine.reset_prefix_cache());
        http[after + 1..].iter().for_each(|exchange| pod.serve(of_scenario(exchange)));
        assert_eq!(pod.requests, 2, "after reset, after reset again");
        pods.insert(name, (pod, adapter_path(&http), until));
    }
    let mut resets = 0;
    for line in lines(CAPTURE, "workload") {
        let (pod, path, _) = pods.get_mut(line["pod"].as_str().expect("a name")).expect("a known pod");
        if line.get("reset").is_some() {
            assert!(pod.engine.reset_prefix_cache());
            resets += 1;
        } else {
            pod.serve(of_workload(&line, path));
        }
    }
    let (mut requests, mut batches) = (0, 0);
    for (pod, _, until) in pods.values() {
        pod.finish(*until);
        requests += pod.requests;
        batches += until - pod.first;
    }
    assert_eq!((requests, resets), (406, 2));
    assert!(batches > 700, "{batches}");
}

#[test]
fn engine_matches_a_live_pod_from_its_first_request_on() {
    const CAPTURE: &str = "live-late-join";
    let description = &pods(CAPTURE)[0];
    let recorded = payloads(CAPTURE, &["replay-missed", "events-live"], &description["topic"]);
    let mut pod = Pod::new(description, recorded, 0);
    lines(CAPTURE, "workload").iter().for_each(|line| pod.serve(of_workload(line, "")));
    assert_eq!(pod.requests, 65);
    let batches = 99 - pod.recorded.len() as u64;
    assert!(batches > 40, "{batches}");
    pod.finish(batches);
}
