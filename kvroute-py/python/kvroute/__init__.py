"""kvroute routes each LLM request to the pod that already holds its prefix in its KV cache.

``Router`` is the paved way: make one of a configuration, ``apply`` the pods' event streams, and for
each request ``dispatch``, ``first_token`` and ``finish``; ``decide`` is ``dispatch`` without any
effect, and ``explain=True`` says why. ``BlockHasher`` turns token ids into block hashes: an engine's
own or kvroute's.

Everything may be shared between threads; the GIL is released while long prompts and big payloads
are worked on. Nothing here does I/O, starts threads or keeps what is passed in. What feeds a router
from real engines is in ``kvroute.io``, which needs the extra: ``pip install 'kvroute[io]'``.
"""

from . import _native  # First: what is imported from _kvroute is what it chose.
from . import config, errors, status, types
from ._kvroute import (
    AllBlocksCleared,
    ApplyReport,
    BlockHasher,
    BlockRemoved,
    BlockStored,
    CacheDomain,
    Decision,
    Dispatch,
    EventBatch,
    Explanation,
    HashContext,
    HashCursor,
    HeldChanges,
    LoadReport,
    Lora,
    MultimodalItem,
    NumberedEvent,
    Pod,
    PodMatch,
    Prefill,
    Router,
    Skipped,
    TierBlocks,
    __version__,
    check_config,
    config_from_endpoint_picker,
    config_schema,
    decode_batch,
    decode_trtllm,
    log_replay,
    log_schema,
)
from .errors import (
    DecodeError,
    InternalError,
    InvalidInputError,
    KvrouteError,
    LimitError,
    NoCandidateError,
    NotReproducibleError,
    RequestError,
    TokenizerError,
    UnknownPodError,
)
from .types import PodId, Ticket

__all__ = [
    "AllBlocksCleared",
    "ApplyReport",
    "BlockHasher",
    "BlockRemoved",
    "BlockStored",
    "CacheDomain",
    "Decision",
    "DecodeError",
    "Dispatch",
    "EventBatch",
    "Explanation",
    "HashContext",
    "HashCursor",
    "HeldChanges",
    "InternalError",
    "InvalidInputError",
    "KvrouteError",
    "LimitError",
    "LoadReport",
    "Lora",
    "MultimodalItem",
    "NoCandidateError",
    "NotReproducibleError",
    "NumberedEvent",
    "Pod",
    "PodId",
    "PodMatch",
    "Prefill",
    "RequestError",
    "Router",
    "Skipped",
    "Ticket",
    "TierBlocks",
    "TokenizerError",
    "UnknownPodError",
    "__version__",
    "check_config",
    "config",
    "config_from_endpoint_picker",
    "config_schema",
    "decode_batch",
    "decode_trtllm",
    "errors",
    "log_replay",
    "log_schema",
    "status",
    "types",
]
