"""Typed events, and what the decoders make of bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from packing import stored_batch

import kvroute
from kvroute import (
    AllBlocksCleared,
    BlockRemoved,
    BlockStored,
    EventBatch,
    PodId,
    Router,
    decode_batch,
    decode_trtllm,
)
from kvroute.types import Event


def test_events_say_what_they_were_made_of() -> None:
    stored = BlockStored(
        [1, -1, 2**64 - 1],
        parent=b"\0" * 24 + (7).to_bytes(8, "big"),
        token_ids=range(12),
        block_size=4,
        tier=None,
        lora_name="sql",
        lora_id=3,
        extra_keys=[["salt", ("image", -2)], [], [b"key"]],
        cache_salt="tenant",
        group=1,
        group_kind={"sliding-window": {"window": 128}},
        bigrams=True,
    )
    assert stored.block_hashes.tolist() == [1, 2**64 - 1, 2**64 - 1]
    assert stored.block_hashes.dtype == np.uint64
    assert stored.token_ids.tolist() == list(range(12))
    assert stored.token_ids.dtype == np.uint32
    assert (stored.parent, stored.block_size, stored.tier) == (7, 4, None)
    assert (stored.lora_name, stored.lora_id, stored.cache_salt) == ("sql", 3, "tenant")
    assert stored.extra_keys == [["salt", ("image", -2)], [], [b"key"]]
    assert (stored.group, stored.group_kind) == (1, {"sliding-window": {"window": 128}})
    assert stored.bigrams
    removed = BlockRemoved(np.array([5, 6], np.uint64), tier="cpu", group=2)
    assert (removed.block_hashes.tolist(), removed.tier, removed.group) == (
        [5, 6],
        "cpu",
        2,
    )
    assert repr(removed) == "BlockRemoved([5, 6], tier='cpu')"
    assert repr(stored) == (
        "BlockStored([1, 18446744073709551615, 18446744073709551615], parent=7, "
        "token_ids=[0, 1, 2, 3, ... 12 in all], block_size=4, tier=None)"
    )


def test_equal_events_are_equal() -> None:
    def stored(token: int) -> BlockStored:
        return BlockStored([1], token_ids=[token], block_size=1)

    assert stored(1) == stored(1) != stored(2)
    assert AllBlocksCleared() == AllBlocksCleared()
    assert EventBatch([stored(1)]) == EventBatch([stored(1)]) != EventBatch([stored(1)], dp_rank=1)
    assert BlockRemoved([1]) != AllBlocksCleared()


def test_a_batch_is_applied_in_its_order(router: Router, a: PodId) -> None:
    events: list[Event] = [
        BlockStored([1, 2], token_ids=range(8), block_size=4),
        BlockRemoved([2]),
    ]
    batch = EventBatch(events, dp_rank=0, timestamp=1.5)
    assert (batch.events, batch.dp_rank, batch.timestamp) == (events, 0, 1.5)
    report = router.apply_events(a, batch)
    assert (report.outcome, report.reason, report.replay_from) == (
        "applied",
        None,
        None,
    )
    assert (report.events, report.blocks_stored, report.blocks_removed) == (2, 2, 1)
    assert repr(report) == "ApplyReport('applied', events=2, blocks_stored=2, blocks_removed=1)"
    assert router.decide(range(9)).matched.total == 1
    assert router.apply_events(a, events[::-1]).events == 2, "a sequence will do"


def test_what_is_left_out_is_counted_by_reason(router: Router, a: PodId) -> None:
    wrong_size = BlockStored([1], token_ids=range(8), block_size=8)
    report = router.apply_events(a, [wrong_size, wrong_size])
    assert (report.outcome, report.reason) == ("ignored", "block-size")
    assert report.ignored == {"block-size": 2}
    assert router.stream(a)["ignored"] == {"block-size": 2}
    orphan = BlockStored([9], token_ids=range(4), block_size=4, parent=8)
    assert router.apply_events(a, [orphan]).outcome == "parked"


def test_a_gap_is_answered_with_where_to_replay_from(
    domain: kvroute.CacheDomain,
) -> None:
    router = Router()
    pod = router.add_pod("a", domain=domain, events={"on_gap": "replay"})
    first = stored_batch([1], range(4), 4)
    assert router.apply(pod, 0, first).outcome == "applied"
    assert router.apply(pod, 0, first).reason == "duplicate"
    report = router.apply(pod, 5, first)
    assert (report.outcome, report.reason, report.replay_from) == ("resync", "gap", 0)
    assert "replay_from=0" in repr(report)
    router.abandon_gap(pod, 5)
    assert router.apply(pod, 5, first).outcome == "applied"


def test_a_topic_names_the_pod(router: Router) -> None:
    payload = stored_batch([1, 2], range(8), 4)
    assert router.apply_topic("kv@a@llama", 0, payload).blocks_stored == 2
    with pytest.raises(kvroute.UnknownPodError, match="names no pod of rank 0"):
        router.apply_topic("kv@z@llama", 0, payload)
    with pytest.raises(kvroute.InvalidInputError, match="kv@<pod>@<model>"):
        router.apply_topic("events", 0, payload)


def test_published_bytes_are_decoded(router: Router, a: PodId) -> None:
    payload = stored_batch([1, 2], range(8), 4)
    batch = decode_batch(payload)
    assert batch.events == [BlockStored([1, 2], token_ids=range(8), block_size=4)]
    assert (batch.skipped, batch.dp_rank) == ([], 0)
    assert router.apply_events(a, batch).blocks_stored == 2
    unknown = b"\x93\xcb" + bytes(8) + b"\x91\x91\xa3odd\x00"
    (skipped,) = decode_batch(unknown).skipped
    assert (skipped.position, skipped.reason) == (0, "unknown-tag")
    assert "odd" in skipped.detail and "odd" in repr(skipped)
    assert router.apply(a, 0, unknown).skipped == [skipped]


def test_tensorrt_llm_polls_are_decoded(router: Router, a: PodId) -> None:
    block = {
        "type": "stored_block",
        "block_hash": 11,
        "tokens": [{"token_id": token, "token_extra_id": 0} for token in range(4)],
        "cache_level": 0,
        "lora_id": None,
        "priority": 35,
    }
    poll = [
        {
            "event_id": 5,
            "window_size": 4096,
            "data": {"type": "stored", "parent_hash": None, "blocks": [block]},
        },
        {"event_id": 6, "data": {"type": "removed", "block_hashes": [11]}},
    ]
    stored, removed = decode_trtllm(json.dumps(poll), block_size=4)
    assert (stored.event_id, stored.window_size, removed.window_size) == (5, 4096, None)
    assert stored.batch.events == [BlockStored([11], token_ids=range(4), block_size=4)]
    assert removed.batch.events == [BlockRemoved([11], tier=None)]
    assert router.apply_events(a, stored.batch).blocks_stored == 1
    assert decode_trtllm(b" ", block_size=4) == []
    with pytest.raises(kvroute.DecodeError):
        decode_trtllm(b"\xff\xfe", block_size=4)


def test_a_poll_of_numbered_events_tells_lost_ones(router: Router, a: PodId) -> None:
    def poll(event_id: int, name: int, first: int, rank: int = 0) -> bytes:
        block = {
            "block_hash": name,
            "cache_level": 0,
            "tokens": [{"token_id": first + at} for at in range(4)],
        }
        data = {"type": "stored", "parent_hash": None, "blocks": [block]}
        return json.dumps(
            [{"event_id": event_id, "attention_dp_rank": rank, "window_size": 64, "data": data}]
        ).encode()

    assert router.apply_trtllm(a, poll(0, 1, 100)).blocks_stored == 1
    assert router.apply_trtllm(a, poll(1, 2, 200, rank=3)).blocks_stored == 0, "another rank's"
    assert router.apply_trtllm(a, poll(1, 3, 300), window_size=32).blocks_stored == 0
    assert router.stream(a)["gaps"] == 0
    assert router.apply_trtllm(a, poll(9, 4, 400)).blocks_stored == 1
    assert router.stream(a)["gaps"] == 1
    as_text = poll(10, 5, 500).decode()
    assert router.apply_trtllm(a, as_text, window_size=0).blocks_stored == 1, "0 is any window"
    with pytest.raises(kvroute.DecodeError):
        router.apply_trtllm(a, b"not json")
