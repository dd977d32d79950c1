"""Runs steps of the shared test table through the package; the format is in testdata/bindings/README.md."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from kvroute import (
    AllBlocksCleared,
    ApplyReport,
    BlockRemoved,
    BlockStored,
    Decision,
    Explanation,
    HashContext,
    KvrouteError,
    Lora,
    NoCandidateError,
    PodId,
    Router,
    Ticket,
    config_from_endpoint_picker,
    log_replay,
)

TIERS = ("gpu", "cpu", "disk", "external")


class WrongTable(Exception):
    """The table says something that this runner does not know."""


@dataclass(frozen=True)
class Step:
    number: int
    text: str
    expected: str


def read_steps(table: str) -> Iterator[Step]:
    for number, line in enumerate(table.splitlines(), 1):
        if line and not line.startswith("#"):
            text, _, expected = line.partition(" => ")
            yield Step(number, text, expected)


def status(error: KvrouteError) -> str:
    """``NoCandidateError`` is "no-candidate", and so on."""
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
    return "-".join(words).lower()


def token_ids(text: str) -> list[int]:
    ids: list[int] = []
    for part in text.split("+") if text != "-" else ():
        first, dots, end = part.partition("..")
        ids.extend(range(int(first), int(end)) if dots else [int(first)])
    return ids


def read_bytes(text: str) -> bytes:
    return bytes.fromhex(text) if text != "-" else b""


def read_names(text: str) -> list[str]:
    return text.split(",") if text != "-" else []


@dataclass
class Arguments:
    positional: list[str]
    named: dict[str, str]

    @classmethod
    def read(cls, rest: str) -> Arguments:
        words = rest.split(" ")
        named = dict(word.split("=", 1) for word in words if "=" in word)
        return cls([word for word in words if "=" not in word], named)

    def context(self) -> HashContext:
        lora = self.named.get("lora")
        return HashContext(
            lora=Lora(lora) if lora is not None else None,
            cache_salt=self.named.get("salt"),
        )

    def now(self) -> float:
        return float(self.named.get("now", "0"))

    def tier(self) -> Any:
        tier = self.named.get("tier", "gpu")
        return tier if tier in TIERS else None


def outcome(report: ApplyReport) -> str:
    words = [report.outcome, report.reason, report.replay_from]
    shown = ":".join(str(word) for word in words if word is not None)
    return (
        f"{shown} events={report.events} stored={report.blocks_stored} "
        f"removed={report.blocks_removed}"
    )


def block_text(block: tuple[int, int, str]) -> str:
    name, group, tier = block
    return f"{group}:{tier}:{name}"


def pod_name(name: str, rank: int) -> str:
    return f"{name}/{rank}" if rank else name


def shown(decision: Decision) -> str:
    matched = decision.matched
    answer = (
        f"pod={pod_name(decision.pod, decision.dp_rank)} total={decision.total:.3f} "
        f"matched={matched.gpu},{matched.cpu},{matched.disk},{matched.external} "
        f"matched_tokens={decision.matched_tokens} uncached_tokens={decision.uncached_tokens} "
        f"candidates={decision.candidates}"
    )
    prefill_reason = ""
    if (prefill := decision.prefill) is not None:
        answer += (
            f" prefill={pod_name(prefill.pod, prefill.dp_rank)} prefill_total={prefill.total:.3f} "
            f"prefill_matched_tokens={prefill.matched_tokens} "
            f"prefill_uncached_tokens={prefill.uncached_tokens}"
        )
        prefill_reason = prefill.reason
    if decision.reason != "picked":
        answer += f" reason={decision.reason}"
    if prefill_reason not in ("", "picked"):
        answer += f" prefill_reason={prefill_reason}"
    if fallbacks := [pod_name(pod.name, pod.dp_rank) for pod in decision.fallbacks]:
        answer += f" fallbacks={','.join(fallbacks)}"
    return answer


@dataclass
class Case:
    """What a case has made so far."""

    router: Router | None = None
    pods: dict[str, PodId] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    last: Decision | None = None
    explanation: Explanation | None = None
    line: str = ""
    snapshot: bytes = b""

    def answer(self, text: str) -> str:
        """What the package answers to a step."""
        verb, _, rest = text.partition(" ")
        step: Callable[[str], object] | None = getattr(self, f"do_{verb.replace('-', '_')}", None)
        if step is None:
            raise WrongTable(f"no step is called {verb!r}")
        try:
            answer = step(rest)
        except KvrouteError as error:
            if isinstance(error, NoCandidateError):
                self.explanation = error.explanation
                self.note(error.record)
            return f"error {status(error)} {error}"
        if isinstance(answer, bool):
            return str(answer).lower()
        return "" if answer is None else str(answer)

    def the_router(self) -> Router:
        if self.router is None:
            raise WrongTable("the case has no router")
        return self.router

    def pod(self, name: str) -> PodId:
        return PodId(2**64 - 1) if name == "?" else self.pods[name]

    def learn(self) -> None:
        """Removed pods keep their ids here, so that steps may still name them."""
        for pod in self.the_router().pods():
            self.pods[pod_name(pod.name, pod.dp_rank)] = pod.id

    def request(self, a: Arguments) -> dict[str, Any]:
        named = a.named
        if unknown := set(named) - {
            *(
                "tokens",
                "text",
                "now",
                "model",
                "session",
                "token",
                "nonce",
                "salt",
                "lora",
                "subset",
                "record",
                "scores",
                "known",
            )
        }:
            raise WrongTable(f"a request with {unknown}")
        scores = None
        if "scores" in named:
            scorer, _, pairs = named["scores"].partition(":")
            values = (pair.rpartition(":") for pair in pairs.split(","))
            scores = {scorer: {self.pod(pod): float(value) for pod, _, value in values}}
        known: dict[Any, dict[Any, int]] = {}
        for told in named["known"].split(",") if "known" in named else ():
            rest, _, blocks = told.rpartition(":")
            pod, _, tier = rest.rpartition(":")
            known.setdefault(self.pod(pod), {})[tier] = int(blocks)
        return {
            "token_ids": token_ids(named["tokens"]) if "tokens" in named else None,
            "text": read_bytes(named["text"]) if "text" in named else None,
            "context": a.context(),
            "model": named.get("model"),
            "session": named.get("session"),
            "session_token": self.tokens[named["token"]] if "token" in named else None,
            "subset": read_names(named["subset"]) if "subset" in named else None,
            "scores": scores,
            "known": known,
            "nonce": int(named["nonce"]) if "nonce" in named else None,
            "now": a.now(),
            "explain": True,
            "record": "record" in named,
            "record_prompt": named.get("record") == "prompt",
        }

    def decided(self, decision: Decision) -> str:
        self.last, self.explanation = decision, decision.explanation
        self.note(decision.record)
        return shown(decision)

    def note(self, line: str | None) -> None:
        """Keeps the line of a decision log, if it was asked for."""
        if line is not None:
            self.line = line

    def do_case(self, rest: str) -> None:
        self.__init__()  # type: ignore[misc]

    def do_router(self, rest: str) -> None:
        self.router = Router(rest)
        self.learn()

    def do_policy(self, rest: str) -> None:
        self.the_router().set_policy(rest)

    def do_llm_d(self, rest: str) -> str:
        config, notes = config_from_endpoint_picker(rest)
        self.the_router().set_policy(config)
        return json.dumps(notes, ensure_ascii=False, separators=(",", ":"))

    def do_pod(self, rest: str) -> None:
        a = Arguments.read(rest)
        name, _, rank = a.positional[0].partition("/")
        labels = dict([label.split(":", 1)]) if (label := a.named.get("label")) else {}
        self.the_router().add_pod(
            name,
            domain=a.named["domain"],
            dp_rank=int(rank or 0),
            role=cast(Any, a.named.get("role", "both")),
            labels=labels,
            capacity=float(a.named.get("capacity", "1")),
        )
        self.learn()

    def do_remove(self, rest: str) -> None:
        self.the_router().remove_pod(self.pod(rest))

    def do_accept(self, rest: str) -> None:
        name, accepting = rest.split(" ")
        self.the_router().set_accepting(self.pod(name), accepting == "true")

    def do_load(self, rest: str) -> None:
        a = Arguments.read(rest)
        self.the_router().report_load(
            self.pod(a.positional[0]),
            running=int(a.named["running"]),
            waiting=int(a.named["waiting"]),
            kv_usage=float(a.named["kv_usage"]),
        )

    def do_unload(self, rest: str) -> None:
        self.the_router().forget_load(self.pod(rest))

    def do_adapters(self, rest: str) -> None:
        a = Arguments.read(rest)
        self.the_router().report_adapters(
            self.pod(a.positional[0]),
            max=int(a.named["max"]),
            running=read_names(a.named.get("running", "-")),
            waiting=read_names(a.named.get("waiting", "-")),
        )

    def do_apply(self, rest: str) -> str:
        a = Arguments.read(rest)
        pod, sequence = self.pod(a.positional[0]), int(a.named["sequence"])
        return outcome(self.the_router().apply(pod, sequence, read_bytes(a.named["payload"])))

    def do_topic(self, rest: str) -> str:
        a = Arguments.read(rest)
        return outcome(
            self.the_router().apply_topic(
                a.positional[0],
                int(a.named["sequence"]),
                read_bytes(a.named["payload"]),
                dp_rank=int(a.named["rank"]),
            )
        )

    def do_stored(self, rest: str) -> str:
        a = Arguments.read(rest)
        parent = a.named.get("parent")
        event = BlockStored(
            [int(name) for name in a.named["hashes"].split(",")],
            token_ids=token_ids(a.named["tokens"]),
            block_size=int(a.named["block_size"]),
            parent=int(parent) if parent is not None else None,
            tier=a.tier(),
            lora_name=a.named.get("lora"),
            cache_salt=a.named.get("salt"),
        )
        return outcome(self.the_router().apply_events(self.pod(a.positional[0]), [event]))

    def do_removed(self, rest: str) -> str:
        a = Arguments.read(rest)
        names = [int(name) for name in a.named["hashes"].split(",")]
        event = BlockRemoved(names, tier=a.tier())
        return outcome(self.the_router().apply_events(self.pod(a.positional[0]), [event]))

    def do_cleared(self, rest: str) -> str:
        return outcome(self.the_router().apply_events(self.pod(rest), [AllBlocksCleared()]))

    def do_abandon(self, rest: str) -> None:
        a = Arguments.read(rest)
        self.the_router().abandon_gap(self.pod(a.positional[0]), int(a.named["sequence"]))

    def do_forget(self, rest: str) -> None:
        self.the_router().forget_predictions(self.pod(rest))

    def do_hash(self, rest: str) -> str:
        a = Arguments.read(rest)
        domain = self.the_router().domain(a.positional[0])
        if domain is None:
            raise WrongTable(f"no domain {a.positional[0]}")
        hashes = domain.hasher.hash(token_ids(a.named["tokens"]), a.context())
        return " ".join(str(name) for name in hashes)

    def do_lookup(self, rest: str) -> str:
        a = Arguments.read(rest)
        found = self.the_router().lookup(a.positional[0], token_ids(a.named["tokens"]))
        return " ".join(
            f"{pod_name(pod.pod, pod.dp_rank)}={pod.blocks.gpu},{pod.blocks.cpu},"
            f"{pod.blocks.disk},{pod.blocks.external},{pod.predicted},{pod.speculative}"
            for pod in found
        )

    def do_journal(self, rest: str) -> None:
        a = Arguments.read(rest)
        self.the_router().journal_held(self.pod(a.positional[0]), int(a.named["most"]))

    def do_take(self, rest: str) -> str:
        a = Arguments.read(rest)
        taken = self.the_router().take_held(self.pod(a.positional[0]), int(a.named["most"]))
        flags = {
            "cleared": taken.cleared,
            "list-again": taken.list_again,
            "plain": taken.is_plain,
            "more": taken.has_more,
        }
        shown = [name for name, is_so in flags.items() if is_so]
        for is_held, block in taken.changes:
            shown.append(("+" if is_held else "-") + block_text(block))
        return " ".join(shown)

    def do_held(self, rest: str) -> str:
        a = Arguments.read(rest)
        pod, most = self.pod(a.positional[0]), int(a.named["most"])
        shown: list[str] = []
        cursor: int | None = 0
        while cursor is not None:
            page, cursor = self.the_router().list_held(pod, most, cursor)
            shown.extend(map(block_text, page))
        return " ".join(sorted(shown))

    def do_decide(self, rest: str) -> str:
        return self.decided(self.the_router().decide(**self.request(Arguments.read(rest))))

    def do_dispatch(self, rest: str) -> str:
        a = Arguments.read(rest)
        dispatch = self.the_router().dispatch(**self.request(a))
        self.tickets[a.positional[0]] = dispatch.ticket
        contended = str(dispatch.contended).lower()
        return f"{self.decided(dispatch.decision)} retries={dispatch.retries} contended={contended}"

    def do_first_token(self, rest: str) -> bool:
        return self.the_router().first_token(self.tickets[rest])

    def do_finish(self, rest: str) -> bool:
        a = Arguments.read(rest)
        ticket, how = self.tickets[a.positional[0]], cast(Any, a.positional[1])
        cached = int(a.named["cached"]) if "cached" in a.named else None
        return self.the_router().finish(ticket, how, engine_cached_tokens=cached)

    def do_outcome(self, rest: str) -> str:
        a = Arguments.read(rest)
        ticket, how = self.tickets[a.positional[0]], cast(Any, a.positional[1])
        cached = int(a.named["cached"]) if "cached" in a.named else None
        router = self.the_router()
        return router.log_outcome(ticket, how, engine_cached_tokens=cached, now=a.now())

    def do_recorded(self, rest: str) -> str:
        return self.line

    def do_replay(self, rest: str) -> bool:
        return log_replay(self.line, rest)["as_recorded"]

    def do_snapshot(self, rest: str) -> None:
        self.snapshot = self.the_router().snapshot(Arguments.read(rest).now())

    def do_restore(self, rest: str) -> str:
        a = Arguments.read(rest)
        keep = int(a.named.get("keep", len(self.snapshot)))
        report = self.the_router().restore(self.snapshot[:keep], a.now())
        self.learn()
        return json.dumps(report, separators=(",", ":"))

    def do_expire(self, rest: str) -> int:
        return self.the_router().expire(Arguments.read(rest).now())

    def do_token(self, rest: str) -> None:
        a = Arguments.read(rest)
        if self.last is None:
            raise WrongTable("a token before any decision")
        self.tokens[a.positional[0]] = self.the_router().session_token(self.last, a.now())

    def do_counters(self, rest: str) -> str:
        return " ".join(f"{name}={count}" for name, count in self.the_router().counters().items())

    def do_stream(self, rest: str) -> str:
        stream = self.the_router().stream(self.pod(rest))
        names = {"stored": "blocks_stored", "removed": "blocks_removed"}
        shown = [
            f"{name}={cast(Any, stream)[names.get(name, name)]}"
            for name in (
                "batches",
                "events",
                "stored",
                "removed",
                "gaps",
                "restarts",
                "resyncs",
            )
        ]
        shown += [f"ignored.{reason}={count}" for reason, count in stream["ignored"].items()]
        return " ".join(shown)

    def do_trust(self, rest: str) -> str:
        return self.the_router().trust(self.pod(rest))

    def do_says(self, rest: str) -> None:
        assert rest in str(self.explanation), f"{rest!r} is not in:\n{self.explanation}"

    def do_reset(self, rest: str) -> None:
        self.the_router().reset()
        self.learn()
