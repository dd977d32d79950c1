"""What a router knows, to bytes and files and back."""

from __future__ import annotations

import io
import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from test_explanations import conforms

import kvroute
from kvroute import BlockHasher, BlockRemoved, BlockStored, CacheDomain, PodId, Router, status

PROMPT = list(range(9))


@pytest.fixture
def file(router: Router, a: PodId) -> bytes:
    """The snapshot of a router whose pod a holds two blocks, and that sent a request there."""
    router.apply_events(a, [BlockStored([1, 2], token_ids=PROMPT[:8], block_size=4)])
    dispatch = router.dispatch(PROMPT, session="alice", now=1000)
    router.finish(dispatch)
    return router.snapshot(now=1000)


@pytest.fixture
def successor(domain: CacheDomain) -> Router:
    """It knows the cache domain and no pods."""
    router = Router()
    router.add_domain(domain)
    return router


class Trickle(io.RawIOBase):
    """A raw file that takes and gives seven bytes at a time."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = bytearray(content)

    def write(self, data: Any) -> int:
        self.content += data[:7]
        return len(data[:7])

    def read(self, size: int = -1) -> bytes:
        piece, self.content = self.content[:7], self.content[7:]
        return bytes(piece)


def test_a_router_goes_on_where_another_stopped(
    router: Router, file: bytes, successor: Router
) -> None:
    report = successor.restore(file, now=1)
    conforms(report, status.RestoreReport, "report")
    assert [pod["name"] for pod in report["pods"]] == ["a", "b"]
    assert all(pod["added"] and pod["refusal"] is None for pod in report["pods"])
    assert report["pods"][0]["blocks"] == {"held": 2, "predicted": 2, "refused": 0}
    assert (report["sessions"], report["sessions_left_out"]) == (1, 0)
    before = router.decide(PROMPT, session="alice", now=1000)
    after = successor.decide(PROMPT, session="alice", now=1)
    assert (after.pod, after.total) == (before.pod, before.total) == ("a", after.total)
    assert after.matched_tokens == before.matched_tokens == 8
    again = successor.restore(file, now=1)
    conforms(again, status.RestoreReport, "report")
    assert again["pods"][0]["refusal"] == "in-use" and again["pods"][0]["blocks"] is None


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, io.BytesIO, Trickle])
def test_snapshots_are_read_from_bytes_and_files(form: Any, file: bytes, successor: Router) -> None:
    assert successor.restore(form(file), now=1)["sessions"] == 1
    assert successor.pod("a") is not None


def test_files_are_written_as_bytes_are(router: Router, file: bytes, tmp_path: Path) -> None:
    path, trickle, memory = tmp_path / "snapshot", Trickle(), io.BytesIO()
    with path.open("wb") as out:
        router.write_snapshot(out, now=1000)
    router.write_snapshot(trickle, now=1000)
    router.write_snapshot(memory, now=1000)
    assert path.read_bytes() == trickle.content == memory.getvalue() == file
    with path.open("rb") as back:
        assert Router().restore(back)["pods"][0]["refusal"] == "unknown-domain"


def test_what_is_not_whole_changes_nothing(file: bytes, successor: Router) -> None:
    damaged = bytearray(file)
    damaged[len(file) // 2] ^= 1
    for wrong in [b"", b"a text that is none", file[:-1], bytes(damaged), file + file[:1]]:
        for form in (wrong, io.BytesIO(wrong)):
            with pytest.raises(kvroute.DecodeError, match="snapshot, byte"):
                successor.restore(form)
    assert successor.pods() == []


@pytest.mark.parametrize("wrong", [None, 7, "text", io.StringIO("text"), object()])
def test_what_holds_no_bytes_is_refused(wrong: Any, successor: Router) -> None:
    with pytest.raises(TypeError):
        successor.restore(wrong)


@pytest.mark.parametrize("wrong", [None, 7, "text", io.StringIO(), io.BufferedReader(io.BytesIO())])
def test_what_takes_no_bytes_is_refused(wrong: Any, router: Router) -> None:
    with pytest.raises((TypeError, io.UnsupportedOperation)):
        router.write_snapshot(wrong)


class Doing(io.RawIOBase):
    """A file that does something whenever it is used."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def write(self, data: Any) -> Any:
        return self.what()

    def read(self, size: int = -1) -> Any:
        return self.what()


def test_files_that_fail_end_it(router: Router, successor: Router) -> None:
    def full() -> int:
        raise OSError("the disk is full")

    for call in (router.write_snapshot, successor.restore):
        with pytest.raises(OSError, match="full"):
            call(Doing(full))
    with pytest.raises(OSError, match="takes no more"):
        router.write_snapshot(Doing(lambda: 0))


def test_a_router_may_be_used_by_the_file_that_it_is_written_to(router: Router) -> None:
    router.write_snapshot(Doing(lambda: router.dispatch(PROMPT) and None))
    assert router.counters()["in_flight"] == 1


def test_a_reset_ends_it(router: Router) -> None:
    pods = [router.add_pod(f"pod-{n}", domain="m") for n in range(8)]
    for pod in pods:
        blocks = range(40_000)
        router.apply_events(
            pod, [BlockStored(blocks, token_ids=[pod % 999] * 160_000, block_size=4)]
        )
    with pytest.raises(kvroute.InvalidInputError, match="reset"):
        router.write_snapshot(Doing(router.reset))


@pytest.mark.parametrize("method", ["snapshot", "write_snapshot", "restore"])
def test_times_that_are_none_are_refused(method: str, router: Router) -> None:
    arguments = [] if method == "snapshot" else [io.BytesIO()]
    with pytest.raises(kvroute.InvalidInputError, match="now"):
        getattr(router, method)(*arguments, now=-1)


def test_snapshots_are_taken_and_restored_while_others_use_the_router() -> None:
    router, domain = Router(), CacheDomain("m", BlockHasher.own(4))
    pods = [router.add_pod(f"pod-{number}", domain=domain) for number in range(4)]
    done = threading.Event()

    def use(number: int) -> None:
        for sequence in itertools.count():
            if done.is_set():
                return
            # The same blocks again and again, so that the router does not grow.
            start = sequence % 20 * 10
            ids = range(number * 1000 + start, number * 1000 + start + 45)
            stored = BlockStored(range(start, start + 10), token_ids=ids[:40], block_size=4)
            router.apply_events(pods[number], [stored])
            router.finish(router.dispatch(ids))
            router.apply_events(pods[number], [BlockRemoved(range(start, start + 10))])

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            successor = Router()
            successor.add_domain(domain)
            report = successor.restore(router.snapshot())
            assert [pod["refusal"] for pod in report["pods"]] == [None] * 4
    finally:
        done.set()
        for thread in threads:
            thread.join()
