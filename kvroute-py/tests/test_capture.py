"""A capture of real engines, replayed: what they found in their caches is what the router says.

The format is described in testdata/captures/README.md.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import TESTDATA

from kvroute import BlockHasher, CacheDomain, HashContext, Lora, PodId, Router

CAPTURE = TESTDATA / "captures" / "sim-cbor-small.jsonl.gz"


def lines() -> Iterator[Any]:
    with gzip.open(CAPTURE, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def hasher(header: Any, is_native: bool) -> BlockHasher:
    if not is_native:
        return BlockHasher.own(header["block_size"])
    seed = header["pythonhashseed"]
    made = BlockHasher.vllm(
        header["block_size"],
        algorithm=header["hash_algo"],
        version=header["vllm"],
        python_hash_seed=seed,
    )
    assert made.none_hash == bytes.fromhex(header["none_hash"])
    return made


@pytest.mark.parametrize("is_native", [True, False], ids=["native", "translated"])
def test_every_answer_of_the_capture_is_reproduced(is_native: bool) -> None:
    capture = lines()
    header = next(capture)
    domain = CacheDomain("capture", hasher(header, is_native))
    assert domain.is_native == is_native
    router = Router()
    pods: list[PodId] = [
        router.add_pod(f"pod-{at}", domain=domain, events={"on_gap": "replay"})
        for at in range(len(header["pods"]))
    ]

    def tokens_held(token_ids: list[int], context: HashContext) -> list[int]:
        found = router.lookup(domain, np.array(token_ids, np.uint32), context)
        blocks = {found.pod_id: found.blocks.total for found in found}
        return [blocks.get(pod, 0) * domain.block_size for pod in pods]

    batches = queries = hits = 0
    for line in capture:
        if "b" in line:
            report = router.apply(pods[line["b"]], line["s"], base64.b64decode(line["p"]))
            assert report.outcome == "applied", report
            batches += 1
            continue
        context = HashContext(
            lora=(Lora(line["lora"][0], path=line["lora"][1]) if line.get("lora") else None),
            cache_salt=line.get("salt"),
        )
        assert tokens_held(line["t"], context) == line["cached"], line["q"]
        # The engine's other answer is without the rule that the last token is computed: as if it were
        # followed by another.
        assert tokens_held([*line["t"], 0], context) == line["full"], line["q"]
        queries += 1
        hits += sum(cached > 0 for cached in line["cached"])
    assert (batches, queries, hits) == (1200, 199, 697)
    assert {router.trust(pod) for pod in pods} == {"exact"}
