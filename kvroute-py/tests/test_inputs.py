"""What is wrong with an argument is said by name, place and value, and changes nothing."""

from __future__ import annotations

import array
import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from packing import stored_batch

import kvroute
from kvroute import (
    BlockRemoved,
    BlockStored,
    InvalidInputError,
    KvrouteError,
    PodId,
    Router,
    Ticket,
    UnknownPodError,
)

GONE = PodId(2**64 - 1)


@pytest.mark.parametrize(
    ("token_ids", "message"),
    [
        ([1, -2], r"token_ids\[1\]: -2 is not in 0\.\.=4294967295"),
        ([2**32], r"token_ids\[0\]: 4294967296 is not in"),
        ([1, 10**5000], r"token_ids\[1\]: a number beyond all bounds is not in"),
        ([1, 10**60], r"token_ids\[1\]: 10000000000000.*\.\.\. is not in"),
        (
            np.zeros((2, 2), np.uint32),
            r"token_ids: an array of shape \[2, 2\]; one dimension",
        ),
        (np.zeros((), np.uint32), r"token_ids: an array of shape \[\]; one dimension"),
    ],
)
def test_token_ids_out_of_range_are_refused(router: Router, token_ids: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        router.decide(token_ids)
    with pytest.raises(InvalidInputError, match=message):
        kvroute.BlockHasher.own(4).hash(token_ids)


@pytest.mark.parametrize(
    ("token_ids", "message"),
    [
        ([1, 2.0], r"token_ids\[1\]: expected an int, found float"),
        ([True], r"token_ids\[0\]: expected an int, found bool"),
        ([1, None], r"token_ids\[1\]: expected an int, found NoneType"),
        ([[1], [2]], r"token_ids\[0\]: expected an int, found list"),
        (
            b"abc",
            r"token_ids: expected a sequence of ints or a numpy array, found bytes",
        ),
        (bytearray(b"abc"), "found bytearray"),
        ("abc", "found str"),
        ({1, 2}, "found set"),
        ((n for n in range(3)), "found generator"),
        (7, "found int"),
        (np.uint32(7), "found uint32"),
        (
            np.arange(4),
            r"token_ids: an array of int64; uint32 is needed \(`astype\(numpy.uint32\)`\)",
        ),
        (np.zeros(4, ">u4"), "an array of >u4; uint32 is needed"),
        (np.zeros(4, np.float32), "an array of float32; uint32 is needed"),
        (np.zeros(4, np.bool_), "an array of bool; uint32 is needed"),
        (np.zeros(2, object), "an array of object; uint32 is needed"),
    ],
)
def test_token_ids_of_a_wrong_type_are_a_type_error(
    router: Router, token_ids: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        router.decide(token_ids)


def test_every_sequence_of_ints_is_the_same_prompt() -> None:
    hasher = kvroute.BlockHasher.own(4)
    ids = list(range(100))
    expected = hasher.hash(ids).tolist()
    wide = np.zeros((100, 2), np.uint32)
    wide[:, 0] = ids
    unaligned = np.frombuffer(b"\0" + np.array(ids, np.uint32).tobytes(), np.uint32, offset=1)
    same: list[Any] = [
        tuple(ids),
        range(100),
        array.array("I", ids),
        [np.int64(n) for n in ids],
        np.array(ids, np.uint32),
        np.array(ids, "<u4"),
        wide[:, 0],
        np.array(ids[::-1], np.uint32)[::-1],
        unaligned,
    ]
    for token_ids in same:
        assert hasher.hash(token_ids).tolist() == expected, token_ids


def test_an_array_is_copied_and_not_held(router: Router) -> None:
    ids = np.arange(4096, dtype=np.uint32)
    before = kvroute.BlockHasher.own(4).hash(ids)
    router.dispatch(ids)
    ids[:] = 0
    ids.resize(1, refcheck=False)
    assert router.lookup("m", range(4096))[0].predicted == 1023
    assert not np.array_equal(before, kvroute.BlockHasher.own(4).hash(np.zeros(4096, np.uint32)))


@pytest.mark.parametrize("now", [-1, -1e-9, math.nan, math.inf, -math.inf, 2.0**64, 10**400])
def test_times_that_are_none_are_refused(router: Router, now: float) -> None:
    for call in (
        lambda: router.decide([1], now=now),
        lambda: router.dispatch([1], now=now),
        lambda: router.expire(now),
        lambda: router.session_token(router.decide([1]), now),
    ):
        with pytest.raises(InvalidInputError, match="now: .* is not a time"):
            call()
    for wrong in ("1", True, [1]):
        with pytest.raises(TypeError, match="now: expected seconds"):
            router.decide([1], now=wrong)  # type: ignore[arg-type]


def test_the_clock_never_goes_backwards(router: Router) -> None:
    ticket = router.dispatch([1, 2, 3]).ticket
    assert router.expire() == 0, "not 600 seconds later"
    assert router.finish(ticket)


def test_a_request_has_one_prompt_and_at_most_one_session(router: Router) -> None:
    with pytest.raises(InvalidInputError, match="token_ids, text: exactly one"):
        router.decide()
    with pytest.raises(InvalidInputError, match="token_ids, text: exactly one"):
        router.decide([1], text="a")
    with pytest.raises(InvalidInputError, match="session, session_token: only one"):
        router.decide([1], session="a", session_token="b")


def test_text_is_any_bytes_but_a_str_must_be_unicode(router: Router) -> None:
    assert router.decide(text="é").uncached_tokens == 1
    assert router.decide(text=b"\xff\xfe not UTF-8").candidates == 2
    assert router.decide(text=bytearray(b"a" * 5000)).uncached_tokens == 1250
    for call in (
        lambda: router.decide(text="\ud800"),
        lambda: router.decide([1], session="\ud800"),
        lambda: router.decide([1], model="\ud800"),
        lambda: router.add_pod("\ud800", domain="m"),
        lambda: Router("\ud800"),
        lambda: router.add_pod("x", domain="m", labels={"a": "\ud800"}),
        lambda: router.add_pod("x", domain="m", labels={"\ud800": "a"}),
        lambda: router.pod("\ud800"),
        lambda: router.domain("\ud800"),
        lambda: kvroute.check_config("\ud800"),
        lambda: kvroute.Lora("\ud800"),
        lambda: kvroute.CacheDomain("x", kvroute.BlockHasher.own(4), models=["\ud800"]),
        lambda: BlockStored([1], token_ids=[], block_size=4, extra_keys=[[("\ud800", 0)]]),
    ):
        with pytest.raises(InvalidInputError, match="not Unicode text"):
            call()
    with pytest.raises(
        TypeError, match="text: expected str, bytes, bytearray or memoryview, found"
    ):
        router.decide(text=7)  # type: ignore[arg-type]


def test_payloads_are_bytes(router: Router, a: PodId) -> None:
    for payload in ("text", [1], None):
        with pytest.raises(TypeError, match="payload: expected bytes, bytearray or memoryview"):
            router.apply(a, 0, payload)  # type: ignore[arg-type]
    report = router.apply(a, 0, bytearray(b"\xc1"))
    assert (report.outcome, report.reason) == ("resync", "undecodable")
    assert report.error


def test_memoryviews_are_copied_as_they_are(router: Router, a: PodId) -> None:
    payload = stored_batch([1, 2], range(8), 4)
    spread = bytearray(2 * len(payload))
    spread[::2] = payload
    for view in (memoryview(payload), memoryview(spread)[::2], memoryview(payload).cast("b")):
        assert kvroute.decode_batch(view) == kvroute.decode_batch(payload)
    assert router.apply(a, 0, memoryview(payload)).blocks_stored == 2
    assert router.apply_topic("kv@b@m", 0, memoryview(payload)).blocks_stored == 2
    assert router.apply_trtllm(a, memoryview(b"[]")).blocks_stored == 0
    assert kvroute.decode_trtllm(memoryview(b"[]"), block_size=4) == []
    assert router.decide(text=memoryview(b"a" * 5000)).uncached_tokens == 1250
    released = memoryview(payload)
    released.release()
    for call in (
        lambda: router.apply(a, 1, released),
        lambda: router.decide(text=released),
    ):
        with pytest.raises(InvalidInputError, match="released memoryview"):
            call()


def test_scores_may_change_while_they_are_read(router: Router, a: PodId) -> None:
    scores: dict[str, dict[Any, Any]] = {"queue": {}, "other": {}}

    class Meddler:
        def __index__(self) -> int:
            scores["queue"].clear()
            scores["new"] = {}
            return int(a)

        def __float__(self) -> float:
            scores["queue"][7] = 0.5
            scores.pop("other", None)
            return 0.5

    scores["queue"] = {Meddler(): 0.5, int(a): Meddler()}
    for _ in range(2):
        try:
            router.decide([1], scores=scores)
        except KvrouteError:
            pass
        scores = {"queue": {int(a): Meddler()}, "other": {}}
    wrong: list[tuple[Any, str]] = [
        ({"queue": {a: True}}, r'scores\["queue"\]: expected a float, found bool'),
        ({"queue": {a: "1"}}, r'scores\["queue"\]: expected a float, found str'),
        ({"queue": {True: 1.0}}, r'scores\["queue"\]: expected an int, found bool'),
        ({"queue": [1.0]}, r'scores\["queue"\]: expected a dict'),
        ({7: {}}, "scores: expected names of scorers"),
    ]
    for given, message in wrong:
        with pytest.raises(TypeError, match=message):
            router.decide([1], scores=given)


def test_numbers_of_either_sign_are_no_bools_and_have_64_bits(router: Router, a: PodId) -> None:
    def stored(lora_id: int) -> BlockStored:
        return BlockStored([1], token_ids=[], block_size=4, lora_id=lora_id)

    def keyed(offset: int) -> BlockStored:
        return BlockStored([1], token_ids=[], block_size=4, extra_keys=[[("x", offset)]])

    for number in (-(2**63), -1, 0, 2**63 - 1):
        assert kvroute.Lora("a", id=number).id == number
        assert stored(number).lora_id == number
        assert keyed(number).extra_keys == [[("x", number)]]
    for call in (lambda id: kvroute.Lora("a", id=id), stored, keyed):
        for number in (2**70, 2**63, -(2**63) - 1):
            with pytest.raises(InvalidInputError, match="is not in -9223372036854775808"):
                call(number)
        others: list[Any] = [True, 1.0, "1"]
        for wrong in others:
            with pytest.raises(TypeError, match="expected an int, found"):
                call(wrong)
    with pytest.raises(TypeError, match="labels: expected names and values as str, found int"):
        router.add_pod("x", domain="m", labels={"a": 1})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="kv_usage: expected a float, found bool"):
        router.report_load(a, running=0, waiting=0, kv_usage=True)
    with pytest.raises(InvalidInputError):
        router.report_load(a, running=0, waiting=0, kv_usage=10**400)


@pytest.mark.parametrize(
    "payload", [b"", b"\xdd\xff\xff\xff\xff", b"\x93\xc0" * 5000, b"\xff" * 9999]
)
def test_payloads_of_nonsense_are_reported_and_counted(
    router: Router, a: PodId, payload: bytes
) -> None:
    assert router.apply(a, 0, payload).outcome == "resync"
    assert router.stream(a)["resyncs"] == 1
    with pytest.raises(kvroute.DecodeError):
        kvroute.decode_batch(payload)


def test_numbers_out_of_range_are_refused(router: Router, a: PodId) -> None:
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: router.apply(a, -1, b""), "sequence: -1 is not in"),
        (
            lambda: router.apply(a, 2**64, b""),
            "sequence: 18446744073709551616 is not in",
        ),
        (lambda: router.apply(PodId(-1), 0, b""), "pod: -1 is not in"),
        (lambda: router.decide([1], nonce=-1), "nonce: -1 is not in"),
        (lambda: router.finish(Ticket(-1)), "ticket: -1 is not in"),
        (
            lambda: router.finish(Ticket(1), engine_cached_tokens=-1),
            "engine_cached_tokens: -1",
        ),
        (lambda: router.add_pod("x", domain="m", dp_rank=-1), "dp_rank: -1 is not in"),
        (
            lambda: router.report_load(a, running=-1, waiting=0, kv_usage=0),
            "running: -1",
        ),
        (
            lambda: router.report_load(a, running=0, waiting=2**32, kv_usage=0),
            "waiting: 4294967296",
        ),
        (
            lambda: router.report_load(a, running=0, waiting=0, kv_usage=math.nan),
            "not NaN",
        ),
        (lambda: router.report_load(a, running=0, waiting=0, kv_usage=1.5), "not 1.5"),
        (
            lambda: BlockStored([1], token_ids=[1], block_size=-4),
            "block_size: -4 is not in",
        ),
        (
            lambda: BlockStored([2**64], token_ids=[1], block_size=1),
            r"block_hashes\[0\]: 184467",
        ),
        (
            lambda: BlockStored([b""], token_ids=[1], block_size=1),
            "empty bytes name no block",
        ),
        (
            lambda: kvroute.EventBatch([], timestamp=math.nan),
            "timestamp: nan is not a time",
        ),
        (lambda: kvroute.decode_trtllm("[]", block_size=0), "block_size is 0"),
    ]
    for call, message in wrong:
        with pytest.raises(InvalidInputError, match=message):
            call()


def test_names_that_are_none_are_refused_with_those_that_are(router: Router, a: PodId) -> None:
    ticket = router.dispatch([1]).ticket
    with pytest.raises(InvalidInputError, match='how: "done" is none of completed, failed, cancel'):
        router.finish(ticket, "done")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match='role: "leader" is none of prefill, decode, both'):
        router.add_pod("x", domain="m", role="leader")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match='tier: "tape" is none of gpu, cpu, disk, external'):
        BlockRemoved([1], tier="tape")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="group_kind: unknown variant"):
        BlockStored([1], token_ids=[], block_size=0, group_kind="x")  # type: ignore[arg-type]
    misspelt: Any = {"on_gaps": "clear"}
    with pytest.raises(InvalidInputError, match="events: unknown field `on_gaps`"):
        router.add_pod("x", domain="m", events=misspelt)
    with pytest.raises(TypeError, match=r"events\[0\]: expected BlockStored"):
        router.apply_events(a, [7])  # type: ignore[list-item]
    assert router.finish(ticket), "still in flight"
    assert len(router.pods()) == 2


def test_pods_that_are_not_there_are_a_lookup_error(router: Router, a: PodId) -> None:
    router.remove_pod(a)
    calls: list[Callable[[PodId], object]] = [
        router.remove_pod,
        router.trust,
        router.stream,
        router.forget_load,
        router.forget_predictions,
        lambda pod: router.apply(pod, 0, b""),
        lambda pod: router.apply_events(pod, []),
        lambda pod: router.abandon_gap(pod, 0),
        lambda pod: router.set_accepting(pod, False),
        lambda pod: router.report_load(pod, running=0, waiting=0, kv_usage=0),
    ]
    for call in calls:
        for gone in (a, GONE, PodId(0)):
            with pytest.raises(UnknownPodError, match="no pod has the id") as caught:
                call(gone)
            assert isinstance(caught.value, LookupError)
    with pytest.raises(UnknownPodError, match='cache domain "q" is not in this router'):
        router.add_pod("x", domain="q")
    with pytest.raises(UnknownPodError):
        router.lookup("q", [1])
    assert router.pod("a") is None
    assert router.domain("q") is None


def test_tickets_that_name_nothing_do_nothing(router: Router) -> None:
    for ticket in (Ticket(0), Ticket(2**64 - 1)):
        assert not router.first_token(ticket)
        assert not router.finish(ticket)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"index": {"shrads": 64}},
            "index: unknown key `shrads`; did you mean `shards`",
        ),
        ({"domains": {"m": {"block_size": 0}}}, "domains.m.block_size: found `0`"),
        (
            {"pods": [{"name": "a", "domain": "m"}]},
            r"pods\[0\].domain: unknown domain `m`",
        ),
        ("index: {shards: many}", "index.shards: found `many`"),
        ("", "an empty document"),
        ({"index": {"shards": math.nan}}, "config: Out of range float values"),
        ({"index": object()}, "config: Object of type object is not JSON serializable"),
    ],
)
def test_configurations_say_where_they_are_wrong(config: Any, message: str) -> None:
    for read in (Router, kvroute.check_config):
        with pytest.raises(InvalidInputError, match=message):
            read(config)


def test_configurations_are_dicts_or_documents() -> None:
    wrong: list[Any] = [7, [], b"{}"]
    for config in wrong:
        for read in (Router, kvroute.check_config):
            with pytest.raises(TypeError, match="config: expected a dict"):
                read(config)
    kvroute.check_config({"index": {"shards": 64}})
    kvroute.check_config("index: {shards: 64}")
    recursive: dict[str, Any] = {}
    recursive["index"] = recursive
    with pytest.raises(InvalidInputError, match="config: Circular reference"):
        Router(recursive)  # type: ignore[arg-type]


def test_a_panic_is_an_exception_like_others() -> None:
    from kvroute import _kvroute

    for detached in (False, True):
        with pytest.raises(
            kvroute.InternalError, match="kvroute panicked: asked for; this is a bug"
        ):
            _kvroute._panic(detached=detached)
    assert issubclass(kvroute.InternalError, KvrouteError)
    assert not issubclass(KvrouteError, ValueError)
    assert issubclass(InvalidInputError, ValueError)


def test_nothing_can_be_pickled_or_changed(router: Router, domain: kvroute.CacheDomain) -> None:
    decision = router.decide([1, 2, 3], explain=True)
    for thing in (
        router,
        domain,
        decision,
        decision.explanation,
        kvroute.HashContext(),
    ):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot pickle"):
            copy.deepcopy(thing)
        with pytest.raises(AttributeError):
            thing.colour = 1  # type: ignore[union-attr]
    with pytest.raises(AttributeError):
        decision.pod = "b"  # type: ignore[misc]
