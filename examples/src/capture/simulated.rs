//! kvsim captures: the real scheduler and block pool of vLLM, driven without a model.

use std::path::Path;

use kvroute_core::hash::{BlockHasher, HashContext, HashSeed, Lora, VllmAlgorithm, VllmEra, VllmScheme};
use serde::Deserialize;

use super::file::decode_base64;
use super::{Answer, Capture, CapturedPod, Item, Query, Result};

#[derive(Deserialize)]
struct Header {
    vllm: String,
    block_size: u32,
    hash_algo: String,
    pythonhashseed: Option<String>,
    none_hash: Option<String>,
    pods: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Batch {
        b: usize,
        s: u64,
        p: String,
    },
    Query {
        q: serde_json::Value,
        t: Vec<u32>,
        salt: Option<String>,
        lora: Option<(String, String)>,
        cached: Vec<u32>,
        full: Vec<u32>,
    },
}

pub(super) fn read(
    path: &Path,
    header: &serde_json::Value,
    lines: impl Iterator<Item = std::io::Result<String>>,
) -> Result<Capture> {
    let header = Header::deserialize(header).map_err(|error| format!("{}:1: {error}", path.display()))?;
    let native = hasher(&header);
    let pods: Vec<_> = (0..header.pods.len())
        .map(|pod| CapturedPod {
            name: format!("pod-{pod}"),
            block_size: header.block_size,
            native: native.clone(),
        })
        .collect();
    let mut items = Vec::new();
    for (number, line) in lines.enumerate() {
        let item = line.map_err(Into::into).and_then(|line| item(&line, pods.len()));
        items.push(item.map_err(|error| format!("{}:{}: {error}", path.display(), number + 2))?);
    }
    Ok(Capture { pods, items })
}

fn hasher(header: &Header) -> std::result::Result<BlockHasher, kvroute_core::Error> {
    let algorithm = VllmAlgorithm::from_name(&header.hash_algo)?;
    let none_hash = header.none_hash.as_deref().and_then(unhex);
    let scheme = match none_hash {
        Some(none_hash) => {
            VllmScheme::from_none_hash(algorithm, VllmEra::of_version(&header.vllm)?, &none_hash)?
        }
        None => {
            let seed = header.pythonhashseed.clone().map_or(HashSeed::Unset, HashSeed::Value);
            VllmScheme::for_version(algorithm, &header.vllm, &seed)?
        }
    };
    BlockHasher::new(scheme, header.block_size)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

fn item(line: &str, pods: usize) -> Result<Item> {
    match serde_json::from_str(line)? {
        Line::Batch { b, .. } if b >= pods => Err(format!("no pod {b} in the header").into()),
        Line::Batch { b, s, p } => Ok(Item::Batch { pod: b, sequence: s, payload: decode_base64(&p)? }),
        Line::Query { cached, full, .. } if cached.len() != pods || full.len() != pods => {
            Err(format!("{} and {} answers for {pods} pods", cached.len(), full.len()).into())
        }
        Line::Query { q, t, salt, lora, cached, full } => {
            let lora = lora.map(|(name, path)| Lora { name, path, id: 0 });
            let answers = cached.iter().zip(&full).enumerate();
            let answers = answers
                .map(|(pod, (&cached, &full))| Answer { pod, cached, full: Some(full), exception: None })
                .collect();
            let context = HashContext { lora, cache_salt: salt, ..HashContext::default() };
            Ok(Item::Query(Query { name: q.to_string(), token_ids: t, context, answers }))
        }
    }
}
