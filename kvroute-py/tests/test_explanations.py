"""Explanations as text, as dicts and as HTML; what routers say of themselves."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from types import UnionType
from typing import (
    Any,
    Literal,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pytest
from conftest import REPOSITORY

import kvroute
from kvroute import CacheDomain, Explanation, PodId, Router, status
from kvroute.config import Config

LOG_SCHEMA = json.loads((REPOSITORY / "kvroute-core" / "log.schema.json").read_text("utf-8"))


def explained(router: Router, **arguments: Any) -> Explanation:
    explanation = router.decide(range(9), explain=True, **arguments).explanation
    assert explanation is not None
    return explanation


class Markup(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_an_explanation_is_text_and_table(router: Router, a: PodId) -> None:
    router.apply_events(a, [kvroute.BlockStored([1], token_ids=range(4), block_size=4)])
    explanation = explained(router, session="alice")
    text = str(explanation)
    assert "> a" in text and "1/2 blocks gpu 1" in text and "kv-cache 0.500 x 0.6" in text
    assert "session: nothing was sent for this id lately" in text
    assert repr(explanation) == (
        'Explanation(profile="decode", prompt_tokens=9, pods=[2], picked="a")'
    )
    assert (explanation.profile, explanation.picker) == ("decode", "max-score")
    assert (explanation.prompt_tokens, explanation.session) == (
        9,
        explanation.to_dict()["session"],
    )
    page = Markup(explanation._repr_html_())
    assert page.tags == {"table", "caption", "tr", "th", "td", "br", "p"}
    assert "gpu 1 of 2" in page.texts


def test_what_overruled_the_picker_is_in_text_and_table(router: Router, a: PodId) -> None:
    router.set_policy(
        "policy: {decode: {scorers: {kv-cache: {weight: 1}}, guard: {spill: {absolute: 1}}}}"
    )
    router.apply_events(a, [kvroute.BlockStored([1], token_ids=range(4), block_size=4)])
    router.report_load(a, running=9, waiting=0, kv_usage=0)
    explanation = explained(router)
    assert (explanation.reason, explanation.unused, explanation.not_sampled) == ("spilled", None, 0)
    rows = explanation.to_dict()
    assert (rows["picked"], rows["overruled"], rows["fallbacks"]) == (1, 0, [])
    assert "(overruled)" in str(explanation) and "(spilled)" in str(explanation)
    texts = Markup(explanation._repr_html_()).texts
    assert any(text.startswith("spilled") for text in texts) and "overruled" in texts


def test_pods_that_were_not_looked_at_are_counted(domain: CacheDomain) -> None:
    router = Router({"policy": {"sampling": {"above": 2, "holders": 1, "others": 2}}})
    for number in range(9):
        router.add_pod(f"pod-{number}", domain=domain)
    explanation = explained(router)
    assert (len(explanation.to_dict()["pods"]), explanation.not_sampled) == (2, 7)
    assert "7 pods were not looked at" in Markup(explanation._repr_html_()).texts


def test_a_prefill_pod_that_is_not_used_says_why(domain: CacheDomain) -> None:
    router = Router({"policy": {"prefill": {"max_uncached_tokens": 0, "max_prefill_load": 1}}})
    router.add_pod("d", domain=domain, role="decode")
    router.add_pod("p", domain=domain, role="prefill")
    assert router.dispatch(range(9)).decision.prefill is not None
    explanation = explained(router)
    assert explanation.prefill is not None and explanation.prefill.unused is not None
    assert explanation.unused is None
    html = explanation._repr_html_()
    assert f"not used: {explanation.prefill.unused}" in Markup(html).texts


def test_a_recorded_decision_is_made_again(domain: CacheDomain) -> None:
    policy: Config = {
        "policy": {"prefill": {"max_uncached_tokens": 0}, "decode": {"fallbacks": 1}},
        "domains": {"m": {"block_size": 4}},
    }
    router = Router(policy)
    for name, role in {"d": "decode", "e": "decode", "p": "prefill"}.items():
        router.add_pod(name, domain="m", role=cast(Any, role))
    dispatch = router.dispatch(range(9), session="s", now=7, record=True)
    line = dispatch.decision.record
    assert line is not None and "token_ids" not in line
    record = json.loads(line)
    assert (record["ticket"], record["now"]["secs"]) == (dispatch.ticket, 7)
    same = kvroute.log_replay(line, policy)
    conforms_if_there(same, status.ReplayedDict, "replayed")
    assert same["as_recorded"]
    assert {**same, "as_recorded": None} == {
        "as_recorded": None,
        "decode": record["decode"],
        "prefill": record["prefill"],
    }
    other = kvroute.log_replay(line, "policy: {decode: {scorers: {queue: {weight: 1}}}}")
    conforms_if_there(other, status.ReplayedDict, "replayed")
    assert not other["as_recorded"] and "prefill" not in other
    end = json.loads(router.log_outcome(dispatch, engine_cached_tokens=4, now=8))
    assert (end["kind"], end["how"], end["engine_cached_tokens"]) == ("outcome", "completed", 4)
    assert kvroute.log_schema() == LOG_SCHEMA

    decision = router.decide(range(9), record=True, record_prompt=True)
    assert decision.record is not None and json.loads(decision.record)["prompt"]["token_ids"]
    assert router.decide(range(9), record_prompt=True).record is None
    with pytest.raises(kvroute.NoCandidateError) as caught:
        router.decide(range(9), subset=[], record=True)
    assert caught.value.record is not None
    assert json.loads(caught.value.record)["subset"] == []


@pytest.mark.parametrize(
    ("line", "config", "error"),
    [
        ("", {}, kvroute.DecodeError),
        ("{}", {}, kvroute.DecodeError),
        ('{"kvroute_log": 99, "kind": "decision"}', {}, kvroute.DecodeError),
        (Router().log_outcome(kvroute.Ticket(1)), {}, kvroute.InvalidInputError),
        ("{}", {"policy": {"preset": "x"}}, kvroute.InvalidInputError),
        ("\ud800", {}, kvroute.InvalidInputError),
        (7, {}, TypeError),
        ("{}", None, TypeError),
    ],
)
def test_lines_that_are_none_are_refused(line: Any, config: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        kvroute.log_replay(line, config)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a\"'&b", "&lt;b&gt;"])
def test_names_in_the_table_are_no_markup(name: str) -> None:
    domain = CacheDomain(name, kvroute.BlockHasher.own(4))
    config: Any = {
        "policy": {"decode": {"scorers": {"external": {name: {"weight": 1}}}, "filters": []}}
    }
    router = Router(config)
    router.add_pod(name, domain=domain)
    html = explained(router, session="x")._repr_html_()
    page = Markup(html)
    assert page.tags == {"table", "caption", "tr", "th", "td", "p"}
    assert name in page.texts and any(name in text and "×" in text for text in page.texts)
    assert "<script" not in html


def test_an_explanation_keeps_what_the_decision_saw(router: Router, a: PodId) -> None:
    explanation = explained(router)
    before = str(explanation)
    router.apply_events(a, [kvroute.BlockStored([1], token_ids=range(4), block_size=4)])
    router.remove_pod(a)
    router.decide(range(50), explain=True)
    assert str(explanation) == before


def conforms_if_there(value: Any, hint: Any, at: str) -> None:
    """The same where keys may be left out."""
    hints = get_type_hints(hint)
    assert hint.__required_keys__ <= set(value) <= set(hints), at
    for key, inner in value.items():
        (conforms_if_there if is_typeddict(hints[key]) else conforms)(
            inner, hints[key], f"{at}.{key}"
        )


def conforms(value: Any, hint: Any, at: str) -> None:
    """Whether a value is of a type that the dicts of ``kvroute.status`` are made of."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        assert set(value) == set(hints), at
        for key, inner in hints.items():
            conforms(value[key], inner, f"{at}.{key}")
    elif origin in (Union, UnionType):
        fitting = [inner for inner in arguments if (inner is type(None)) == (value is None)]
        if is_typeddict(fitting[0]) or get_origin(fitting[0]) is Literal:
            conforms(value, fitting[0], at)
        else:
            assert isinstance(value, tuple(fitting)), at
    elif origin is Literal:
        assert value in arguments, at
    elif origin is list:
        for item in value:
            conforms(item, arguments[0], f"{at}[]")
    elif origin is dict:
        for item in value.values():
            conforms(item, arguments[1], f"{at}[]")
    else:
        assert isinstance(value, hint), f"{at}: {value!r} is not {hint}"


def test_dicts_have_the_keys_that_their_types_have(domain: CacheDomain) -> None:
    router = Router({"policy": {"prefill": {"max_uncached_tokens": 0}}})
    pod = router.add_pod("d", domain=domain, role="decode", labels={"zone": "eu"})
    router.add_pod("p", domain=domain, role="prefill")
    router.apply(pod, 0, b"\xc1")
    stored = kvroute.BlockStored([1], token_ids=range(8), block_size=8)
    router.apply_events(pod, [kvroute.BlockStored([1], token_ids=range(4), block_size=4), stored])
    router.report_load(pod, running=1, waiting=2, kv_usage=0.25)
    router.report_adapters(pod, max=1, running=["sql"])
    router.dispatch(range(9), session="s")
    sql = kvroute.HashContext(lora=kvroute.Lora("sql"))
    explanation = explained(router, session="s", context=sql)
    assert [row["adapter"] for row in explanation.to_dict()["pods"]] == ["running", "unknown"]
    explanation = explained(router, session="s")
    conforms(explanation.to_dict(), status.ExplanationDict, "explanation")
    conforms(router.status(), status.RouterStatus, "status")
    conforms(router.counters(), status.RouterCounters, "counters")
    conforms(router.stream(pod), status.StreamCounters, "stream")
    assert explanation.to_dict()["prefill"] is not None
    assert router.status()["pods"][0]["load"] == {
        "running": 1,
        "waiting": 2,
        "kv_usage": 0.25,
    }
    assert router.status()["counters"] == router.counters()
    assert router.status()["pods"][0]["stream"] == router.stream(pod)
