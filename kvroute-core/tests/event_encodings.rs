//! Decoding the vLLM family's batches: every era's bytes, damaged ones, and hostile ones.
//!
//! `testdata/events/README.md` says where the samples come from. What a sample should decode to is
//! worked out here from its JSON description, by rules written down a second time.

use std::sync::LazyLock;

use kvroute_core::event::{
    BlockRemoved, BlockStored, EventBatch, EventLora, GroupKind, KvEvent, decode_batch,
};
use kvroute_core::hash::ExtraKey;
use kvroute_core::{EngineHash, ErrorKind, Tier};
use proptest::prelude::*;
use serde_json::Value;

const ENCODINGS: &str = include_str!("../../testdata/events/event-encodings.json");
const SYNTHETIC: &str = include_str!("../../testdata/events/synthetic-events.json");

/// The payloads, parsed once: the properties below run hundreds of times.
static PAYLOADS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| samples().into_iter().map(|(_, payload, _)| payload).collect());

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Every sample of every era: its name, its payload, and the JSON of what it holds.
fn samples() -> Vec<(String, Vec<u8>, Value)> {
    let file: Value = serde_json::from_str(ENCODINGS).expect("event-encodings.json");
    let sample = |sample: &Value| {
        let text = |key: &str| sample[key].as_str().expect("a string").to_owned();
        let name = format!("{} {} {}", text("engine"), text("version"), text("sample"));
        (name, unhex(&text("payload_hex")), sample["decoded"].clone())
    };
    file["samples"].as_array().expect("samples").iter().map(sample).collect()
}

fn synthetic(name: &str) -> EventBatch {
    let file: Value = serde_json::from_str(SYNTHETIC).expect("synthetic-events.json");
    decode_batch(&unhex(file[name]["payload_hex"].as_str().expect("a payload"))).expect(name)
}

/// The expected event, worked out from the JSON of a sample.
mod expected {
    use super::*;

    const STORED: [&str; 14] = [
        "block_hashes",
        "parent_block_hash",
        "token_ids",
        "block_size",
        "lora_id",
        "medium",
        "lora_name",
        "extra_keys",
        "group_idx",
        "kv_cache_spec_kind",
        "kv_cache_spec_sliding_window",
        "locality",
        "ownership",
        "session_id",
    ];

    fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
        value.as_array().map(|values| values.iter().map(item).collect()).unwrap_or_default()
    }

    fn hash(value: &Value) -> EngineHash {
        if let Some(hex) = value["bytes_hex"].as_str() {
            return EngineHash(u64::from_str_radix(&hex[hex.len() - 16..], 16).expect("hex"));
        }
        EngineHash(value.as_u64().or(value.as_i64().map(|v| v as u64)).expect("a hash"))
    }

    fn tier(medium: &Value) -> Option<Tier> {
        match medium.as_str() {
            None | Some("GPU") => Some(Tier::Gpu),
            Some("CPU") => Some(Tier::Cpu),
            Some(other) => panic!("no sample has medium {other}"),
        }
    }

    fn extra_key(value: &Value) -> ExtraKey {
        match value.as_str() {
            Some(text) => ExtraKey::Text(text.to_owned()),
            None => ExtraKey::Multimodal {
                identifier: value[0].as_str().expect("an identifier").to_owned(),
                offset: value[1].as_i64().expect("an offset"),
            },
        }
    }

    pub(super) fn event(event: &Value) -> KvEvent {
        let tag = event["type"].as_str().or(event[0].as_str()).expect("a tag");
        let order: &[&str] =
            if tag == "BlockStored" { &STORED } else { &["block_hashes", "medium", "group_idx"] };
        let get = |name: &str| match order.iter().position(|field| *field == name) {
            Some(position) if event.is_array() => event.get(position + 1).unwrap_or(&Value::Null),
            _ => &event[name],
        };
        let number = |name: &str| get(name).as_u64().map(|value| value as u32);
        let text = |name: &str| get(name).as_str().map(str::to_owned);
        let block_hashes = list(get("block_hashes"), hash);
        let (tier, group) = (tier(get("medium")), number("group_idx").unwrap_or(0));
        match tag {
            "AllBlocksCleared" => KvEvent::Cleared,
            "BlockRemoved" => KvEvent::Removed(BlockRemoved { block_hashes, tier, group }),
            "BlockStored" => KvEvent::Stored(BlockStored {
                block_hashes,
                parent: Some(get("parent_block_hash")).filter(|value| !value.is_null()).map(hash),
                token_ids: list(get("token_ids"), |id| id.as_u64().expect("an id") as u32),
                bigrams: false,
                block_size: number("block_size").expect("a block size"),
                lora: match (text("lora_name"), get("lora_id").as_i64()) {
                    (None, None) => None,
                    (name, id) => Some(EventLora { name, id }),
                },
                tier,
                extra_keys: list(get("extra_keys"), |keys| list(keys, extra_key)),
                cache_salt: if event.is_object() { text("cache_salt") } else { None },
                group,
                group_kind: match (get("kv_cache_spec_kind").as_str(), number("kv_cache_spec_sliding_window"))
                {
                    (None, _) => None,
                    (Some("full_attention"), None) => Some(GroupKind::FullAttention),
                    (Some("sliding_window"), Some(window)) => Some(GroupKind::SlidingWindow { window }),
                    other => panic!("no sample has kind {other:?}"),
                },
            }),
            other => panic!("no sample has tag {other}"),
        }
    }
}

#[test]
fn every_sample_of_every_era_decodes_to_what_was_encoded() {
    let samples = samples();
    assert_eq!(samples.len(), 188);
    for (name, payload, decoded) in samples {
        let batch = decode_batch(&payload).expect(&name);
        assert_eq!(batch.skipped, [], "{name}");
        assert_eq!(Some(batch.timestamp), decoded[0].as_f64(), "{name}");
        assert_eq!(batch.dp_rank, decoded[2].as_u64().map(|rank| rank as u32), "{name}");
        let expected: Vec<_> = decoded[1].as_array().expect(&name).iter().map(expected::event).collect();
        assert_eq!(batch.events, expected, "{name}");
    }
}

#[test]
fn llmd_synthetic_events_decode() {
    let tokens = |n: u32| (0..n).collect::<Vec<_>>();
    let run = |hashes: &[u64], n: u32| BlockStored {
        block_hashes: hashes.iter().map(|&hash| EngineHash(hash)).collect(),
        token_ids: tokens(n),
        block_size: 16,
        tier: Some(Tier::Gpu),
        ..BlockStored::default()
    };
    assert_eq!(synthetic("vllm_array_int_hashes").events, [KvEvent::Stored(run(&[11, 12], 32))]);

    let sha = BlockStored {
        parent: Some(EngineHash(0x2777_8ea5_fcc8_21ee)),
        extra_keys: vec![vec![], vec![ExtraKey::Text("img-a".into())]],
        ..run(&[0x9ad5_9a66_22ef_1ad1, 0x9343_e9a7_51d5_9191], 32)
    };
    assert_eq!(synthetic("vllm_array_sha_hashes").events, [KvEvent::Stored(sha)]);

    let batch = synthetic("vllm_map");
    assert_eq!((batch.timestamp, batch.dp_rank, batch.skipped.len()), (2.0, Some(0), 0));
    let [KvEvent::Stored(stored), KvEvent::Removed(removed), KvEvent::Cleared] = &batch.events[..] else {
        panic!("{batch:?}")
    };
    assert_eq!((&stored.token_ids, stored.group_kind), (&tokens(16), Some(GroupKind::FullAttention)));
    assert_eq!((removed.tier, removed.block_hashes.len()), (Some(Tier::Cpu), 1));

    let lora = EventLora { name: Some("adapter-116".into()), id: Some(117) };
    let trap = BlockStored {
        lora: Some(lora),
        block_size: 64,
        extra_keys: vec![vec![ExtraKey::Text("adapter-116".into())]],
        group_kind: Some(GroupKind::FullAttention),
        ..run(&[21], 64)
    };
    assert_eq!(synthetic("vllm_lora_extra_key_trap").events, [KvEvent::Stored(trap)]);

    let offload = BlockStored { tier: Some(Tier::Cpu), ..run(&[11, 12], 0) };
    assert_eq!(synthetic("vllm_cpu_offload_location_only").events, [KvEvent::Stored(offload)]);

    let removed = BlockRemoved { block_hashes: vec![EngineHash(31)], tier: Some(Tier::Gpu), group: 0 };
    assert_eq!(
        synthetic("sglang_short_array").events,
        [KvEvent::Stored(run(&[31], 16)), KvEvent::Removed(removed), KvEvent::Cleared]
    );

    let window = GroupKind::SlidingWindow { window: 128 };
    let sliding = BlockStored { group: 1, group_kind: Some(window), ..run(&[41], 16) };
    assert_eq!(synthetic("vllm_swa_group_skip").events, [KvEvent::Stored(sliding)]);

    let orphan = BlockStored { parent: Some(EngineHash(51)), ..run(&[52], 16) };
    assert_eq!(synthetic("orphan_parent").events, [KvEvent::Stored(orphan)]);
}

#[test]
fn every_truncation_of_every_sample_is_an_error() {
    for (name, payload, _) in samples() {
        for len in 0..payload.len() {
            let result = decode_batch(&payload[..len]);
            assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::Decode), "{name} cut to {len}");
        }
    }
}

#[test]
fn every_single_byte_change_of_every_sample_is_survived() {
    for (_, mut payload, _) in samples() {
        for at in 0..payload.len() {
            let kept = payload[at];
            for byte in [0x00, 0x7f, 0x9f, 0xc0, 0xc1, 0xc6, 0xc9, 0xdb, 0xdd, 0xdf, 0xff, kept ^ 1] {
                payload[at] = byte;
                let _ = decode_batch(&payload);
            }
            payload[at] = kept;
        }
    }
}

#[test]
fn lengths_beyond_the_input_are_errors() {
    for header in [0xc6, 0xc9, 0xdb, 0xdd, 0xdf] {
        let huge = [header, 0xff, 0xff, 0xff, 0xff, 0, 0];
        let field = [&[0x92, 0, 0x91, 0x92, 0xac][..], b"BlockRemoved", &huge].concat();
        let tag = [&[0x92, 0, 0x91, 0x92][..], &huge].concat();
        let events = [&[0x92, 0][..], &huge].concat();
        for payload in [&huge[..], &field, &tag, &events] {
            assert_eq!(decode_batch(payload).expect_err("huge").kind(), ErrorKind::Decode);
        }
    }
}

#[test]
fn nesting_costs_no_stack() {
    for open in [&[0x91][..], &[0x81, 0x00], &[0xdd, 0, 0, 0, 1]] {
        let deep = open.repeat(100_000);
        assert!(decode_batch(&deep).is_err());
        // As an event, as a field, and in the place of the timestamp.
        let event = [&[0x92, 0, 0x92][..], &deep, &[0xc0, 0x91, 0xb0], b"AllBlocksCleared"].concat();
        let batch = decode_batch(&event).expect("a batch");
        assert_eq!((batch.events.len(), batch.skipped.len()), (1, 1));
        let field = [&[0x92, 0, 0x91, 0x93, 0xac][..], b"BlockRemoved", &[0x90], &deep, &[0xc0]].concat();
        assert_eq!(decode_batch(&field).expect("a batch").skipped.len(), 1);
        let timestamp = [&[0x92][..], &deep, &[0xc0, 0x90]].concat();
        assert_eq!(decode_batch(&timestamp).expect("a batch"), EventBatch::default());
    }
}

#[test]
fn a_flood_of_bad_events_is_counted_not_listed() {
    let flood = [&[0x92, 0, 0xdd, 0, 1, 0, 0][..], &[0xc0; 65536]].concat();
    let batch = decode_batch(&flood).expect("a batch");
    assert_eq!(batch.skipped.len(), 1025);
    assert_eq!((batch.skipped[1023].position, batch.skipped[1024].position), (1023, 1024));
    assert_eq!(batch.skipped[1024].detail, "64512 more from here on, not listed");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_batch(&bytes);
    }

    #[test]
    fn random_events_in_a_good_frame_keep_their_neighbours(
        noise in proptest::collection::vec(0u8..0xc0, 0..60),
        count in 1u8..8,
    ) {
        // Noise as a byte string, and noise that is whatever it is behind a known tag.
        let good = [&[0x91, 0xb0][..], b"AllBlocksCleared"].concat();
        let noise = [&[0xc4, noise.len() as u8][..], &noise].concat();
        let bad = [&[0x92 + count, 0xab][..], b"BlockStored", &noise, &vec![0xc0; usize::from(count)]].concat();
        let payload = [&[0x92, 0, 0x93][..], &good, &bad, &good].concat();
        let batch = decode_batch(&payload).expect("a batch");
        prop_assert_eq!((batch.events.len(), batch.skipped.len()), (2, 1));
    }

    #[test]
    fn a_sample_with_noise_spliced_in_never_panics(
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        let payload = pick.get(&PAYLOADS[..]);
        let at = at.index(payload.len());
        let end = (at + noise.len()).min(payload.len());
        let spliced = [&payload[..at], &noise, &payload[end..]].concat();
        if let Ok(batch) = decode_batch(&spliced) {
            prop_assert!(batch.events.len() + batch.skipped.len() <= spliced.len() + 1);
        }
    }
}
