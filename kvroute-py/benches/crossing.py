"""What one decision costs when Python asks for it; `cargo xtask crossing` puts it beside other languages.

The workload is that of `benches/examples/crossing.rs`: 64 pods of one domain with blocks of 16; the first holds
the whole prompt of token ids 0, 1, 2, ... Each line is `crossing <language> <tokens> <nanoseconds>`; "python"
passes a numpy array, "python-list" a list, "python-explain" an array with ``explain=True``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from kvroute import BlockStored, Router

PODS = 64
BLOCK_SIZE = 16
ROUNDS = 15


def nanoseconds(decide: Callable[[], object], calls: int) -> float:
    """Of one call, the median of some rounds."""
    rounds = []
    for warm in range(ROUNDS + 1):
        start = time.perf_counter_ns()
        for _ in range(calls):
            decide()
        if warm:
            rounds.append((time.perf_counter_ns() - start) / calls)
    return statistics.median(rounds)


def main() -> None:
    router = Router(
        {
            "domains": {"m": {"block_size": BLOCK_SIZE}},
            "pods": [{"name": f"pod-{pod}", "domain": "m"} for pod in range(PODS)],
        }
    )
    everything = np.arange(32 * 1024, dtype=np.uint32)
    names = np.arange(1, len(everything) // BLOCK_SIZE + 1, dtype=np.uint64)
    stored = BlockStored(names, token_ids=everything, block_size=BLOCK_SIZE)
    router.apply_events(router.pods()[0].id, [stored])

    for tokens in (16, 1024, 8 * 1024, 32 * 1024):
        array = everything[:tokens]
        ids = array.tolist()
        calls = max(2_000_000 // (tokens + 100), 20)
        ways: dict[str, Callable[[], object]] = {
            "python": lambda: router.decide(array, now=0.0),
            "python-list": lambda: router.decide(ids, now=0.0),
            "python-explain": lambda: router.decide(array, now=0.0, explain=True),
        }
        for name, decide in ways.items():
            few = calls if name == "python" else calls // 4 + 1
            print(f"crossing {name} {tokens} {nanoseconds(decide, few):.0f}")


if __name__ == "__main__":
    main()
