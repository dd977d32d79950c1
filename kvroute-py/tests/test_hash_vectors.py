"""Block hashes against vectors that others computed; testdata/hashes/README.md says who."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

import numpy as np
import pytest
from conftest import TESTDATA

from kvroute import (
    BlockHasher,
    HashContext,
    InvalidInputError,
    Lora,
    MultimodalItem,
    NotReproducibleError,
)


def load(name: str) -> Any:
    return json.loads((TESTDATA / "hashes" / name).read_text(encoding="utf-8"))


def tokens(value: Any) -> list[int]:
    if isinstance(value, dict):
        return list(itertools.islice(itertools.cycle(value["repeat"]), value["count"]))
    return list(value)


def low64(digits: str) -> int:
    return int.from_bytes(bytes.fromhex(digits)[-8:], "big")


def lora(value: Any) -> Lora | None:
    return Lora(value["name"], path=value["path"]) if value else None


def items(value: Any, start: str) -> list[MultimodalItem]:
    return [
        MultimodalItem(item["identifier"], start=item[start], length=item["length"])
        for item in value or ()
    ]


def current_context(vector: Any) -> HashContext:
    keys = []
    if embeds := vector.get("prompt_embeds"):
        raw = bytes.fromhex(embeds["bytes_hex"])
        block = len(raw) // embeds["shape"][0] * vector["block_size"]
        keys = [hashlib.sha256(raw[at : at + block]).digest() for at in range(0, len(raw), block)]
    return HashContext(
        lora=lora(vector.get("lora")),
        cache_salt=vector.get("cache_salt"),
        multimodal=items(vector.get("mm"), "offset"),
        prompt_embeds=keys,
    )


def untagged_context(vector: Any) -> HashContext:
    """These vectors give extra keys only, in an older version's form."""
    if vector["id"].endswith("salt_only"):
        return HashContext(cache_salt="tenant-a")
    keys = vector["blocks"][0]["extra_keys"] or []
    identifier = keys[1] if len(keys) > 1 else ""
    identifier = identifier if isinstance(identifier, str) else identifier[0]
    return HashContext(
        lora=Lora("lora-a"),
        cache_salt="tenant-a",
        multimodal=[MultimodalItem(identifier, start=3, length=20)],
    )


def test_every_vllm_root_is_reproduced_or_refused() -> None:
    equal = refused = 0
    for entry in load("vllm.json")["none_hashes"]:
        arguments = {
            "algorithm": entry["algo"],
            "python_hash_seed": entry["pythonhashseed"],
        }
        if entry["none_hash"] is None:
            with pytest.raises(NotReproducibleError, match="set PYTHONHASHSEED"):
                BlockHasher.vllm(16, version="0.32.0", **arguments)
            refused += 1
            continue
        root = bytes.fromhex(entry["none_hash"])
        hasher = BlockHasher.vllm(16, version="0.32.0", **arguments)
        assert hasher.none_hash == root
        assert hasher == BlockHasher.vllm(16, algorithm=entry["algo"], era="tagged", none_hash=root)
        equal += 1
    assert (equal, refused) == (18, 2)


def test_every_vllm_vector_is_reproduced() -> None:
    families: dict[str, tuple[Any, Any]] = {
        "current": ("tagged", current_context),
        "untagged": ("multimodal-offset", untagged_context),
        "untagged_mm_str": ("multimodal-identifier", untagged_context),
        "cbor_64bit": ("int-lora", lambda vector: HashContext()),
    }
    vectors = hashes = 0
    for vector in load("vllm.json")["vectors"]:
        era, make_context = families[vector["family"]]
        context: HashContext = make_context(vector)
        hasher = BlockHasher.vllm(
            vector["block_size"],
            algorithm=vector["algo"],
            era=era,
            python_hash_seed=vector["pythonhashseed"],
        )
        token_ids = np.array(tokens(vector["token_ids"]), np.uint32)
        cursor = hasher.start(context)
        for block in vector["blocks"]:
            if era == "int-lora":
                # One block in the middle has an adapter, which no request would.
                keys = block["extra_keys"]
                context = HashContext(lora=Lora("adapter", id=keys[0]) if keys else None)
            got, cursor = hasher.extend(cursor, token_ids, context, max_blocks=1)
            assert got.tolist() == [low64(block["hash"])] == [block["u64"]], vector["id"]
            assert len(cursor.digest) in (8, 16, 32)
            hashes += 1
        assert cursor.blocks == hasher.block_count(len(token_ids))
        if era != "int-lora":
            whole = hasher.hash(token_ids, context)
            assert whole.tolist() == [block["u64"] for block in vector["blocks"]], vector["id"]
        vectors += 1
    assert (vectors, hashes) == (120, 374)


def test_pickles_are_those_of_cpython() -> None:
    vectors = load("pickle.json")["vectors"]
    hashes = 0
    for vector in vectors:
        root = bytes.fromhex(vector["none_hash"])
        hasher = BlockHasher.vllm(
            vector["block_size"], algorithm="sha256", era="tagged", none_hash=root
        )
        context = HashContext(
            lora=lora(vector.get("lora")),
            cache_salt=vector.get("cache_salt"),
            multimodal=items(vector.get("mm"), "start"),
            prompt_embeds=[bytes.fromhex(key) for key in vector.get("prompt_embeds") or ()],
        )
        got = hasher.hash(tokens(vector["token_ids"]), context)
        indices = vector.get("hash_indices", range(len(got)))
        assert [int(got[at]) for at in indices] == [low64(h) for h in vector["hashes"]], vector[
            "id"
        ]
        hashes += len(vector["hashes"])
    assert (len(vectors), hashes) == (53, 155)


def test_every_llmd_request_key_is_reproduced() -> None:
    keys = 0
    skipped = []
    for vector in load("llm-d.json"):
        algorithm, name = vector["algorithm"], vector["name"]
        if algorithm not in ("cbor-fnv", "xxh64"):
            # Keys of releases before, and of its approximate index: not schemes here.
            skipped.append(algorithm)
            continue
        is_lora = name.startswith("LoRA")
        multimodal = []
        if "extras" in vector:
            expected = [["img-hash-a"], ["img-hash-a", "img-hash-b"], None, ["salt-x"]]
            assert vector["extras"] == expected
            # Items that fall into the blocks as the vector lists them.
            multimodal = [
                MultimodalItem("img-hash-a", start=4, length=20),
                MultimodalItem("img-hash-b", start=24, length=8),
                MultimodalItem("salt-x", start=50, length=100),
            ]
        hasher = BlockHasher.llmd(
            vector["block_size"],
            algorithm=algorithm,
            model="some-base-model" if is_lora else vector["model"],
            seed=vector["seed"],
        )
        context = HashContext(
            lora=Lora(vector["model"]) if is_lora else None, multimodal=multimodal
        )
        got = hasher.hash(tokens(vector["tokens"]), context)
        assert got.tolist() == [int(key) for key in vector["keys"]], name
        keys += len(got)
    assert skipped == [
        "sha256-cbor-64",
        "lmcache-sha256-hex",
        "approx-xxh64",
        "approx-xxh64",
    ]
    assert keys == 109


def test_the_own_scheme_is_that_of_dynamo_and_smg() -> None:
    document = load("own-scheme.json")
    hashes = 0
    for vector in document["vectors"]:
        hasher = BlockHasher.own(vector["block_size"], seed=document["seed"])
        got = hasher.hash(tokens(vector["token_ids"]))
        assert got.tolist() == [int(decimal) for decimal in vector["hashes"]], vector["id"]
        hashes += len(got)
    assert (len(document["vectors"]), hashes) == (10, 2 * (1 + 2 + 33 + 33))


def test_what_cannot_be_hashed_is_refused() -> None:
    with pytest.raises(NotReproducibleError, match="builtin"):
        BlockHasher.vllm(16, algorithm="builtin", version="0.9.2")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="unknown vLLM hash algorithm"):
        BlockHasher.vllm(16, algorithm="md5", version="0.32.0")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="exactly one of them"):
        BlockHasher.vllm(16, algorithm="sha256")
    with pytest.raises(InvalidInputError, match="only one of them"):
        BlockHasher.vllm(
            16,
            algorithm="sha256",
            era="tagged",
            python_hash_seed="0",
            none_hash=bytes(32),
        )
    with pytest.raises(InvalidInputError, match="block size 0 is not in 1"):
        BlockHasher.own(0)
    with pytest.raises(InvalidInputError, match="empty name"):
        BlockHasher.own(4).hash([1, 2, 3, 4], HashContext(lora=Lora("")))
    out_of_order = [
        MultimodalItem("b", start=9, length=1),
        MultimodalItem("a", start=1, length=1),
    ]
    with pytest.raises(InvalidInputError, match="order them by start"):
        BlockHasher.own(4).hash([1, 2, 3, 4], HashContext(multimodal=out_of_order))
    cursor = BlockHasher.own(8).start()
    with pytest.raises(InvalidInputError, match="another scheme or block size"):
        BlockHasher.own(4).extend(cursor, [1, 2, 3, 4])
