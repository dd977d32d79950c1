"""One router under many threads and tasks, and what the GIL is released for."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from packing import stored_batch

from kvroute import BlockHasher, CacheDomain, NoCandidateError, PodId, Router
from kvroute.config import Config

THREADS = 8


def in_threads(work: Callable[[int], object], count: int = THREADS) -> None:
    """Runs ``work(0)`` to ``work(count - 1)`` at once; what one raises is raised."""
    start = threading.Barrier(count)

    def one(number: int) -> object:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(one, number) for number in range(count)]:
            done.result(timeout=60)


def fleet(router: Router, pods: int = THREADS) -> list[PodId]:
    domain = CacheDomain("m", BlockHasher.own(4))
    return [router.add_pod(f"pod-{number}", domain=domain) for number in range(pods)]


def prompt(number: int, tokens: int = 400) -> list[int]:
    return [number * 1000 + token for token in range(tokens)]


def test_what_many_threads_apply_and_dispatch_adds_up() -> None:
    router = Router()
    pods = fleet(router)

    def work(number: int) -> None:
        random_of_mine = random.Random(number)
        for sequence in range(50):
            ids = prompt(number * 50 + sequence)
            names = [number * 10_000 + sequence * 100 + block for block in range(100)]
            report = router.apply(pods[number], sequence, stored_batch(names, ids, 4))
            assert report.outcome == "applied" and report.blocks_stored == 100
            asked = random_of_mine.randrange(THREADS * 50)
            # Short prompts are decided under the GIL, long ones without it.
            tail = [7] * random_of_mine.choice([0, 5000])
            dispatch = router.dispatch(prompt(asked) + tail, explain=sequence % 10 == 0)
            assert dispatch.decision.candidates == THREADS
            assert dispatch.decision.matched.total in (0, 99, 100)
            assert router.first_token(dispatch.ticket)
            assert router.finish(dispatch.ticket)

    in_threads(work)
    assert router.counters()["in_flight"] == 0
    assert all(pod.booked_requests == pod.booked_prefill_tokens == 0 for pod in router.pods())
    assert router.status()["index"]["blocks"] == THREADS * 50 * 100
    for number in range(THREADS * 50):
        held = [m.pod for m in router.lookup("m", prompt(number)) if m.blocks.total == 99]
        assert held == [f"pod-{number // 50}"]


def test_equal_requests_are_decided_equally_in_every_thread() -> None:
    router = Router()
    fleet(router)
    prompts = [prompt(number, 40 + number * 97) for number in range(60)]
    expected = [router.decide(ids, now=1).pod for ids in prompts]

    def work(number: int) -> None:
        order = list(range(len(prompts)))
        random.Random(number).shuffle(order)
        for at in order:
            decision = router.decide(np.array(prompts[at], np.uint32), now=1, explain=True)
            assert decision.pod == expected[at]
            assert decision.explanation is not None
            assert decision.explanation.prompt_tokens == len(prompts[at])

    in_threads(work)


def test_pods_come_and_go_under_requests() -> None:
    router = Router()
    first, *_ = fleet(router)
    domain = CacheDomain("m", BlockHasher.own(4))
    stop = threading.Event()

    def come_and_go() -> None:
        for number in range(300):
            pod = router.add_pod(f"guest-{number % 3}", domain=domain)
            router.remove_pod(pod)
            if number % 50 == 0:
                router.reset()
        stop.set()

    def ask() -> None:
        while not stop.is_set():
            dispatch = router.dispatch(prompt(1, random.choice([10, 5000])))
            assert dispatch.decision.pod.startswith(("pod-", "guest-"))
            router.finish(dispatch.ticket, "cancelled")

    in_threads(lambda number: come_and_go() if number == 0 else ask(), 4)
    assert len(router.pods()) == THREADS
    assert router.counters()["in_flight"] == 0
    assert first not in {pod.id for pod in router.pods()}, "after a reset pods are new ones"


def test_policies_are_replaced_under_requests() -> None:
    # Each names another number of the next best pods.
    policies: list[Config] = [
        {"policy": {"decode": {"scorers": {"load": {"weight": 1}}}}},
        {"policy": {"decode": {"fallbacks": 1, "scorers": {"cost": {"weight": 1}}}}},
        {"policy": {"decode": {"fallbacks": 2, "scorers": {"queue": {"weight": 1}}}}},
    ]
    scorers = ["load", "cost", "queue"]
    router = Router(policies[0])
    fleet(router, 3)
    stop = threading.Event()

    def replace() -> None:
        for number in range(300):
            router.set_policy(policies[number % 3])
        stop.set()

    def ask() -> None:
        while not stop.is_set():
            dispatch = router.dispatch(prompt(1, 20), explain=True)
            explanation = dispatch.decision.explanation
            assert explanation is not None
            scores = explanation.to_dict()["pods"][0]["scores"]
            (score,) = scores
            assert score["scorer"] == scorers[len(dispatch.decision.fallbacks)]
            assert router.finish(dispatch)

    in_threads(lambda number: replace() if number == 0 else ask(), 4)
    assert router.counters()["in_flight"] == 0


def test_tasks_share_a_router() -> None:
    router = Router()
    fleet(router)

    async def request(number: int) -> str:
        dispatch = router.dispatch(prompt(number % 7), session=f"session-{number % 7}")
        await asyncio.sleep(0)
        router.first_token(dispatch.ticket)
        await asyncio.to_thread(router.finish, dispatch.ticket, "completed")
        return dispatch.decision.pod

    async def main() -> list[str]:
        return await asyncio.gather(*(request(number) for number in range(200)))

    assert len(asyncio.run(main())) == 200
    counters = router.counters()
    assert (counters["in_flight"], counters["sessions"]) == (0, 7)


def longest_pause_beside(work: Callable[[], object]) -> tuple[float, float]:
    """How long ``work`` took in a thread, and the longest time this thread did not come to run meanwhile."""
    took = 0.0
    ended = threading.Event()

    def timed() -> None:
        nonlocal took
        begin = time.perf_counter()
        work()
        took = time.perf_counter() - begin
        ended.set()

    thread = threading.Thread(target=timed)
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while not ended.is_set():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    return took, max(longest, time.perf_counter() - last)


def long_hash() -> Callable[[], object]:
    hasher = BlockHasher.vllm(16, algorithm="sha256", version="0.32.0", python_hash_seed="0")
    ids = np.zeros(16_000_000, np.uint32)
    return lambda: hasher.hash(ids)


def long_decision() -> Callable[[], object]:
    router = Router()
    vllm = BlockHasher.vllm(16, algorithm="sha256", version="0.32.0", python_hash_seed="0")
    router.add_pod("a", domain=CacheDomain("native", vllm))
    ids = np.zeros(16_000_000, np.uint32)
    return lambda: router.decide(ids)


def long_apply() -> Callable[[], object]:
    router = Router()
    pod = router.add_pod("a", domain=CacheDomain("m", BlockHasher.own(1)))
    size = 2_000_000
    ids = np.arange(size, dtype=np.uint32)
    payload = stored_batch(ids, ids, 1)
    return lambda: router.apply(pod, 0, payload)


@pytest.mark.parametrize("make", [long_hash, long_decision, long_apply])
def test_long_work_leaves_the_gil_to_others(
    make: Callable[[], Callable[[], object]],
) -> None:
    # Another thread that wanted the GIL and could not have it would stand still for all of the work. Busy
    # machines make pauses of their own, so that some tries may fail.
    tries = []
    for _ in range(5):
        took, pause = longest_pause_beside(make())
        assert took > 0.05, "too short to tell anything"
        tries.append((took, pause))
        if pause < took / 2:
            return
    pytest.fail(f"seconds of work and the longest pause beside it: {tries}")


def test_the_measurement_can_tell_who_holds_the_gil() -> None:
    # One call of C code that keeps it.
    took, pause = longest_pause_beside(lambda: sum(range(20_000_000)))
    assert pause > took / 2


def test_a_router_without_pods_answers_in_every_thread() -> None:
    router = Router()

    def work(_: int) -> None:
        for _ in range(100):
            with pytest.raises(NoCandidateError):
                router.decide([1, 2, 3])

    in_threads(work)
