"""Fleets: pods join, are routed to, leave; their events are followed; what is closed stays closed."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from conftest import FakePod, document, until

import kvroute
from kvroute import InvalidInputError, PodId, Router
from kvroute.io import Fleet

# A batch of vLLM 0.33 with two blocks of four tokens, from testdata/bindings/cases.txt.
BATCH = bytes.fromhex(
    "93cb3ff80000000000009198ab426c6f636b53746f726564920b0cc098000102030405060704c0a3475055c000"
)


def first_pod(router: Router) -> PodId:
    return until("a pod is there", router.pods)[0].id


def test_a_request_goes_where_a_pod_is(pod: FakePod) -> None:
    with Fleet(document(pod.url)) as fleet:
        router = fleet.router
        assert isinstance(router, Router) and fleet.router is router
        pod_id = first_pod(router)
        dispatch = router.dispatch(list(range(100)), model="tiny")
        assert dispatch.decision.pod_id == pod_id
        target = fleet.target(pod_id)
        assert target is not None
        assert (target.url, target.name) == (pod.url, dispatch.decision.pod)
        assert (target.dp_rank, target.dp_ranks) == (0, 1)
        assert router.first_token(dispatch) and router.finish(dispatch, engine_cached_tokens=0)
        assert repr(target) == f"Target('{target.name}', '{pod.url}', dp_rank=0, dp_ranks=1)"
        assert repr(fleet) == "Fleet(1 pods)"
        assert fleet.target(PodId(1)) is None
    assert repr(fleet) == "Fleet(closed)"


def test_models_and_status_are_told(pod: FakePod) -> None:
    with Fleet(document(pod.url)) as fleet:
        first_pod(fleet.router)
        models = {model["name"]: model for model in fleet.models()}
        assert models["tiny"].get("max_model_len") == 2048 and not models["tiny"]["is_partial"]
        lora = models["lora-a"]
        assert lora.get("base") == "tiny" and len(lora["pods"]) == 1
        assert lora.get("lora") == {"name": "lora-a", "path": "tiny-llama/lora-a", "id": 0}
        status = fleet.status()
        assert [pod["state"] for pod in status["pods"]] == ["ready"]
        assert {"sources", "models", "events"} < set(status)


def test_now_is_the_clock_of_the_router(pod: FakePod) -> None:
    fleet = Fleet(document(pod.url))
    first_pod(fleet.router)
    assert abs(fleet.now() - time.time()) < 60
    # By another clock the request would be over at once, or never.
    dispatch = fleet.router.dispatch([1, 2, 3])
    assert fleet.router.expire(fleet.now() + 1) == 0
    assert fleet.router.expire(fleet.now() + 3600) == 1
    assert not fleet.router.finish(dispatch)
    fleet.close()


def test_reconfiguring_is_all_or_nothing(pod: FakePod) -> None:
    with Fleet(document(pod.url)) as fleet:
        before = first_pod(fleet.router)
        wrong: list[Any] = [
            {"fleet": {"pods": [7]}},
            {"router": {"policy": {"preset": "none"}}, "fleet": {}},
            {"flet": {}},
            "fleet: [",
        ]
        for refused in wrong:
            with pytest.raises(InvalidInputError):
                fleet.reconfigure(refused)
        assert fleet.router.pods()[0].id == before
        fleet.reconfigure(document())
        until("it left", lambda: not fleet.router.pods())
        assert fleet.target(before) is None
        fleet.reconfigure(document(pod.url))
        assert first_pod(fleet.router) != before


def test_a_router_outlives_its_fleet(pod: FakePod) -> None:
    fleet = Fleet(document(pod.url), threads=1)
    router = fleet.router
    first_pod(router)
    with pytest.raises(InvalidInputError, match="fleet"):
        router.reset()
    fleet.close()
    fleet.close()
    assert router.pods() == []
    with pytest.raises(kvroute.NoCandidateError):
        router.decide([1, 2, 3])
    router.reset()
    calls: list[Callable[[], object]] = [
        fleet.models,
        fleet.status,
        fleet.release_events,
        lambda: fleet.target(PodId(1)),
        lambda: fleet.reconfigure(document()),
    ]
    for call in calls:
        with pytest.raises(InvalidInputError, match="this fleet is closed"):
            call()
    assert fleet.now() > 0 and fleet.router is router


def test_a_forgotten_fleet_stops_by_itself(pod: FakePod) -> None:
    fleet = Fleet(document(pod.url))
    router = fleet.router
    first_pod(router)
    begun = time.monotonic()
    del fleet
    gc.collect()
    assert time.monotonic() - begun < 2, "nobody waits for it"
    until("its pods left", lambda: not router.pods())


def test_closing_does_not_wait_for_a_pod_that_hangs_and_lets_others_run() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as hanging:
        fleet = Fleet(document(f"http://127.0.0.1:{hanging.getsockname()[1]}"))
        time.sleep(0.1)
        begun = time.monotonic()
        ran = threading.Event()
        thread = threading.Thread(target=ran.set)
        thread.start()
        fleet.close()
        thread.join()
        assert ran.is_set() and time.monotonic() - begun < 10


def test_events_are_held_for_a_snapshot_and_then_followed(pod: FakePod) -> None:
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        pod.answers["/kv_event_sources"] = (
            f'{{"0": {{"enable_kv_cache_events": true, "publisher": "zmq", "endpoint": "tcp://*:{port}",'
            f' "replay_endpoint": null, "topic": "kv@pod-0@tiny"}}}}'
        ).encode()
        pod.answers["/metrics"] = pod.answers["/metrics"].replace(
            b'block_size="32"', b'block_size="4"'
        )
        with Fleet(document(pod.url), hold_events=True) as fleet:
            pod_id = first_pod(fleet.router)
            assert fleet.status()["events"]["streams"] == []
            assert fleet.router.restore(fleet.router.snapshot())["pods"]
            fleet.release_events()
            numbers = iter(range(1 << 20))

            def followed() -> bool:
                # What is sent before the subscription has arrived reaches nobody.
                publisher.send_multipart(
                    [b"kv@pod-0@tiny", next(numbers).to_bytes(8, "big"), BATCH]
                )
                return fleet.router.stream(pod_id)["blocks_stored"] >= 2

            until("its blocks are known", followed)
            assert fleet.router.decide(list(range(9))).matched_tokens == 8


def test_documents_that_are_none_are_refused() -> None:
    wrong: list[tuple[Any, str]] = [
        ("fleet: {pods: [ftp://x]}", "pods"),
        ({"router": {"pods": [{"name": "a", "domain": "m"}]}}, "router.pods"),
        ({"fleet": {"scrape": {"interval_ms": 1}}}, "interval_ms"),
    ]
    for refused, place in wrong:
        with pytest.raises(InvalidInputError, match=place):
            Fleet(refused)
    with pytest.raises(TypeError, match="document"):
        Fleet(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="threads"):
        Fleet({}, threads=0)
