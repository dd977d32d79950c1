"""What feeds a router from real engines: pods, their KV events and loads; prompts' token ids.

``Fleet`` keeps a router in step with pods that it finds and asks by itself; ``Tokenizer`` turns the
bodies of requests into the token ids that the engine will compute.

It is in the package kvroute-io: ``pip install 'kvroute[io]'``.
"""

from __future__ import annotations

import sys
from typing import NotRequired, TypedDict

# Not `from . import`: kvroute's own is no attribute of the package if kvroute-io's was chosen.
_native = sys.modules["kvroute._kvroute"]
if not hasattr(_native, "_io"):
    raise ImportError("kvroute.io needs the extra io: pip install 'kvroute[io]'", name="kvroute.io")

Fleet = _native._io.Fleet
Prompt = _native._io.Prompt
Target = _native._io.Target
Tokenizer = _native._io.Tokenizer

__all__ = ["Fleet", "LoraDict", "Model", "Prompt", "Target", "Tokenizer", "TokenizerCounters"]


class LoraDict(TypedDict):
    """A LoRA adapter as its requests' ``kvroute.Lora`` needs it."""

    name: str
    path: str
    id: int


class Model(TypedDict):
    """A model or adapter that pods serve.

    An adapter has ``base``, the model that its requests name in ``model``. If it ``is_partial``, not
    all pods of ``base`` serve it, and requests need ``pods`` as their ``subset``.
    """

    name: str
    base: NotRequired[str]
    lora: NotRequired[LoraDict]
    root: NotRequired[str]
    max_model_len: NotRequired[int]
    pods: list[str]
    is_partial: bool


class TokenizerCounters(TypedDict):
    """What a tokenizer has done: requests that were answered by a thread, or with text because the queue
    was full (``queue_full``), their time was over (``too_late``) or the tokenizer ``panicked``; those
    that stand in the queue; bytes of text whose ids were found in the cache, and that were encoded; what
    is in the cache now, and what made room for it."""

    answered: int
    queue_full: int
    too_late: int
    panicked: int
    waiting: int
    hit_bytes: int
    miss_bytes: int
    segments: int
    cache_bytes: int
    evictions: int
