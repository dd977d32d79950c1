use std::string::String;
use std::vec;

use serde_json::{Value, json};

use super::*;
use crate::event::{BlockRemoved, BlockStored, EventLora, GroupKind};
use crate::hash::ExtraKey;
use crate::{EngineHash, Tier};

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Encodes a JSON value, with `{"bytes_hex": "..."}` standing for a byte string.
fn pack(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(id @ 0..=0x7f), _) => out.push(id as u8),
            (Some(id @ 0x80..=0xff), _) => out.extend([0xcc, id as u8]),
            (Some(value), _) => {
                out.push(0xcf);
                out.extend(value.to_be_bytes());
            }
            (_, Some(value)) => {
                out.push(0xd3);
                out.extend(value.to_be_bytes());
            }
            _ => {
                out.push(0xcb);
                out.extend(number.as_f64().expect("a float").to_be_bytes());
            }
        },
        Value::String(text) => {
            out.extend([0xd9, u8::try_from(text.len()).expect("a short text")]);
            out.extend(text.as_bytes());
        }
        Value::Array(values) => {
            out.push(0xdc);
            out.extend(u16::try_from(values.len()).expect("a short array").to_be_bytes());
            values.iter().for_each(|value| pack(value, out));
        }
        Value::Object(fields) if fields.contains_key("bytes_hex") => {
            let bytes = unhex(fields["bytes_hex"].as_str().expect("hex"));
            out.extend([0xc4, u8::try_from(bytes.len()).expect("few bytes")]);
            out.extend(bytes);
        }
        Value::Object(fields) => {
            out.push(0xde);
            out.extend(u16::try_from(fields.len()).expect("a short map").to_be_bytes());
            for (key, value) in fields {
                pack(&Value::String(key.clone()), out);
                pack(value, out);
            }
        }
    }
}

fn packed(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    pack(value, &mut out);
    out
}

fn decode(value: &Value) -> EventBatch {
    decode_batch(&packed(value)).expect("a readable batch")
}

/// Decodes one event between two good ones and returns it, or why it was skipped.
fn decode_event(event: &Value) -> Result<KvEvent, (SkipReason, String)> {
    let mut batch = decode(&json!([0, [["BlockRemoved", [1]], event, ["AllBlocksCleared"]], 0]));
    assert_eq!(batch.events.last(), Some(&KvEvent::Cleared), "what follows {event} is lost");
    assert_eq!(batch.events.len() + batch.skipped.len(), 3);
    match batch.skipped.pop() {
        Some(skipped) => {
            assert_eq!(skipped.position, 1);
            Err((skipped.reason, skipped.detail))
        }
        None => Ok(batch.events.swap_remove(1)),
    }
}

fn stored(event: &Value) -> BlockStored {
    match decode_event(event) {
        Ok(KvEvent::Stored(stored)) => stored,
        other => panic!("{event} gave {other:?}"),
    }
}

/// A small `BlockStored` map with some fields replaced; those set to `{}` are left out.
fn stored_with(changes: Value) -> Value {
    let mut event = json!({"type": "BlockStored", "block_hashes": [1, 2], "parent_block_hash": 9,
        "token_ids": [5, 6, 7, 8], "block_size": 2, "lora_id": null, "medium": "GPU", "lora_name": null});
    for (key, value) in changes.as_object().expect("changes") {
        event[key] = value.clone();
    }
    event.as_object_mut().expect("a map").retain(|_, value| *value != json!({}));
    event
}

#[test]
fn hashes_of_every_encoding_name_the_same_block() {
    let bytes = format!("{}00000000ffffffff", "ab".repeat(24));
    let event = stored_with(json!({
        "block_hashes": [4294967295u64, {"bytes_hex": bytes}, {"bytes_hex": "ffffffff"}],
        "parent_block_hash": -2,
    }));
    let stored = stored(&event);
    assert_eq!(stored.block_hashes, [EngineHash(0xffff_ffff); 3]);
    assert_eq!(stored.parent, Some(EngineHash(u64::MAX - 1)));
    // Raw bytes in a string that is not UTF-8, as old encoders without a byte string type write them.
    let raw = [&[0x92, 0, 0x91, 0x92, 0xac][..], b"BlockRemoved", &[0x91, 0xa2, 0xff, 0xfe]].concat();
    let removed = KvEvent::Removed(BlockRemoved {
        block_hashes: vec![EngineHash(0xfffe)],
        tier: Some(Tier::Gpu),
        group: 0,
    });
    assert_eq!(decode_batch(&raw).expect("a batch").events, [removed]);
}

#[test]
fn missing_nil_and_unknown_fields_are_no_obstacle() {
    let plain = stored(&stored_with(json!({})));
    let key_order = json!({"block_size": 2, "zzz": [[{"a": [1, 2]}], "b", null, 1.5, true], "type": "BlockStored",
        "token_ids": [5, 6, 7, 8], "parent_block_hash": 9, "block_hashes": [1, 2], "aaa": {"bytes_hex": "00"}});
    assert_eq!(stored(&key_order), plain);
    let nils = stored_with(json!({"medium": null, "extra_keys": null, "group_idx": null, "cache_salt": null,
        "kv_cache_spec_kind": null, "kv_cache_spec_sliding_window": null, "lora_id": -1}));
    assert_eq!(stored(&nils), plain);
    let fields = [json!("BlockStored"), json!([1, 2]), json!(9), json!([5, 6, 7, 8]), json!(2)];
    assert_eq!(stored(&json!(fields)), plain);
    let mut trailing = fields.to_vec();
    trailing.extend(std::iter::repeat_n(Value::Null, 13));
    trailing.extend([json!([{"new": "field"}]), json!(1.5)]);
    assert_eq!(stored(&json!(trailing)), plain);
    assert_eq!(stored(&stored_with(json!({"parent_block_hash": {}}))).parent, None);
    for cleared in
        [json!(["AllBlocksCleared", null, "GPU"]), json!({"medium": 5, "type": "AllBlocksCleared"})]
    {
        assert_eq!(decode_event(&cleared), Ok(KvEvent::Cleared));
    }
    let removed =
        json!({"type": "BlockRemoved", "block_hashes": [3], "token_ids": "unused", "medium": "tape"});
    let expected = BlockRemoved { block_hashes: vec![EngineHash(3)], tier: None, group: 0 };
    assert_eq!(decode_event(&removed), Ok(KvEvent::Removed(expected)));
}

#[test]
fn frames_of_every_legal_shape_are_read() {
    let events = json!([["AllBlocksCleared"]]);
    for (frame, timestamp, dp_rank) in [
        (json!([1.5, events]), 1.5, None),
        (json!([7, events, null]), 7.0, None),
        (json!([-1, events, 3]), -1.0, Some(3)),
        (json!([null, events, 300, "new", {"field": []}]), 0.0, Some(300)),
        (json!([["?"], events, 0]), 0.0, Some(0)),
    ] {
        let batch = decode(&frame);
        assert_eq!((batch.timestamp, batch.dp_rank), (timestamp, dp_rank), "{frame}");
        assert_eq!(batch_timestamp(&packed(&frame)).unwrap_or(0.0), timestamp, "{frame}");
        assert_eq!((&batch.events[..], batch.skipped.len()), (&[KvEvent::Cleared][..], 0), "{frame}");
    }
    let nan = [&[0x92, 0xcb][..], &f64::NAN.to_be_bytes(), &[0x90]].concat();
    assert_eq!(decode_batch(&nan).expect("a batch"), EventBatch::default());
    let f32 = [&[0x92, 0xca][..], &1.5f32.to_be_bytes(), &[0x90]].concat();
    assert_eq!(decode_batch(&f32).expect("a batch").timestamp, 1.5);
}

#[test]
fn unreadable_frames_are_errors_that_name_the_byte() {
    for (frame, message) in [
        (json!(5), "KV event batch: expected a batch, which is an array at byte 0, found an integer"),
        (json!({"ts": 0, "events": []}), "expected a batch, which is an array at byte 0, found a map"),
        (json!([]), "a batch without events at byte 0"),
        (json!([0]), "a batch without events at byte 0"),
        (json!([0, {}]), "expected the array of events at byte 4, found a map"),
        (json!([0, [], -1]), "an integer that does not fit into 32 bits unsigned at byte 7"),
        (json!([0, [], "0"]), "expected a data-parallel rank at byte 7, found a string"),
    ] {
        let error = decode_batch(&packed(&frame)).expect_err(message);
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.to_string().contains(message), "{error}");
    }
    for broken in
        [&[][..], &[0xc1], &[0x92, 0, 0x91, 0xc1], &[0x92, 0, 0x91, 0x91, 0xc1], &[0x92, 0xc1, 0x90]]
    {
        assert_eq!(decode_batch(broken).expect_err("broken").kind(), ErrorKind::Decode, "{broken:?}");
    }
}

#[test]
fn bytes_after_the_batch_are_reported_and_cost_nothing() {
    let mut payload = packed(&json!([0, [["AllBlocksCleared"]], 0]));
    let end = payload.len();
    payload.extend([0x93, 0xc1]);
    let batch = decode_batch(&payload).expect("a batch");
    assert_eq!(batch.events, [KvEvent::Cleared]);
    assert_eq!((batch.skipped.len(), batch.skipped[0].position), (1, 1));
    assert_eq!(batch.skipped[0].detail, format!("2 bytes after the batch, from byte {end}"));
}

#[test]
fn one_bad_event_costs_no_other() {
    for (bad, message) in [
        (json!(null), "found nil"),
        (json!("BlockStored"), "found a string"),
        (json!([]), "an empty array"),
        (json!({}), "an event without a type"),
        (json!([7, [1]]), "expected the event's tag"),
        (json!(["BlockRemoved"]), "BlockRemoved without block_hashes"),
        (json!(["BlockRemoved", [1, [2]]]), "block_hashes: expected a block hash"),
        (json!(["BlockRemoved", [{"bytes_hex": ""}]]), "block_hashes: an empty block hash"),
        (json!(["BlockRemoved", [1], 5]), "medium: expected a medium"),
        (json!(["BlockRemoved", [1], "GPU", -1]), "group_idx: an integer that does not fit"),
        (json!(["BlockStored", [1], null, [1, 2]]), "BlockStored without block_size"),
        (stored_with(json!({"token_ids": {}})), "BlockStored without token_ids"),
        (stored_with(json!({"token_ids": null})), "token_ids: expected an array of token ids"),
        (stored_with(json!({"token_ids": [5, -6]})), "token_ids: an integer that does not fit"),
        (stored_with(json!({"token_ids": [5, 4294967296u64]})), "token_ids: an integer that does not fit"),
        (stored_with(json!({"token_ids": [5, 1.5]})), "token_ids: expected a token id"),
        (stored_with(json!({"token_ids": [5, [6, 7]]})), "token_ids: expected a token id"),
        (stored_with(json!({"token_ids": [[5, 6], 7]})), "token_ids: expected a pair"),
        (stored_with(json!({"token_ids": [[5, 6], [7, 8, 9]]})), "token_ids: not a pair"),
        (stored_with(json!({"block_size": -1})), "block_size: an integer"),
        (stored_with(json!({"block_size": 0})), "token ids in blocks of size 0"),
        (stored_with(json!({"parent_block_hash": "" })), "parent_block_hash: an empty block hash"),
        (stored_with(json!({"lora_id": u64::MAX})), "lora_id: a LoRA id beyond 63 bits"),
        (stored_with(json!({"extra_keys": [[5], null]})), "extra_keys: expected an extra key"),
        (stored_with(json!({"extra_keys": [[null], null]})), "extra_keys: expected an extra key"),
        (stored_with(json!({"extra_keys": [[[]], null]})), "extra_keys: an extra key that is neither"),
        (stored_with(json!({"extra_keys": [[["a", 1, 2]]]})), "extra_keys: an extra key that is neither"),
        (stored_with(json!({"extra_keys": [[["a", "b"]]]})), "extra_keys: expected the offset"),
        (stored_with(json!({"extra_keys": [[["a", u64::MAX]]]})), "extra_keys: an offset beyond 63 bits"),
        (stored_with(json!({"extra_keys": ["salt"]})), "extra_keys: expected the extra keys of a block"),
    ] {
        let (reason, detail) = decode_event(&bad).expect_err(message);
        assert_eq!(reason, SkipReason::Malformed, "{bad}");
        assert!(detail.contains(message), "{bad}: {detail}");
    }
    let tag = "X".repeat(100);
    for unknown in [json!([tag, [1], 5]), json!({"block_size": "not ours", "type": tag})] {
        let (reason, detail) = decode_event(&unknown).expect_err("unknown");
        assert_eq!(reason, SkipReason::UnknownTag);
        assert_eq!(detail, format!("unknown event \"{}...\"", "X".repeat(64)));
    }
}

#[test]
fn bigrams_keep_the_first_of_each_pair() {
    let event = json!(["BlockStored", [1], null, [[5, 6], [6, 300], [300, 8], [8, 9]], 4, null, "GPU"]);
    let stored = stored(&event);
    assert_eq!((stored.bigrams, &stored.token_ids[..]), (true, &[5, 6, 300, 8][..]));
}

#[test]
fn token_ids_of_every_width_are_read() {
    let mut payload = [&[0x92, 0, 0x91, 0x95, 0xab][..], b"BlockStored", &[0x91, 1, 0xc0]].concat();
    payload.extend([0x99, 0x7f, 0xcc, 0xff, 0xcd, 1, 0, 0xce, 0xff, 0xff, 0xff, 0xff, 0xcf, 0, 0, 0, 0]);
    payload.extend([0, 1, 0, 0, 0xd0, 1, 0xd1, 0, 2, 0xd2, 0, 0, 0, 3, 0xd3, 0, 0, 0, 0, 0, 0, 0, 4, 9]);
    let batch = decode_batch(&payload).expect("a batch");
    let [KvEvent::Stored(stored)] = &batch.events[..] else { panic!("{batch:?}") };
    assert_eq!(stored.token_ids, [127, 255, 256, u32::MAX, 65536, 1, 2, 3, 4]);
}

#[test]
fn extra_keys_stay_aligned_with_their_blocks() {
    let event = stored_with(json!({"extra_keys": [null, ["lora", ["img", -3], ["old"], "salt"], [],
        [{"bytes_hex": "00ff"}, [{"bytes_hex": "00ff"}, 2]]]}));
    let text = |text: &str| ExtraKey::Text(text.into());
    let item = |identifier: &str, offset| ExtraKey::Multimodal { identifier: identifier.into(), offset };
    let second = vec![text("lora"), item("img", -3), text("old"), text("salt")];
    let last = vec![ExtraKey::Bytes(vec![0, 0xff]), item("00ff", 2)];
    assert_eq!(stored(&event).extra_keys, [vec![], second, vec![], last]);
}

#[test]
fn tiers_groups_and_adapters_follow_their_rules() {
    for (medium, tier) in [("cpu", Some(Tier::Cpu)), ("STORAGE", Some(Tier::Disk)), ("tape", None)] {
        assert_eq!(stored(&stored_with(json!({"medium": medium}))).tier, tier);
    }
    let kind = |kind: Value, window: Value| {
        let changes = json!({"kv_cache_spec_kind": kind, "kv_cache_spec_sliding_window": window});
        stored(&stored_with(changes)).group_kind.expect("a kind")
    };
    for full in ["full_attention", "mla_attention", "sink_full_attention"] {
        assert_eq!(kind(json!(full), json!(null)), GroupKind::FullAttention);
    }
    assert_eq!(kind(json!("sliding_window"), json!(1)), GroupKind::SlidingWindow { window: 1 });
    for window in [json!(null), json!(0), json!(-1), json!(4294967296u64)] {
        assert_eq!(kind(json!("sliding_window"), window), GroupKind::Unknown);
    }
    for other in ["sliding_window_mla", "mamba", "chunked_local_attention", "unknown", ""] {
        assert_eq!(kind(json!(other), json!(128)), GroupKind::Unknown);
    }
    assert_eq!(kind(json!(null), json!(128)), GroupKind::Unknown);
    let lora = |changes: Value| stored(&stored_with(changes)).lora;
    assert_eq!(lora(json!({"lora_id": -1})), None);
    assert_eq!(lora(json!({"lora_id": 0})), Some(EventLora { name: None, id: Some(0) }));
    let named = Some(EventLora { name: Some("a".into()), id: None });
    assert_eq!(lora(json!({"lora_id": -1, "lora_name": "a"})), named);
    let salted = stored(&stored_with(json!({"cache_salt": "tenant-a"})));
    assert_eq!(salted.cache_salt.as_deref(), Some("tenant-a"));
}
