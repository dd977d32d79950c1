"""Types of the dicts that a router answers to those who watch it."""

# Annotations are kept as objects: as texts, NotRequired would not be seen at run time.
from typing import Literal, NotRequired, TypeAlias, TypedDict

from .config import Role

__all__ = [
    "AdapterFit",
    "AuditDict",
    "BookingsDict",
    "DroppedDict",
    "ExplanationDict",
    "IndexStatus",
    "LoadDict",
    "PodExplanationDict",
    "PodStatus",
    "PredictedDict",
    "ProfileRecordDict",
    "Reason",
    "Refusal",
    "ReplayedDict",
    "RestoreReport",
    "RestoredBlocks",
    "RestoredPod",
    "RouterCounters",
    "RouterStatus",
    "ScoreDict",
    "ScoresDict",
    "StreamCounters",
    "Trust",
]

Trust: TypeAlias = Literal["exact", "degraded", "approximate", "load-only"]
"""How far a pod's view is to be believed."""

Reason: TypeAlias = Literal["picked", "spilled", "warm-up"]
"""Why a pod was taken."""

Refusal: TypeAlias = Literal[
    "unknown-domain", "other-domain", "other-hashes", "other-options", "in-use"
]
"""Why a pod was given nothing of a snapshot: the router knows no cache domain of that name; the pod
is here in another one; the domain hashes differently here; the pod's options make another view of
its stream; or events came to it here before."""

AdapterFit: TypeAlias = Literal["running", "waiting", "room", "full", "unknown"]
"""How a pod stands to the LoRA adapter that a request asks for."""


class RouterCounters(TypedDict):
    """What a router has in flight and remembers, and what befell it."""

    in_flight: int
    sessions: int
    expired: int
    untracked: int


class IndexStatus(TypedDict):
    """Blocks that events announced; bytes of blocks and their holders; bytes of the pods' views."""

    blocks: int
    bytes: int
    view_bytes: int


class LoadDict(TypedDict):
    """What a pod last said of its load."""

    running: int
    waiting: int
    kv_usage: float


class BookingsDict(TypedDict):
    """What routers have in flight on a pod."""

    requests: int
    prefill_tokens: int


class AuditDict(TypedDict):
    """How a pod's view compared with what its engine counted when requests finished."""

    agreed: int
    overestimated: int
    underestimated: int


class StreamCounters(TypedDict):
    """What happened to a pod's stream of events; ``ignored`` by reason, where there was any."""

    batches: int
    events: int
    blocks_stored: int
    blocks_removed: int
    blocks_refused: int
    unknown_removals: int
    parked: int
    clears: int
    gaps: int
    restarts: int
    resyncs: int
    ignored: dict[str, int]


class PredictedDict(TypedDict):
    """What the router sent to a pod, in blocks; ``refused``: for want of memory."""

    blocks: int
    refused: int


class PodStatus(TypedDict):
    """A pod at one moment."""

    id: int
    name: str
    dp_rank: int
    domain: str
    role: Role
    labels: dict[str, str]
    capacity: float
    accepting: bool
    trust: Trust
    load: LoadDict | None
    overloaded: bool
    failures: int
    booked: BookingsDict
    booked_by_peers: BookingsDict
    audit: AuditDict
    stream: StreamCounters
    parked_blocks: int
    predicted: PredictedDict


class RouterStatus(TypedDict):
    """A router at one moment."""

    counters: RouterCounters
    index: IndexStatus
    pods: list[PodStatus]


class ScoreDict(TypedDict):
    """One scorer's part in a pod's total: ``value`` 0 to 1, times ``weight``."""

    scorer: str
    value: float
    weight: float


class PodExplanationDict(TypedDict):
    """One pod's part in a decision; ``matched_blocks`` are pairs of tier and blocks."""

    id: int
    pod: str
    dp_rank: int
    role: Role
    trust: Trust
    block_size: int
    searchable_blocks: int
    matched_blocks: list[list[str | int]]
    predicted_blocks: int
    speculative_blocks: int
    known_blocks: int
    uncached_tokens: int
    booked: BookingsDict
    load: LoadDict | None
    in_flight: int
    capacity: float
    overloaded: bool
    adapter: AdapterFit | None
    dropped_by: str | None
    scores: list[ScoreDict]
    total: float
    note: str | None


class ExplanationDict(TypedDict):
    """Why a request went where it went; ``picked``, ``overruled`` and ``fallbacks`` are rows of ``pods``."""

    profile: str
    picker: str
    prompt_tokens: int
    session: str | None
    picked: int | None
    reason: Reason
    overruled: int | None
    unused: str | None
    fallbacks: list[int]
    not_sampled: int
    pods: list[PodExplanationDict]
    prefill: "ExplanationDict | None"


class DroppedDict(TypedDict):
    """A pod that a filter dropped: its place in the line's pods, and the filter."""

    pod: int
    by: str


class ScoresDict(TypedDict):
    """What a scorer said of the pods that were kept: ``values`` 0 to 1, times ``weight``."""

    scorer: str
    weight: float
    values: list[float]


class ProfileRecordDict(TypedDict):
    """How a profile chose; numbers of pods are places in the line's pods."""

    profile: str
    picker: str
    dropped: NotRequired[list[DroppedDict]]
    kept: list[int]
    scores: NotRequired[list[ScoresDict]]
    totals: NotRequired[list[float]]
    picked: NotRequired[int]
    reason: Reason
    overruled: NotRequired[int]
    fallbacks: NotRequired[list[int]]
    unused: NotRequired[str]
    matched_tokens: NotRequired[int]
    uncached_tokens: NotRequired[int]


class ReplayedDict(TypedDict):
    """What a policy makes of a recorded decision."""

    as_recorded: bool
    decode: ProfileRecordDict
    prefill: NotRequired[ProfileRecordDict]


class RestoredBlocks(TypedDict):
    """Blocks a pod has of a snapshot: held, once for each group and tier; predicted; without room."""

    held: int
    predicted: int
    refused: int


class RestoredPod(TypedDict):
    """What became of a pod of a snapshot: ``id`` is None if it is not here; ``refusal`` is why it was
    given nothing, and then ``blocks`` is None."""

    name: str
    dp_rank: int
    id: int | None
    added: bool
    blocks: RestoredBlocks | None
    refusal: Refusal | None


class RestoreReport(TypedDict):
    """What became of a snapshot: its pods, and how many of its sessions the router has and has not."""

    pods: list[RestoredPod]
    sessions: int
    sessions_left_out: int
