"""Requests from decision to end, as far as Python has a say in it."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from conftest import TESTDATA

import kvroute
from kvroute import (
    BlockStored,
    CacheDomain,
    HashContext,
    Lora,
    NoCandidateError,
    PodId,
    Router,
)
from kvroute.config import Config, FilterConfig, ProfileConfig

KEY = "00112233445566778899aabbccddeeff" * 2


def test_a_decision_names_its_pod_by_name_rank_and_id(domain: CacheDomain) -> None:
    router = Router()
    pod = router.add_pod("10.0.0.7:8000", domain=domain, dp_rank=3)
    decision = router.decide([1, 2, 3])
    assert (decision.pod, decision.dp_rank, decision.pod_id) == (
        "10.0.0.7:8000",
        3,
        pod,
    )
    assert decision.prefill is None
    assert decision.explanation is None
    assert repr(decision) == (
        "Decision('10.0.0.7:8000', dp_rank=3, total=1.000, matched_tokens=0, uncached_tokens=3)"
    )


def test_pods_are_what_they_were_added_as(domain: CacheDomain) -> None:
    router = Router()
    labels = {"zone": "eu"}
    pod = router.add_pod("a", domain=domain, dp_rank=1, role="decode", labels=labels)
    router.add_pod("b", domain="m")
    one, other = router.pods()
    assert (one.id, one.name, one.dp_rank, one.role, one.labels) == (
        pod,
        "a",
        1,
        "decode",
        labels,
    )
    assert (one.domain.name, one.domain.hasher) == ("m", domain.hasher)
    assert (other.role, other.labels, other.load, other.accepting) == (
        "both",
        {},
        None,
        True,
    )
    router.report_load(pod, running=3, waiting=1, kv_usage=0.5)
    router.set_accepting(pod, False)
    assert (one.load.running, one.load.waiting, one.load.kv_usage) == (3, 1, 0.5)  # type: ignore[union-attr]
    assert not one.accepting, "a pod is seen as it is now"
    found = router.pod("a", 1)
    assert found is not None and found.id == pod
    assert router.pod("a") is None
    assert repr(one) == (
        f"Pod('a', dp_rank=1, id={pod}, domain='m', role='decode', trust='approximate', "
        "booked_requests=0, draining)"
    )


def test_a_dispatch_is_booked_until_it_is_finished(router: Router) -> None:
    dispatch = router.dispatch(range(41), now=1.0)
    pod = router.pod(dispatch.decision.pod)
    assert pod is not None
    assert (pod.booked_requests, pod.booked_prefill_tokens) == (1, 41)
    assert router.first_token(dispatch.ticket)
    assert not router.first_token(dispatch.ticket)
    assert (pod.booked_requests, pod.booked_prefill_tokens) == (1, 0)
    assert router.finish(dispatch.ticket, engine_cached_tokens=0)
    assert not router.finish(dispatch.ticket)
    assert pod.booked_requests == 0
    assert router.decide(range(41)).pod == pod.name, "it was sent there before"
    router.forget_predictions(pod.id)
    assert router.lookup("m", range(41)) == []


def test_what_is_not_finished_expires(router: Router) -> None:
    router.dispatch([1], now=10)
    assert router.expire(609.9) == 0
    assert router.expire(610) == 1
    assert router.counters() == {
        "in_flight": 0,
        "sessions": 0,
        "expired": 1,
        "untracked": 0,
    }


def test_prefill_pods_compute_long_prompts_first(domain: CacheDomain) -> None:
    router = Router({"policy": {"prefill": {"max_uncached_tokens": 8}}})
    router.add_pod("d", domain=domain, role="decode")
    prefill = router.add_pod("p", domain=domain, role="prefill", dp_rank=2)
    assert router.decide(range(8)).prefill is None
    decision = router.decide(range(9), explain=True)
    assert decision.prefill is not None and decision.explanation is not None
    assert (decision.pod, decision.prefill.pod) == ("d", "p")
    assert (decision.prefill.dp_rank, decision.prefill.pod_id) == (2, prefill)
    assert (decision.prefill.matched.total, decision.prefill.uncached_tokens) == (0, 9)
    assert "prefill=Prefill('p', dp_rank=2" in repr(decision)
    assert decision.explanation.prefill is not None
    assert decision.explanation.prefill.profile == "prefill"


def test_adapters_and_salts_are_part_of_the_prompt(router: Router, a: PodId) -> None:
    stored = BlockStored([1], token_ids=range(4), block_size=4, lora_name="sql")
    assert router.apply_events(a, [stored]).blocks_stored == 1
    sql = HashContext(lora=Lora("sql"))
    assert router.decide(range(5), context=sql).matched.gpu == 1
    assert router.decide(range(5)).matched.total == 0
    assert router.decide(range(5), context=HashContext(cache_salt="x")).matched.total == 0
    assert [found.pod for found in router.lookup("m", range(5), sql)] == ["a"]


def test_sessions_by_token_come_back_to_their_pods(domain: CacheDomain) -> None:
    router = Router({"sessions": {"key": KEY, "ttl_seconds": 60}})
    for name in "abc":
        router.add_pod(name, domain=domain)
    first = router.decide([1, 2, 3], nonce=5)
    token = router.session_token(first)
    assert len(token) == 70
    for nonce in range(10):
        assert router.decide([9], session_token=token, nonce=nonce).pod == first.pod
    with pytest.raises(kvroute.InvalidInputError, match="need a session key"):
        Router().session_token(first)


def test_another_policy_takes_over_and_nothing_is_lost(router: Router, a: PodId) -> None:
    dispatch = router.dispatch(range(41), session="alice", nonce=1)
    assert (dispatch.decision.reason, dispatch.decision.fallbacks) == ("picked", [])
    router.set_policy({"policy": {"preset": "cost", "decode": {"fallbacks": 3}}})
    decision = router.decide(range(41), explain=True)
    assert decision.explanation is not None
    scores = decision.explanation.to_dict()["pods"][0]["scores"]
    assert scores[0]["scorer"] == "cost"
    (other,) = decision.fallbacks
    assert {decision.pod, other.name} == {"a", "b"} and other.id != decision.pod_id
    router.set_policy("policy: {decode: {guard: {spill: {absolute: 1}}}}")
    router.apply_events(a, [BlockStored([1], token_ids=range(4), block_size=4)])
    router.report_load(a, running=9, waiting=0, kv_usage=0)
    spilled = router.decide(range(4), subset=["a", "b"])
    assert spilled.reason == "picked", "no block can be matched before the last token"
    spilled = router.decide([*range(4), 7])
    assert (spilled.pod, spilled.reason) == ("b", "spilled")
    assert repr(spilled).endswith(", reason='spilled')")
    assert router.counters()["in_flight"] == 1 and router.finish(dispatch)


def test_a_policy_that_is_none_changes_nothing(router: Router) -> None:
    router.set_policy({"policy": {"decode": {"fallbacks": 1}}})
    wrong: list[tuple[object, str]] = [
        ({"policy": {"preset": "cheapest"}}, "policy.preset: unknown value `cheapest`"),
        ({"decode": {}}, "unknown key `decode`"),
        ({"policy": {}, "pods": [{"name": "c", "domain": "n"}]}, r"pods\[0\].domain"),
        ("", "an empty document"),
        ({"policy": {"decode": {"guard": {"spill": {"relative": float("nan")}}}}}, "JSON"),
    ]
    for config, message in wrong:
        with pytest.raises(kvroute.InvalidInputError, match=message):
            router.set_policy(config)  # type: ignore[arg-type]
    for none in (None, 7, ["policy"]):
        with pytest.raises(TypeError, match="config: expected a dict"):
            router.set_policy(none)  # type: ignore[arg-type]
    assert len(router.decide([1]).fallbacks) == 1
    # All else is left aside, and the default policy is one too.
    router.set_policy({"domains": {"n": {"block_size": 8}}})
    assert router.decide([1]).fallbacks == [] and router.domain("n") is None


def test_a_request_may_name_its_pods(domain: CacheDomain) -> None:
    router = Router()
    for name in "abc":
        router.add_pod(name, domain=domain)
    assert {router.decide([1], subset=("b",), nonce=nonce).pod for nonce in range(9)} == {"b"}
    assert router.decide([1], subset=["x", "c"]).pod == "c"
    assert router.dispatch([1], subset=["a"]).decision.pod == "a"
    for nobody in ([], ["x"]):
        with pytest.raises(NoCandidateError, match='3 by filter "subset"'):
            router.decide([1], subset=nobody)
    for wrong in ("abc", [1], 7, [b"a"]):
        with pytest.raises(TypeError):
            router.decide([1], subset=wrong)  # type: ignore[arg-type]


def test_adapters_are_where_pods_say(router: Router, a: PodId) -> None:
    router.set_policy({"policy": {"decode": {"scorers": {"lora-affinity": {"weight": 1}}}}})
    sql = HashContext(lora=Lora("sql"))
    b = router.pod("b")
    assert b is not None
    router.report_adapters(a, max=1, waiting=["law"])
    router.report_adapters(b.id, max=1, running=("sql",))
    assert {router.decide([1], context=sql, nonce=nonce).pod for nonce in range(9)} == {"b"}
    router.report_adapters(b.id, max=0)
    router.report_adapters(a, max=1)
    assert {router.decide([1], context=sql, nonce=nonce).pod for nonce in range(9)} == {"a"}
    with pytest.raises(kvroute.UnknownPodError):
        router.report_adapters(PodId(7), max=1)
    for most in (-1, 2**32):
        with pytest.raises(kvroute.InvalidInputError, match="max: .* is not in"):
            router.report_adapters(a, max=most)
    with pytest.raises(kvroute.InvalidInputError, match="running: not Unicode text"):
        router.report_adapters(a, max=1, running=["\ud800"])
    with pytest.raises(TypeError):
        router.report_adapters(a, max=1, running="sql")


def test_pods_differ_in_speed_and_in_trouble(domain: CacheDomain) -> None:
    filters: list[FilterConfig] = ["accepting", "overload"]
    decode: ProfileConfig = {"filters": filters, "scorers": {"cost": {"weight": 1}}}
    router = Router({"policy": {"decode": decode}, "overload": {"waiting": 2}})
    slow = router.add_pod("slow", domain=domain)
    fast = router.add_pod("fast", domain=domain, capacity=1.5)
    one, other = router.pods()
    assert (one.capacity, other.capacity) == (1.0, 1.5)
    dispatch = router.dispatch(range(41))
    assert dispatch.decision.pod == "fast"
    found = router.lookup("m", range(41))
    assert [(match.pod, match.predicted, match.speculative) for match in found] == [("fast", 10, 0)]
    router.finish(dispatch, "failed")
    assert (one.failures, other.failures) == (0, 1)
    router.report_load(fast, running=0, waiting=2, kv_usage=0)
    assert other.overloaded and not one.overloaded
    assert router.decide(range(100, 141)).pod_id == slow
    for capacity in (-1, 0, float("nan"), float("inf"), 10**400):
        with pytest.raises(kvroute.InvalidInputError, match="capacity is finite and above 0"):
            router.add_pod("x", domain=domain, capacity=capacity)
    with pytest.raises(TypeError, match="capacity: expected a float, found bool"):
        router.add_pod("x", domain=domain, capacity=True)


def test_what_was_just_sent_is_told_apart(router: Router, a: PodId) -> None:
    router.apply_events(a, [kvroute.AllBlocksCleared()])
    router.dispatch(range(41), subset=["a"], now=1)
    (match,) = router.lookup("m", range(41))
    assert (match.predicted, match.speculative) == (10, 10)
    assert repr(match).endswith("predicted=10, speculative=10)")


def test_scores_of_others_count(domain: CacheDomain) -> None:
    config: Config = {"policy": {"decode": {"scorers": {"external": {"cheap": {"weight": 2}}}}}}
    router = Router(config)
    pods = {name: router.add_pod(name, domain=domain) for name in "ab"}
    assert router.decide([1], scores={"cheap": {pods["a"]: 0.25, pods["b"]: 1.0}}).pod == "b"
    assert router.decide([1], scores={"cheap": {pods["a"]: 1, PodId(7): 1}}).total == 2
    with pytest.raises(kvroute.InvalidInputError, match="no profile has an external scorer"):
        router.decide([1], scores={"cheep": {}})
    with pytest.raises(TypeError, match=r'scores\["cheap"\]: expected a float, found str'):
        router.decide([1], scores={"cheap": {pods["a"]: "1"}})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="expected a dict of pod ids and scores"):
        router.decide([1], scores={"cheap": [1.0]})  # type: ignore[dict-item]


def test_where_no_pod_can_be_picked_the_explanation_says_why(router: Router) -> None:
    for pod in router.pods():
        router.set_accepting(pod.id, False)
    with pytest.raises(NoCandidateError, match='2 by filter "accepting"') as caught:
        router.decide([1], explain=True)
    explanation = caught.value.explanation
    assert explanation is not None
    rows = explanation.to_dict()["pods"]
    assert [row["dropped_by"] for row in rows] == ["accepting", "accepting"]
    with pytest.raises(NoCandidateError) as caught:
        router.dispatch([1])
    assert caught.value.explanation is None


def test_a_reset_makes_new_pods(router: Router, a: PodId) -> None:
    ticket = router.dispatch(range(20)).ticket
    router.reset()
    assert router.counters()["in_flight"] == 0
    assert not router.finish(ticket)
    again = router.pod("a")
    assert again is not None and again.id != a
    assert router.decide([1]).candidates == 2


def test_the_founding_environment_makes_a_router(domain: CacheDomain) -> None:
    environment = {
        "ENABLE_KVCACHE_AWARE_SCORER": "true",
        "KVCACHE_AWARE_SCORER_WEIGHT": "5",
        "HF_TOKEN": "x",
        "PATH": "\udcff",
    }
    router, notes = Router.from_env(MappingProxyType(environment))
    assert len(notes) == 1 and "HF_TOKEN" in notes[0]
    router.add_domain(domain)
    router.add_pod("a", domain="m")
    decision = router.decide([1], explain=True)
    assert decision.explanation is not None
    scores = decision.explanation.to_dict()["pods"][0]["scores"]
    assert scores == [{"scorer": "kv-cache", "value": 0.0, "weight": 5.0}]
    with pytest.raises(kvroute.InvalidInputError):
        Router.from_env({"ENABLE_KVCACHE_AWARE_SCORER": "yes"})
    with pytest.raises(TypeError, match="environment: expected names and values as str, found int"):
        Router.from_env({"PD_ENABLED": 1})  # type: ignore[dict-item]


def test_configurations_of_llm_ds_endpoint_picker_make_routers() -> None:
    files = sorted((TESTDATA / "epp-config").glob("*.yaml"))
    assert len(files) >= 19
    for file in files:
        config, notes = kvroute.config_from_endpoint_picker(file.read_text("utf-8"))
        assert "domains" not in config or config["domains"] == {}
        assert all(notes)
        # What it becomes is beside it.
        expected = (file.parent / "expected" / file.name).read_text("utf-8")
        for router in (Router(config), Router(expected)):
            router.add_pod("a", domain=CacheDomain("m", kvroute.BlockHasher.own(4)))
            router.set_policy(config)
            router.set_policy(expected)
    for wrong in ("", "kind: Pod", "\ud800"):
        with pytest.raises(kvroute.InvalidInputError):
            kvroute.config_from_endpoint_picker(wrong)
    with pytest.raises(TypeError):
        kvroute.config_from_endpoint_picker({})  # type: ignore[arg-type]


def test_empty_texts_are_none(domain: CacheDomain) -> None:
    router = Router()
    router.add_domain(CacheDomain("n", domain.hasher, models=["llama"]))
    router.add_pod("a", domain="n")
    with pytest.raises(NoCandidateError):
        router.decide([1], model="other")
    assert router.decide([1], model="").pod == "a"
    decision = router.decide([1], session="", session_token="", explain=True)
    assert decision.explanation is not None and decision.explanation.session is None
    assert router.decide([1], session="alice", session_token="").pod == "a"
    router.dispatch([1], session="")
    assert router.counters()["sessions"] == 0


def test_a_dispatch_stands_for_its_ticket_and_its_decision(domain: CacheDomain) -> None:
    router = Router({"sessions": {"key": KEY}})
    router.add_pod("a", domain=domain)
    dispatch = router.dispatch([1, 2, 3])
    token = router.session_token(dispatch, 5)
    assert router.decide([1], session_token=token, now=5).pod == "a"
    assert router.session_token(dispatch.decision, 5)
    with pytest.raises(TypeError, match="decision: expected a Decision or a Dispatch, found int"):
        router.session_token(dispatch.ticket)  # type: ignore[arg-type]
    assert router.first_token(dispatch)
    assert not router.first_token(dispatch.ticket)
    assert router.finish(dispatch, engine_cached_tokens=0)
    assert not router.finish(dispatch)
    with pytest.raises(TypeError, match="ticket: expected an int, found Decision"):
        router.finish(dispatch.decision)  # type: ignore[arg-type]
