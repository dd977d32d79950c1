"""The few MessagePack forms that an engine's batch needs, so that tests need no library for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def array(*items: bytes) -> bytes:
    return b"\xdd" + len(items).to_bytes(4, "big") + b"".join(items)


def text(value: str) -> bytes:
    return b"\xd9" + bytes([len(value)]) + value.encode()


def uint(value: int) -> bytes:
    return b"\xcf" + value.to_bytes(8, "big")


NIL = b"\xc0"


def uints(values: NDArray[np.uint32] | Sequence[int]) -> bytes:
    """``[n]``, also millions of them."""
    numbers = np.asarray(values, ">u4")
    packed = np.empty((len(numbers), 5), np.uint8)
    packed[:, 0] = 0xCE
    packed[:, 1:] = numbers.view(np.uint8).reshape(-1, 4)
    return b"\xdd" + len(numbers).to_bytes(4, "big") + packed.tobytes()


def stored_batch(
    block_hashes: NDArray[np.uint32] | Sequence[int],
    token_ids: NDArray[np.uint32] | Sequence[int],
    block_size: int,
) -> bytes:
    """What vLLM 0.10 publishes for blocks from the start of a prompt."""
    event = array(
        text("BlockStored"),
        uints(block_hashes),
        NIL,
        uints(token_ids),
        uint(block_size),
        NIL,
        text("GPU"),
    )
    return array(b"\xcb" + bytes(8), array(event), uint(0))
