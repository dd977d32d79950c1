"""The configuration model as types: what ``Router(config)`` takes as a dict.

The keys are those of the YAML and JSON documents, and what they mean is described in their schema,
``kvroute-core/config.schema.json``, with which the tests compare this module. Values are checked when
a router is made of them, with errors that name the place.

>>> from kvroute import Router
>>> from kvroute.config import Config
>>> config: Config = {
...     "domains": {"llama-3.1-8b": {"block_size": 16}},
...     "pods": [{"name": "10.0.0.7:8000", "domain": "llama-3.1-8b"}],
... }
>>> Router(config)
Router(1 pods, 0 requests in flight)
"""

# Annotations are kept as objects: as texts, NotRequired would not be seen at run time.
from typing import Literal, NotRequired, Required, TypeAlias, TypedDict

__all__ = [
    "AdapterConfig",
    "Algorithms",
    "Config",
    "CopyPolicy",
    "CreditsConfig",
    "DomainConfig",
    "EventsConfig",
    "FilterConfig",
    "GapPolicy",
    "GroupConfig",
    "GroupKind",
    "IndexConfig",
    "KvCacheConfig",
    "LoadConfig",
    "MultimodalForm",
    "OwnConfig",
    "OwnScheme",
    "PickerConfig",
    "PodConfig",
    "PolicyConfig",
    "PrefillConfig",
    "Preset",
    "ProfileConfig",
    "RequestsConfig",
    "Role",
    "RoleFilter",
    "SchemeConfig",
    "ScorersConfig",
    "SessionsConfig",
    "SlidingWindow",
    "VllmConfig",
    "VllmEra",
    "VllmScheme",
    "Window",
    "WeightConfig",
]

Role: TypeAlias = Literal["prefill", "decode", "both"]
"""What a pod does for a request."""

CopyPolicy: TypeAlias = Literal["infer", "count", "set"]
"""What a store means of a block that the pod holds already."""

GapPolicy: TypeAlias = Literal["clear", "replay"]
"""What to do when batches are missing."""

MultimodalForm: TypeAlias = Literal["offset", "identifier"]
"""The form in which engines publish multimodal items."""

Algorithms: TypeAlias = Literal[
    "sha256", "sha256_cbor", "xxhash", "xxhash_cbor", "sha256_cbor_64bit"
]
"""vLLM's names of its hash algorithms."""

VllmEra: TypeAlias = Literal["int-lora", "multimodal-identifier", "multimodal-offset", "tagged"]
"""Ranges of vLLM versions whose hashes have one form."""

Preset: TypeAlias = Literal["llm-d-demo"]
"""Profiles known by name."""

PickerConfig: TypeAlias = Literal["max-score"]
"""Which of the rated pods is taken."""


class WeightConfig(TypedDict):
    """A scorer without settings of its own."""

    weight: float


class CreditsConfig(TypedDict, total=False):
    """What a block counts for, by where it lies: 0 to 1."""

    gpu: float
    cpu: float
    disk: float
    external: float


class KvCacheConfig(TypedDict):
    """The ``kv-cache`` scorer."""

    weight: float
    credits: NotRequired[CreditsConfig]


class LoadConfig(TypedDict):
    """The ``load`` scorer; ``limit``: requests from which on a pod scores 0."""

    weight: float
    limit: NotRequired[int]


ScorersConfig = TypedDict(
    "ScorersConfig",
    {
        "kv-cache": KvCacheConfig,
        "prefix": WeightConfig,
        "session": WeightConfig,
        "load": LoadConfig,
        "external": dict[str, WeightConfig],
    },
    total=False,
)
"""Scorers with their weights; one that is not named is not asked."""


class RoleFilter(TypedDict):
    """Keeps the pods that do what this role does."""

    role: Role


FilterConfig: TypeAlias = Literal["accepting", "model"] | RoleFilter
"""A filter, by name."""


class ProfileConfig(TypedDict, total=False):
    """A profile. What is left out is the preset's."""

    filters: list[FilterConfig]
    scorers: ScorersConfig
    picker: PickerConfig
    seed: int


class PrefillConfig(ProfileConfig):
    """When a prompt is computed by a pod of its own, and by which."""

    max_uncached_tokens: Required[int]


class PolicyConfig(TypedDict, total=False):
    """How pods are chosen: a preset, and what is to differ from it."""

    preset: Preset
    decode: ProfileConfig
    prefill: PrefillConfig


class IndexConfig(TypedDict, total=False):
    """Bounds and sizes of the index."""

    shards: int
    max_bytes: int
    max_predicted: int


class SessionsConfig(TypedDict, total=False):
    """What is remembered of conversations; ``key``: 64 hexadecimal digits."""

    ttl_seconds: int
    max: int
    key: str


class RequestsConfig(TypedDict, total=False):
    """What is kept of requests in flight."""

    ttl_seconds: int
    max: int


class OwnConfig(TypedDict, total=False):
    """kvroute's own scheme."""

    seed: int
    multimodal: MultimodalForm


class VllmConfig(TypedDict):
    """vLLM's own hashes. One of ``version`` and ``era`` is needed."""

    algorithm: Algorithms
    version: NotRequired[str]
    era: NotRequired[VllmEra]
    python_hash_seed: NotRequired[str]
    none_hash: NotRequired[str]
    lookahead: NotRequired[int]


class OwnScheme(TypedDict):
    """``{"own": ...}``."""

    own: OwnConfig


class VllmScheme(TypedDict):
    """``{"vllm": ...}``."""

    vllm: VllmConfig


SchemeConfig: TypeAlias = Literal["own"] | OwnScheme | VllmScheme
"""How blocks are hashed."""


class DomainConfig(TypedDict):
    """A set of pods whose blocks mean the same."""

    block_size: int
    scheme: NotRequired[SchemeConfig]
    models: NotRequired[list[str]]


class AdapterConfig(TypedDict):
    """A LoRA adapter."""

    id: int
    name: str


class Window(TypedDict):
    """``window``: tokens; at least 1."""

    window: int


SlidingWindow = TypedDict("SlidingWindow", {"sliding-window": Window})
"""Only the last ``window`` tokens are needed."""

GroupKind: TypeAlias = Literal["full-attention", "unknown"] | SlidingWindow
"""How a KV-cache group attends."""


class GroupConfig(TypedDict):
    """A KV-cache group of a hybrid-attention model."""

    group: int
    kind: GroupKind


class EventsConfig(TypedDict, total=False):
    """How a pod's stream of events is read."""

    copies: CopyPolicy
    on_gap: GapPolicy
    groups: list[GroupConfig]
    adapters: list[AdapterConfig]
    max_parked: int
    max_parked_bytes: int
    max_retired: int


class PodConfig(TypedDict):
    """A pod, one data-parallel rank of an engine."""

    name: str
    domain: str
    dp_rank: NotRequired[int]
    role: NotRequired[Role]
    labels: NotRequired[dict[str, str]]
    events: NotRequired[EventsConfig]


class Config(TypedDict, total=False):
    """Everything that can be said of a router."""

    policy: PolicyConfig
    index: IndexConfig
    text_block_bytes: int
    sessions: SessionsConfig
    requests: RequestsConfig
    domains: dict[str, DomainConfig]
    pods: list[PodConfig]
