//! Live captures: frames as a subscriber got them, and the requests that caused them.
//!
//! Publisher and client ran on one machine, so time stamps join them: a batch whose `ts` is before the moment
//! a request was sent was applied by the engine before it saw that request. Batches that only
//! a replay socket delivered (a subscriber that joined late) count like the others.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use kvroute_core::event::decode_batch;
use kvroute_core::hash::{BlockHasher, HashContext, HashSeed, Lora, VllmAlgorithm, VllmScheme};
use serde::Deserialize;
use serde_json::Value;

use super::file::{Source, decode_base64, each_json_line};
use super::{Answer, Capture, CapturedPod, Item, Query, Result};

/// The engine version of the live captures; their files do not carry it.
const VLLM: &str = "0.32.0";

/// Why a request's answer is not in the events.
const AFTER_RESET: &str =
    "first request after a reset: the engine announces the clear with this request's blocks";

#[derive(Deserialize)]
struct PodFile {
    pod: String,
    topic: String,
    block_size: u32,
    hash_algo: String,
    hash_seed: String,
}

#[derive(Deserialize)]
struct Frames {
    dir: Option<String>,
    #[serde(default)]
    frames: Vec<String>,
}

#[derive(Deserialize)]
struct Work {
    n: u64,
    pod: String,
    t0: f64,
    #[serde(default)]
    reset: bool,
    prompt_token_ids: Option<Vec<u32>>,
    cache_salt: Option<String>,
    lora_name: Option<String>,
    cached_tokens: Option<u32>,
}

/// A batch, by the publisher's time.
struct Batch {
    at: f64,
    pod: usize,
    sequence: u64,
    payload: Vec<u8>,
}

/// A request or a reset, by the time it was sent.
struct Timed {
    at: f64,
    pod: usize,
    name: String,
    /// `None`: the prefix cache was reset.
    request: Option<(Vec<u32>, HashContext, u32)>,
}

/// The files of a directory.
pub(super) fn files(directory: &Path) -> Result<Vec<Source>> {
    let listing = std::fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let files = listing.map(|entry| Ok(Source::on_disk(entry?.path())));
    let mut files = files.collect::<std::io::Result<Vec<_>>>()?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

pub(super) fn read(files: &[Source]) -> Result<Capture> {
    let pods_json =
        files.iter().find(|file| file.name() == "pods.json").ok_or("a live capture has a pods.json")?;
    let described: Vec<PodFile> = serde_json::from_reader(pods_json.open()?)
        .map_err(|error| format!("{}: {error}", pods_json.path().display()))?;

    let adapters = adapters(files)?;
    let mut timed = requests(files, &described, &adapters)?;
    timed.sort_by(|a, b| a.at.total_cmp(&b.at));
    let batches = batches(files, &described)?;
    let pods = described
        .iter()
        .map(|pod| CapturedPod { name: pod.pod.clone(), block_size: pod.block_size, native: hasher(pod) })
        .collect();
    Ok(Capture { pods, items: join(batches, timed) })
}

fn hasher(pod: &PodFile) -> std::result::Result<BlockHasher, kvroute_core::Error> {
    let seed = match pod.hash_seed.as_str() {
        "unset" => HashSeed::Unset,
        value => HashSeed::Value(value.to_owned()),
    };
    let algorithm = VllmAlgorithm::from_name(&pod.hash_algo)?;
    BlockHasher::new(VllmScheme::for_version(algorithm, VLLM, &seed)?, pod.block_size)
}

fn named<'a>(files: &'a [Source], prefixes: &'a [&str]) -> impl Iterator<Item = &'a Source> {
    files.iter().filter(|file| {
        let name = file.name();
        let known = name.ends_with(".jsonl") || name.ends_with(".jsonl.gz");
        known && prefixes.iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Every batch once, by the publisher's time. Equal numbers with other bytes are those of a restarted engine.
fn batches(files: &[Source], pods: &[PodFile]) -> Result<Vec<Batch>> {
    let mut seen = HashSet::new();
    let mut batches = Vec::new();
    for source in named(files, &["events", "replay"]) {
        each_json_line(source, |line: Frames| {
            if line.dir.as_deref() != Some("in") {
                return Ok(());
            }
            let frames = line.frames.iter().map(|f| decode_base64(f)).collect::<Result<Vec<_>>>()?;
            let [.., topic, sequence, payload] = &*frames else { return Ok(()) };
            let Ok(sequence) = <[u8; 8]>::try_from(&sequence[..]).map(u64::from_be_bytes) else {
                return Ok(());
            };
            let Some(pod) = pods.iter().position(|pod| pod.topic.as_bytes() == &topic[..]) else {
                return Ok(());
            };
            if seen.insert((pod, sequence, payload.clone())) {
                let at = decode_batch(payload)?.timestamp;
                batches.push(Batch { at, pod, sequence, payload: payload.clone() });
            }
            Ok(())
        })?;
    }
    batches.sort_by(|a, b| a.at.total_cmp(&b.at).then((a.pod, a.sequence).cmp(&(b.pod, b.sequence))));
    Ok(batches)
}

/// Adapter name -> path, as `/v1/models` told.
fn adapters(files: &[Source]) -> Result<HashMap<String, String>> {
    let mut adapters = HashMap::new();
    for source in named(files, &["http"]) {
        each_json_line(source, |exchange: Value| {
            if exchange["request"]["path"] != "/v1/models" || exchange["response"]["status"] != 200 {
                return Ok(());
            }
            let body: Value = serde_json::from_str(exchange["response"]["body"].as_str().unwrap_or(""))?;
            for model in body["data"].as_array().into_iter().flatten() {
                if let (Some(id), Some(root), false) =
                    (model["id"].as_str(), model["root"].as_str(), model["parent"].is_null())
                {
                    adapters.insert(id.to_owned(), root.to_owned());
                }
            }
            Ok(())
        })?;
    }
    Ok(adapters)
}

fn requests(files: &[Source], pods: &[PodFile], adapters: &HashMap<String, String>) -> Result<Vec<Timed>> {
    let context = |salt: Option<&str>, lora: Option<&str>| HashContext {
        lora: lora.map(|name| Lora {
            name: name.to_owned(),
            path: adapters.get(name).cloned().unwrap_or_default(),
            id: 0,
        }),
        cache_salt: salt.map(str::to_owned),
        ..HashContext::default()
    };
    let mut timed = Vec::new();
    for source in named(files, &["http"]) {
        let file = source.name();
        let Some(pod) = pods.iter().position(|pod| file.starts_with(&format!("http-{}.", pod.pod))) else {
            return Err(format!("{}: of no pod in pods.json", source.path().display()).into());
        };
        each_json_line(source, |exchange: Value| {
            timed.extend(from_http(&exchange, pod, &context)?);
            Ok(())
        })?;
    }
    for source in named(files, &["workload"]) {
        each_json_line(source, |work: Work| {
            let Some(pod) = pods.iter().position(|pod| pod.pod == work.pod) else {
                return Err(format!("request {}: no pod {} in pods.json", work.n, work.pod).into());
            };
            let request = match (work.reset, work.prompt_token_ids, work.cached_tokens) {
                (true, ..) => None,
                (false, Some(ids), Some(cached)) => {
                    Some((ids, context(work.cache_salt.as_deref(), work.lora_name.as_deref()), cached))
                }
                _ => return Err(format!("request {} is incomplete", work.n).into()),
            };
            timed.push(Timed { at: work.t0, pod, name: format!("workload {}", work.n), request });
            Ok(())
        })?;
    }
    Ok(timed)
}

/// A request of the scenario, if the engine told its token ids and its one prompt's cached tokens.
fn from_http(
    exchange: &Value,
    pod: usize,
    context: &dyn Fn(Option<&str>, Option<&str>) -> HashContext,
) -> Result<Option<Timed>> {
    let (request, response) = (&exchange["request"], &exchange["response"]);
    let name = exchange["name"].as_str().unwrap_or("").to_owned();
    let at = exchange["t0"].as_f64().unwrap_or(0.0);
    if response["status"] != 200 {
        return Ok(None);
    }
    if request["path"] == "/reset_prefix_cache" {
        return Ok(Some(Timed { at, pod, name, request: None }));
    }
    // Requests sent at the same moment see each other's blocks in an order that the capture does not tell.
    if request["body"]["return_token_ids"] != true || name.starts_with("concurrent") {
        return Ok(None);
    }
    let Some(body) = response["body"].as_str() else { return Ok(None) };
    let body: Value = serde_json::from_str(body)?;
    let Some([choice]) = body["choices"].as_array().map(Vec::as_slice) else { return Ok(None) };
    let token_ids = body.get("prompt_token_ids").filter(|ids| !ids.is_null());
    let token_ids = Vec::<u32>::deserialize(token_ids.unwrap_or(&choice["prompt_token_ids"]))?;
    let Some(cached) = body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64() else {
        return Ok(None);
    };
    let body = &request["body"];
    let lora = body["model"].as_str().filter(|&model| model != "tiny");
    let context = context(body["cache_salt"].as_str(), lora);
    Ok(Some(Timed { at, pod, name, request: Some((token_ids, context, u32::try_from(cached)?)) }))
}

/// Merges by time: what happened before a request was sent stands before it.
fn join(batches: Vec<Batch>, timed: Vec<Timed>) -> Vec<Item> {
    let mut items = Vec::with_capacity(batches.len() + timed.len());
    let mut batches = batches.into_iter().peekable();
    let mut was_reset = HashMap::new();
    for event in timed {
        while let Some(Batch { pod, sequence, payload, .. }) = batches.next_if(|batch| batch.at < event.at) {
            items.push(Item::Batch { pod, sequence, payload });
        }
        let Some((token_ids, context, cached)) = event.request else {
            was_reset.insert(event.pod, true);
            continue;
        };
        let exception = was_reset.remove(&event.pod).map(|_| AFTER_RESET);
        let answers = vec![Answer { pod: event.pod, cached, full: None, exception }];
        items.push(Item::Query(Query { name: event.name, token_ids, context, answers }));
    }
    items.extend(batches.map(|Batch { pod, sequence, payload, .. }| Item::Batch { pod, sequence, payload }));
    items
}
