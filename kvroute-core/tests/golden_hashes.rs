//! Block hashes against vectors that others computed: vLLM itself, llm-d, Dynamo and SMG, CPython.
//!
//! The files lie in `testdata/hashes`; its README says where each comes from.

use kvroute_core::hash::{
    BlockHasher, ExtraKey, HashContext, HashScheme, HashSeed, LlmdScheme, Lora, MultimodalForm,
    MultimodalItem, OwnScheme, VllmAlgorithm, VllmEra, VllmScheme,
};
use kvroute_core::{BlockHash, ErrorKind};
use serde_json::Value;
use sha2::{Digest, Sha256};

const VLLM: &str = include_str!("../../testdata/hashes/vllm.json");
const LLMD: &str = include_str!("../../testdata/hashes/llm-d.json");
const OWN: &str = include_str!("../../testdata/hashes/own-scheme.json");
const PICKLE: &str = include_str!("../../testdata/hashes/pickle.json");

fn parse(json: &str) -> Value {
    serde_json::from_str(json).expect("vector files are JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

fn number<N: TryFrom<i64>>(value: &Value) -> N {
    value.as_i64().and_then(|n| N::try_from(n).ok()).unwrap_or_else(|| panic!("not such a number: {value}"))
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = text(value);
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The last 8 bytes, big-endian.
fn low64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[bytes.len() - 8..].try_into().unwrap())
}

fn tokens(value: &Value) -> Vec<u32> {
    match value {
        Value::Object(cycle) => {
            let cycled = tokens(&cycle["repeat"]);
            cycled.iter().copied().cycle().take(number(&cycle["count"])).collect()
        }
        _ => list(value).iter().map(number).collect(),
    }
}

fn seed(value: &Value) -> HashSeed {
    value.as_str().map_or(HashSeed::Unset, |value| HashSeed::Value(value.into()))
}

fn lora(value: &Value) -> Option<Lora> {
    let value = value.as_object()?;
    Some(Lora { name: text(&value["name"]).into(), path: text(&value["path"]).into(), id: 0 })
}

fn items(value: &Value, start: &str) -> Vec<MultimodalItem> {
    let item = |item: &Value| MultimodalItem {
        identifier: text(&item["identifier"]).into(),
        start: number(&item[start]),
        length: number(&item["length"]),
    };
    list(value).iter().map(item).collect()
}

/// A block's extra keys as a vector lists them in the untagged form of events.
fn event_keys(value: &Value) -> Vec<ExtraKey> {
    let key = |key: &Value| match key {
        Value::String(text) => ExtraKey::Text(text.clone()),
        Value::Array(pair) => {
            ExtraKey::Multimodal { identifier: text(&pair[0]).into(), offset: number(&pair[1]) }
        }
        other => ExtraKey::Bytes(hex(&other["bytes_hex"])),
    };
    list(value).iter().map(key).collect()
}

/// The context of a vector made through vLLM 0.32's request objects.
fn current_context(vector: &Value) -> HashContext {
    let size: usize = number(&vector["block_size"]);
    let mut context = HashContext {
        lora: lora(&vector["lora"]),
        cache_salt: vector["cache_salt"].as_str().map(Into::into),
        multimodal: items(&vector["mm"], "offset"),
        prompt_embeds: Vec::new(),
    };
    if let Some(embeds) = vector.get("prompt_embeds") {
        let raw = hex(&embeds["bytes_hex"]);
        let row = raw.len() / number::<usize>(&embeds["shape"][0]);
        context.prompt_embeds = raw.chunks(row * size).map(|block| Sha256::digest(block).to_vec()).collect();
    }
    context
}

/// The context of a vector that gives extra keys only, in an older version's form.
fn untagged_context(vector: &Value) -> HashContext {
    let salt_only = text(&vector["id"]).ends_with("salt_only");
    let keys = list(&vector["blocks"][0]["extra_keys"]);
    let identifier = match keys.get(1) {
        Some(Value::String(identifier)) => identifier.as_str(),
        Some(Value::Array(pair)) => text(&pair[0]),
        _ => "",
    };
    let item = MultimodalItem { identifier: identifier.into(), start: 3, length: 20 };
    HashContext {
        lora: (!salt_only).then(|| Lora { name: "lora-a".into(), ..Lora::default() }),
        cache_salt: Some("tenant-a".into()),
        multimodal: if salt_only { Vec::new() } else { vec![item] },
        prompt_embeds: Vec::new(),
    }
}

/// Our extra keys of a block, with the adapter's name put where an event has it.
fn published(context: &HashContext, block: usize, size: u32, form: MultimodalForm) -> Vec<ExtraKey> {
    let lora = context.lora.iter().map(|lora| ExtraKey::Text(lora.name.clone()));
    lora.chain(context.extra_keys(block, size, form)).collect()
}

#[test]
fn every_vllm_root_is_reproduced_or_refused() {
    let document = parse(VLLM);
    let (mut equal, mut refused) = (0, 0);
    for entry in list(&document["none_hashes"]) {
        let algorithm = VllmAlgorithm::from_name(text(&entry["algo"])).unwrap();
        let scheme = VllmScheme::for_version(algorithm, "0.32.0", &seed(&entry["pythonhashseed"]));
        if entry["none_hash"].is_null() {
            let error = scheme.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotReproducible);
            assert!(error.to_string().contains("set PYTHONHASHSEED"), "{error}");
            refused += 1;
        } else {
            let scheme = scheme.unwrap();
            assert_eq!(scheme.none_hash(), hex(&entry["none_hash"]), "{entry}");
            assert_eq!(low64(scheme.none_hash()), entry["none_hash_u64"].as_u64().unwrap());
            let explicit = VllmScheme::from_none_hash(algorithm, VllmEra::Tagged, &hex(&entry["none_hash"]));
            assert_eq!(explicit.unwrap(), scheme);
            equal += 1;
        }
    }
    assert_eq!((equal, refused), (18, 2));
}

#[test]
fn every_vllm_vector_is_reproduced() {
    let document = parse(VLLM);
    let (mut vectors, mut hashes) = (0, 0);
    for vector in list(&document["vectors"]) {
        let id = text(&vector["id"]);
        let (era, form, context) = match text(&vector["family"]) {
            "current" => (VllmEra::Tagged, MultimodalForm::Offset, current_context(vector)),
            "untagged" => (VllmEra::MultimodalOffset, MultimodalForm::Offset, untagged_context(vector)),
            "untagged_mm_str" => {
                (VllmEra::MultimodalIdentifier, MultimodalForm::Identifier, untagged_context(vector))
            }
            "cbor_64bit" => (VllmEra::IntLora, MultimodalForm::Identifier, HashContext::default()),
            other => panic!("{id}: unknown family {other}"),
        };
        let algorithm = VllmAlgorithm::from_name(text(&vector["algo"])).unwrap();
        let scheme = VllmScheme::for_era(algorithm, era, &seed(&vector["pythonhashseed"])).unwrap();
        if let Some(root) = vector.get("none_hash") {
            assert_eq!(scheme.none_hash(), hex(root), "{id}");
        }
        let size: u32 = number(&vector["block_size"]);
        let token_ids = tokens(&vector["token_ids"]);
        let hasher = BlockHasher::new(scheme, size).unwrap();
        let mut cursor = hasher.start(&context).unwrap();
        let mut got = Vec::new();
        for (index, block) in list(&vector["blocks"]).iter().enumerate() {
            let mut context = context.clone();
            if era == VllmEra::IntLora {
                // These vectors give one block in the middle an adapter, which no request would.
                context.lora = block["extra_keys"].get(0).map(|id| Lora {
                    name: "adapter".into(),
                    id: number(id),
                    ..Lora::default()
                });
            } else {
                let event = block.get("event_extra_keys").or_else(|| {
                    let untagged = text(&vector["family"]) != "current";
                    untagged.then_some(&block["extra_keys"])
                });
                if let Some(event) = event {
                    assert_eq!(
                        published(&context, index, size, form),
                        event_keys(event),
                        "{id} block {index}"
                    );
                }
            }
            assert_eq!(hasher.extend(&mut cursor, &token_ids, &context, 1, &mut got), Ok(1), "{id}");
            let hash = hex(&block["hash"]);
            assert_eq!(block["u64"].as_u64(), Some(low64(&hash)));
            assert_eq!(got[index], BlockHash(low64(&hash)), "{id} block {index}");
            hashes += 1;
        }
        assert_eq!(hasher.block_count(token_ids.len()), got.len(), "{id}");
        if era != VllmEra::IntLora {
            assert_eq!(hasher.hash(&token_ids, &context).unwrap(), got, "{id} at once");
        }
        vectors += 1;
    }
    assert_eq!((vectors, hashes), (120, 374));
}

#[test]
fn pickles_are_those_of_cpython() {
    let document = parse(PICKLE);
    let mut hashes = 0;
    for vector in list(&document["vectors"]) {
        let id = text(&vector["id"]);
        let root = hex(&vector["none_hash"]);
        let scheme = VllmScheme::from_none_hash(VllmAlgorithm::Sha256, VllmEra::Tagged, &root).unwrap();
        assert_eq!(
            scheme,
            VllmScheme::for_version(VllmAlgorithm::Sha256, "0.31", &HashSeed::Value("42".into())).unwrap()
        );
        let context = HashContext {
            lora: lora(&vector["lora"]),
            cache_salt: vector["cache_salt"].as_str().map(Into::into),
            multimodal: items(&vector["mm"], "start"),
            prompt_embeds: list(&vector["prompt_embeds"]).iter().map(hex).collect(),
        };
        let hasher = BlockHasher::new(scheme, number(&vector["block_size"])).unwrap();
        let got = hasher.hash(&tokens(&vector["token_ids"]), &context).unwrap();
        let expected = list(&vector["hashes"]);
        let indices: Vec<usize> = match vector.get("hash_indices") {
            Some(indices) => list(indices).iter().map(number).collect(),
            None => (0..got.len()).collect(),
        };
        assert_eq!(indices.len(), expected.len(), "{id}");
        for (index, hash) in indices.into_iter().zip(expected) {
            assert_eq!(got[index], BlockHash(low64(&hex(hash))), "{id} block {index}");
            hashes += 1;
        }
    }
    assert_eq!((list(&document["vectors"]).len(), hashes), (53, 155));
}

#[test]
fn every_llmd_request_key_is_reproduced() {
    let document = parse(LLMD);
    let mut keys = 0;
    let mut skipped = Vec::new();
    for vector in list(&document) {
        let name = text(&vector["name"]);
        let algorithm = text(&vector["algorithm"]);
        let by_name: fn(LlmdScheme) -> HashScheme = match algorithm {
            "cbor-fnv" => HashScheme::LlmdCborFnv,
            "xxh64" => HashScheme::LlmdXxh64,
            // Keys of releases before, and of its approximate index: not schemes here.
            "sha256-cbor-64" | "lmcache-sha256-hex" | "approx-xxh64" => {
                skipped.push(algorithm);
                continue;
            }
            other => panic!("{name}: unknown algorithm {other}"),
        };
        let (seed, served) = (text(&vector["seed"]), text(&vector["model"]));
        let mut context = HashContext::default();
        let mut model = served;
        if name.starts_with("LoRA") {
            context.lora = Some(Lora { name: served.into(), ..Lora::default() });
            model = "some-base-model";
        }
        if let Some(extras) = vector.get("extras") {
            // A context whose items fall into the blocks as the vector lists them.
            assert_eq!(extras.to_string(), r#"[["img-hash-a"],["img-hash-a","img-hash-b"],null,["salt-x"]]"#);
            let item = |identifier: &str, start, length| MultimodalItem {
                identifier: identifier.into(),
                start,
                length,
            };
            context.multimodal =
                vec![item("img-hash-a", 4, 20), item("img-hash-b", 24, 8), item("salt-x", 50, 100)];
        }
        let scheme = by_name(LlmdScheme::new(seed, model));
        let hasher = BlockHasher::new(scheme, number(&vector["block_size"])).unwrap();
        let got = hasher.hash(&tokens(&vector["tokens"]), &context).unwrap();
        let expected: Vec<BlockHash> =
            list(&vector["keys"]).iter().map(|key| BlockHash(text(key).parse().unwrap())).collect();
        assert_eq!(got, expected, "{name} ({algorithm})");
        keys += got.len();
    }
    assert_eq!(skipped, ["sha256-cbor-64", "lmcache-sha256-hex", "approx-xxh64", "approx-xxh64"]);
    assert_eq!((list(&document).len() - skipped.len(), keys), (18, 109));
}

#[test]
fn the_own_scheme_is_that_of_dynamo_and_smg() {
    let document = parse(OWN);
    let own = OwnScheme::new(document["seed"].as_u64().unwrap());
    assert_eq!(own, OwnScheme::default());
    let mut hashes = 0;
    for vector in list(&document["vectors"]) {
        let id = text(&vector["id"]);
        let size = number(&vector["block_size"]);
        let token_ids = tokens(&vector["token_ids"]);
        let decimal = |value: &Value| BlockHash(text(value).parse().unwrap());
        let chained: Vec<BlockHash> = list(&vector["hashes"]).iter().map(decimal).collect();
        let contents = list(&vector["content_hashes"]).iter().map(decimal);
        let hasher = BlockHasher::new(own.clone(), size).unwrap();
        assert_eq!(hasher.hash(&token_ids, &HashContext::default()).unwrap(), chained, "{id}");
        let mut parent = None;
        for ((block, content), &hash) in token_ids.chunks(size as usize).zip(contents).zip(&chained) {
            assert_eq!(own.hash_block(None, block, None, &[]), content, "{id}: content");
            let ours = own.hash_block(parent, block, None, &[]);
            assert_eq!(ours, hash, "{id}: block by block");
            parent = Some(ours);
            hashes += 1;
        }
    }
    assert_eq!((list(&document["vectors"]).len(), hashes), (10, 2 * (1 + 2 + 33 + 33)));
}
