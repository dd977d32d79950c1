use std::prelude::v1::*;
use std::{format, vec};

use serde_json::{Value, json};

use super::*;
use crate::event::{BlockRemoved, BlockStored, EventLora, Skipped};
use crate::{EngineHash, Tier};

fn decode(json: &Value) -> Vec<NumberedEvent> {
    decode_trtllm(json.to_string().as_bytes(), 2).unwrap()
}

/// The only event of a poll, taken apart.
fn decode_one(json: &Value) -> (Vec<KvEvent>, Vec<Skipped>) {
    let mut events = decode(json);
    assert_eq!(events.len(), 1);
    let batch = events.remove(0).batch;
    (batch.events, batch.skipped)
}

fn block(hash: u64, tokens: &[u32], level: u64) -> Value {
    let tokens: Vec<Value> = tokens
        .iter()
        .map(|id| json!({"type": "unique_token", "token_id": id, "token_extra_id": 0}))
        .collect();
    json!({"type": "stored_block", "block_hash": hash, "tokens": tokens, "cache_level": level, "priority": 35})
}

fn stored(id: u64, parent: Option<u64>, blocks: &[Value]) -> Value {
    json!({"event_id": id, "data": {"type": "stored", "parent_hash": parent, "blocks": blocks}})
}

fn run(hashes: &[u64], parent: Option<u64>, token_ids: &[u32], tier: Option<Tier>) -> BlockStored {
    BlockStored {
        block_hashes: hashes.iter().map(|&hash| EngineHash(hash)).collect(),
        parent: parent.map(EngineHash),
        token_ids: token_ids.to_vec(),
        block_size: 2,
        tier,
        ..BlockStored::default()
    }
}

fn reasons(skipped: &[Skipped]) -> Vec<SkipReason> {
    skipped.iter().map(|skipped| skipped.reason).collect()
}

#[test]
fn a_poll_keeps_numbers_windows_ranks_and_order() {
    let poll = json!([
        {"event_id": 0, "window_size": 4096, "data": {"type": "created", "num_blocks_per_cache_level": [8, 2]}},
        {"event_id": 1, "window_size": 4096, "attention_dp_rank": 3, "layer_group_id": 1,
         "data": {"type": "stored", "parent_hash": null, "blocks": [block(u64::MAX, &[1, 2], 0)]}},
        {"event_id": 2, "data": {"type": "removed", "block_hashes": [u64::MAX, -1, "ff00000000000000002a"]}},
    ]);
    let events = decode(&poll);
    assert_eq!(events.iter().map(|e| e.event_id).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    assert_eq!(events.iter().map(|e| e.window_size).collect::<Vec<_>>(), [Some(4096), Some(4096), None]);
    assert_eq!(reasons(&events[0].batch.skipped), [SkipReason::NotABlock]);
    assert_eq!(events[1].batch.dp_rank, Some(3));
    let expected = BlockStored { group: 1, ..run(&[u64::MAX], None, &[1, 2], Some(Tier::Gpu)) };
    assert_eq!(events[1].batch.events, [KvEvent::Stored(expected)]);
    let block_hashes = vec![EngineHash(u64::MAX), EngineHash(u64::MAX), EngineHash(42)];
    let removed = BlockRemoved { block_hashes, tier: None, group: 0 };
    assert_eq!(events[2].batch.events, [KvEvent::Removed(removed)]);
}

#[test]
fn an_array_a_single_event_and_lines_read_the_same() {
    let first = stored(5, None, &[block(1, &[1, 2], 0)]);
    let second = stored(6, Some(1), &[block(2, &[3, 4], 0)]);
    let array = decode(&json!([first, second]));
    let lines = format!("{first}\r\n\n{second}\n");
    assert_eq!(decode_trtllm(lines.as_bytes(), 2).unwrap(), array);
    let polls = format!("[{first}]\nnull\n[]\n[{second}]");
    assert_eq!(decode_trtllm(polls.as_bytes(), 2).unwrap(), array);
    assert_eq!(decode(&first), array[..1]);
    let spread = serde_json::to_string_pretty(&first).unwrap();
    assert_eq!(decode_trtllm(spread.as_bytes(), 2).unwrap(), array[..1]);
    for nothing in ["", " \n", "null", "[]"] {
        assert_eq!(decode_trtllm(nothing.as_bytes(), 2).unwrap(), []);
    }
}

#[test]
fn runs_split_by_tier_adapter_and_salt_and_stay_chained() {
    let mut salted = block(5, &[9, 10], 1);
    salted["cache_salt"] = json!("tenant-a");
    let mut adapted = block(6, &[11, 12], 1);
    adapted["lora_id"] = json!(7);
    let blocks = [
        block(1, &[1, 2], 0),
        block(2, &[3, 4], 0),
        block(3, &[5, 6], 1),
        block(4, &[7, 8], 2),
        salted,
        adapted,
    ];
    let (events, skipped) = decode_one(&stored(0, Some(9), &blocks));
    let salted =
        BlockStored { cache_salt: Some("tenant-a".into()), ..run(&[5], Some(4), &[9, 10], Some(Tier::Cpu)) };
    let adapter = EventLora { name: None, id: Some(7) };
    let adapted = BlockStored { lora: Some(adapter), ..run(&[6], Some(5), &[11, 12], Some(Tier::Cpu)) };
    let expected = [
        run(&[1, 2], Some(9), &[1, 2, 3, 4], Some(Tier::Gpu)),
        run(&[3], Some(2), &[5, 6], Some(Tier::Cpu)),
        run(&[4], Some(3), &[7, 8], None),
        salted,
        adapted,
    ];
    assert_eq!(events, expected.map(KvEvent::Stored));
    assert_eq!(skipped, []);
}

#[test]
fn a_block_that_cannot_match_a_prompt_ends_the_run() {
    let mut extra = block(2, &[3, 4], 0);
    extra["tokens"][1]["token_extra_id"] = json!(77);
    let mut digest = block(2, &[3, 4], 0);
    digest["tokens"][0]["token_id"] = json!("00ff");
    let mut multimodal = block(2, &[3, 4], 0);
    multimodal["mm_keys"] = json!([["00ff", 0]]);
    let partial = block(2, &[3], 0);
    let too_long = block(2, &[3, 4, 5], 0);
    for (bad, reason) in [
        (extra, SkipReason::NotABlock),
        (digest, SkipReason::NotABlock),
        (multimodal, SkipReason::NotABlock),
        (partial, SkipReason::NotABlock),
        (too_long, SkipReason::Malformed),
    ] {
        let blocks = [block(1, &[1, 2], 0), bad.clone(), block(3, &[5, 6], 0)];
        let (events, skipped) = decode_one(&stored(0, None, &blocks));
        assert_eq!(events, [KvEvent::Stored(run(&[1], None, &[1, 2], Some(Tier::Gpu)))], "{bad}");
        assert_eq!(reasons(&skipped), [reason], "{bad}");
        assert!(skipped[0].detail.starts_with("block 1 "), "{}", skipped[0].detail);
        let (events, skipped) = decode_one(&stored(0, None, &[bad]));
        assert_eq!((events.len(), skipped.len()), (0, 1));
    }
}

#[test]
fn a_move_is_stored_in_the_new_tier_before_it_leaves_the_old_one() {
    let moved = |old: u64, new: u64| {
        decode_one(&json!({"event_id": 0, "data": {"type": "updated", "block_hash": 8, "priority": null,
            "cache_level": {"type": "event_diff", "old_value": old, "new_value": new}}}))
    };
    let arrives = |tier| KvEvent::Stored(BlockStored { block_size: 0, ..run(&[8], None, &[], Some(tier)) });
    let leaves = |tier| {
        let block_hashes = vec![EngineHash(8)];
        KvEvent::Removed(BlockRemoved { block_hashes, tier: Some(tier), group: 0 })
    };
    assert_eq!(moved(0, 1), (vec![arrives(Tier::Cpu), leaves(Tier::Gpu)], vec![]));
    assert_eq!(moved(1, 0), (vec![arrives(Tier::Gpu), leaves(Tier::Cpu)], vec![]));
    // A remove from an unknown tier would clear the block everywhere, the new tier included.
    assert_eq!(moved(2, 0).0, [arrives(Tier::Gpu)]);
    assert_eq!(moved(1, 2).0, [leaves(Tier::Cpu)]);
    assert_eq!(reasons(&moved(1, 1).1), [SkipReason::NotABlock]);
    let priority = json!({"event_id": 0, "data": {"type": "updated", "block_hash": 8, "cache_level": null,
        "priority": {"type": "event_diff", "old_value": 1, "new_value": 2}}});
    assert_eq!(reasons(&decode_one(&priority).1), [SkipReason::NotABlock]);
}

#[test]
fn one_bad_event_costs_no_other() {
    let good = |id| stored(id, None, &[block(id + 1, &[1, 2], 0)]);
    let bad = [
        json!(17),
        json!({}),
        json!({"event_id": "x", "data": {"type": "removed", "block_hashes": []}}),
        json!({"event_id": 1}),
        json!({"event_id": 1, "data": 5}),
        json!({"event_id": 1, "data": {"block_hashes": []}}),
        json!({"event_id": 1, "data": {"type": "removed"}}),
        json!({"event_id": 1, "data": {"type": "removed", "block_hashes": [1.5]}}),
        json!({"event_id": 1, "data": {"type": "removed", "block_hashes": [""]}}),
        json!({"event_id": 1, "data": {"type": "removed", "block_hashes": ["0g"]}}),
        json!({"event_id": 1, "data": {"type": "removed", "block_hashes": ["ü"]}}),
        json!({"event_id": 1, "attention_dp_rank": -1, "data": {"type": "removed", "block_hashes": []}}),
        json!({"event_id": 1, "layer_group_id": "a", "data": {"type": "removed", "block_hashes": []}}),
        json!({"event_id": 1, "data": {"type": "stored", "parent_hash": null, "blocks": [{"block_hash": 1}]}}),
        stored(1, None, &[json!({"block_hash": 1, "cache_level": 0, "tokens": [{"token_id": -1}]})]),
        stored(
            1,
            None,
            &[json!({"block_hash": 1, "cache_level": 0, "tokens": [{"token_id": 4294967296u64}]})],
        ),
    ];
    for bad in bad {
        let events = decode(&json!([good(0), bad, good(2)]));
        assert_eq!(events.len(), 3, "{bad}");
        assert_eq!((events[0].batch.events.len(), events[2].batch.events.len()), (1, 1), "{bad}");
        assert_eq!(events[1].batch.events, [], "{bad}");
        assert_eq!(reasons(&events[1].batch.skipped), [SkipReason::Malformed], "{bad}");
        assert_eq!(events[1].batch.skipped[0].position, 1);
    }
    let unknown = json!({"event_id": 1, "data": {"type": "defragmented", "blocks": "?"}});
    assert_eq!(reasons(&decode_one(&unknown).1), [SkipReason::UnknownTag]);
}

#[test]
fn a_bad_line_costs_no_other_and_nothing_readable_is_an_error() {
    let good = stored(4, None, &[block(1, &[1, 2], 0)]);
    let events = decode_trtllm(format!("{{\"event_id\": 3, \n{good}\n]").as_bytes(), 2).unwrap();
    assert_eq!(events.iter().map(|e| e.event_id).collect::<Vec<_>>(), [None, Some(4), None]);
    assert_eq!(events[1].batch.events.len(), 1);
    for broken in [&b"nothing"[..], b"[", b"[{\"event_id\": 1}, \n", b"\xff\xfe", b"{}]"] {
        assert_eq!(decode_trtllm(broken, 2).unwrap_err().kind(), ErrorKind::Decode);
    }
    assert_eq!(decode_trtllm(b"[]", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn nesting_and_a_flood_of_bad_events_are_harmless() {
    for open in ["[", "{\"a\":"] {
        assert!(decode_trtllm(open.repeat(100_000).as_bytes(), 2).is_err());
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let events =
        decode_trtllm(format!("[{deep}, {{\"event_id\": 1, \"data\": {deep}}}]").as_bytes(), 2).unwrap();
    assert_eq!(events.iter().map(|e| e.event_id).collect::<Vec<_>>(), [None, Some(1)]);
    let flood = format!("[{}1]", "1,".repeat(200_000));
    let events = decode_trtllm(flood.as_bytes(), 2).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].batch.skipped.len(), 1025);
    assert_eq!(events[0].batch.skipped[1024].detail, "198977 more from here on, not listed");
}
