"""Three pods, a system prompt that two of them hold, one request: where it goes, and why.

Run it with kvroute installed: ``python examples/python/route.py``.
"""

from __future__ import annotations

from kvroute import BlockRemoved, BlockStored, Router
from kvroute.config import Config

BLOCK_SIZE = 16
SYSTEM_PROMPT = list(
    range(1000, 1000 + 10 * BLOCK_SIZE)
)  # token ids, as a tokenizer would give them

config: Config = {
    "domains": {"llama-3.1-8b": {"block_size": BLOCK_SIZE}},
    "pods": [{"name": name, "domain": "llama-3.1-8b"} for name in ("pod-a", "pod-b", "pod-c")],
}


def main() -> None:
    router = Router(config)
    pod_a, pod_b, pod_c = (pod.id for pod in router.pods())

    # What engines publish. From a socket it comes as frames:
    # router.apply(pod, int.from_bytes(frames[1], "big"), frames[2]).
    names = list(range(1, 11))  # the engine's own hashes of its blocks; any will do
    stored = BlockStored(names, token_ids=SYSTEM_PROMPT, block_size=BLOCK_SIZE)
    router.apply_events(pod_a, [stored, BlockRemoved(names[4:])])  # evicted all but four of them
    router.apply_events(pod_b, [stored])

    # What pods report of themselves.
    router.report_load(pod_a, running=2, waiting=0, kv_usage=0.9)
    router.report_load(pod_b, running=5, waiting=0, kv_usage=0.4)
    router.report_load(pod_c, running=0, waiting=0, kv_usage=0.0)

    question = [7, 8, 9]
    dispatch = router.dispatch(SYSTEM_PROMPT + question, session="alice", explain=True)
    decision = dispatch.decision
    print(f"send it to {decision.pod}, rank {decision.dp_rank}")
    print(
        f"{decision.matched_tokens} tokens are cached there, {decision.uncached_tokens} are not\n"
    )
    print(decision.explanation)

    # When the engine answers:
    router.first_token(dispatch.ticket)
    router.finish(dispatch.ticket, engine_cached_tokens=decision.matched_tokens)

    # The next turn of the conversation comes back to the same pod.
    follow_up = router.decide(SYSTEM_PROMPT + question + [10, 11], session="alice")
    print(f"the follow-up goes to {follow_up.pod}")


if __name__ == "__main__":
    main()
