"""Names for what would otherwise be bare integers and unions, for type checkers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NewType, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._kvroute import AllBlocksCleared, BlockRemoved, BlockStored

__all__ = ["EngineHashes", "Event", "ExtraKey", "PodId", "Ticket", "Tier", "TokenIds"]

PodId = NewType("PodId", int)
"""A pod of one router; at run time an int. A pod that comes back is a new one, with another id."""

Ticket = NewType("Ticket", int)
"""A dispatched request of one router; at run time an int. 0 is one that is not tracked."""

TokenIds: TypeAlias = NDArray[np.uint32] | Sequence[int]
"""A prompt, ``[n]``: a numpy array of uint32 (copied, never kept), or any sequence of ints."""

EngineHashes: TypeAlias = NDArray[np.uint64] | Sequence[int] | Sequence[bytes]
"""An engine's names of blocks, ``[n]``: ints of 64 bits, or bytes of which the last 8 count."""

Tier: TypeAlias = Literal["gpu", "cpu", "disk", "external"]
"""Where a block lies, nearest to the computation first."""

ExtraKey: TypeAlias = str | bytes | tuple[str, int]
"""What besides its token ids a block's hash covers: adapter name or salt; embeddings; an item."""

Event: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared
"""One change of one pod's KV cache."""
