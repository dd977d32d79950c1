"""The configuration model as types: what ``Router(config)`` takes as a dict.

The keys are those of the YAML and JSON documents, and what they mean is described in their schema,
``kvroute-core/config.schema.json``, with which the tests compare this module. Values are checked when
a router is made of them, with errors that name the place. All of it is one module, however long, so
that there is one place to import from.

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
    "AffinityConfig",
    "AffinityFilter",
    "Algorithms",
    "Config",
    "CopyPolicy",
    "CostConfig",
    "CreditsConfig",
    "Divert",
    "DomainConfig",
    "EventsConfig",
    "FilterConfig",
    "GapPolicy",
    "GroupConfig",
    "GroupKind",
    "GuardConfig",
    "HealthConfig",
    "HealthFilter",
    "IndexConfig",
    "KvCacheConfig",
    "LabelsConfig",
    "LabelsFilter",
    "LatencyConfig",
    "LoadConfig",
    "ModelConfig",
    "MultimodalForm",
    "Operator",
    "OverloadConfig",
    "OwnConfig",
    "OwnScheme",
    "PickerConfig",
    "PodConfig",
    "PolicyConfig",
    "PrefillConfig",
    "Preset",
    "ProfileConfig",
    "RequestsConfig",
    "RequirementConfig",
    "Role",
    "RoleFilter",
    "SamplingConfig",
    "SchemeConfig",
    "ScorersConfig",
    "SessionsConfig",
    "SlidingWindow",
    "SoftmaxConfig",
    "SoftmaxPicker",
    "Spill",
    "SpillConfig",
    "TokenLoadConfig",
    "TopologyConfig",
    "TopologyLevel",
    "TrustCreditsConfig",
    "VllmConfig",
    "VllmEra",
    "VllmScheme",
    "WarmUpConfig",
    "WarmUpShare",
    "WeightConfig",
    "Window",
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

Preset: TypeAlias = Literal["llm-d-demo", "cost", "affinity"]
"""Profiles known by name."""

Operator: TypeAlias = Literal["in", "not-in", "exists", "does-not-exist"]
"""What is required of a label."""

TrustCreditsConfig = TypedDict(
    "TrustCreditsConfig",
    {"exact": float, "degraded": float, "approximate": float, "load-only": float},
    total=False,
)
"""What matches in a pod's view count for, by its trust level; each 0 to 1."""


class CreditsConfig(TypedDict, total=False):
    """What a block counts for, by where it lies and how far the view is to be believed; each 0 to 1."""

    gpu: float
    cpu: float
    disk: float
    external: float
    trust: TrustCreditsConfig


class ModelConfig(TypedDict, total=False):
    """How long a pod takes to its first token; seconds."""

    least: float
    per_token: float
    per_pair: float
    per_request: float


class WeightConfig(TypedDict):
    """A scorer without settings of its own."""

    weight: float


class KvCacheConfig(TypedDict):
    """The ``kv-cache`` scorer."""

    weight: float
    credits: NotRequired[CreditsConfig]


class CostConfig(TypedDict):
    """The ``cost`` scorer; ``displacement``: what it counts that others' blocks are displaced."""

    weight: float
    displacement: NotRequired[float]
    credits: NotRequired[CreditsConfig]


class LoadConfig(TypedDict):
    """The ``load`` scorer; ``limit``: requests from which on a pod scores 0."""

    weight: float
    limit: NotRequired[int]


class LatencyConfig(TypedDict):
    """The ``latency`` scorer."""

    weight: float
    credits: NotRequired[CreditsConfig]
    model: NotRequired[ModelConfig]


class TokenLoadConfig(TypedDict):
    """The ``token-load`` scorer; ``limit``: tokens of prefill work from which on a pod scores 0."""

    weight: float
    limit: NotRequired[int]
    credits: NotRequired[CreditsConfig]


class TopologyLevel(TypedDict):
    """A label that near pods share; ``distance``: 0 to 1."""

    label: str
    distance: float


class TopologyConfig(TypedDict):
    """The ``topology`` scorer; ``near``: labels of the place where the gateway stands."""

    weight: float
    levels: NotRequired[list[TopologyLevel]]
    near: NotRequired[dict[str, str]]


ScorersConfig = TypedDict(
    "ScorersConfig",
    {
        "kv-cache": KvCacheConfig,
        "prefix": WeightConfig,
        "session": WeightConfig,
        "load": LoadConfig,
        "cost": CostConfig,
        "latency": LatencyConfig,
        "token-load": TokenLoadConfig,
        "queue": WeightConfig,
        "running": WeightConfig,
        "kv-usage": WeightConfig,
        "lora-affinity": WeightConfig,
        "topology": TopologyConfig,
        "no-hit-lru": WeightConfig,
        "external": dict[str, WeightConfig],
    },
    total=False,
)
"""Scorers with their weights; one that is not named is not asked."""


class RoleFilter(TypedDict):
    """Keeps the pods that do what this role does."""

    role: Role


class RequirementConfig(TypedDict):
    """What is required of one label; ``values``: for ``in`` and ``not-in``."""

    label: str
    operator: Operator
    values: NotRequired[list[str]]


class LabelsConfig(TypedDict, total=False):
    """What labels have to be, as in a Kubernetes label selector."""

    match: dict[str, str]
    expressions: list[RequirementConfig]


class LabelsFilter(TypedDict):
    """Keeps the pods with these labels."""

    labels: LabelsConfig


class HealthConfig(TypedDict, total=False):
    """``failures`` in a row leave a pod out for ``pause_seconds`` after the last was dispatched."""

    failures: int
    pause_seconds: int


class HealthFilter(TypedDict):
    """Keeps the pods whose last requests did not all fail; if all fail, all."""

    health: HealthConfig


class AffinityConfig(TypedDict, total=False):
    """The share of the prompt that makes a holder, and how much slower the best holder may be."""

    share: float
    budget_ms: int
    credits: CreditsConfig
    model: ModelConfig


class AffinityFilter(TypedDict):
    """Keeps the pods that have most of the prompt, unless they are too busy."""

    affinity: AffinityConfig


FilterConfig: TypeAlias = (
    Literal["accepting", "model", "subset", "overload", "lora-room"]
    | RoleFilter
    | LabelsFilter
    | HealthFilter
    | AffinityFilter
)
"""A filter, by name."""


class SoftmaxConfig(TypedDict, total=False):
    """``temperature``: above 0."""

    temperature: float


class SoftmaxPicker(TypedDict):
    """A softmax over the totals."""

    softmax: SoftmaxConfig


PickerConfig: TypeAlias = Literal["max-score", "weighted-random", "power-of-two"] | SoftmaxPicker
"""Which of the rated pods is taken."""


class WarmUpShare(TypedDict, total=False):
    """``share`` of the requests of which no pod has half; until a pod was sent ``tokens`` of work."""

    share: float
    tokens: int


class Divert(TypedDict):
    """New pods get a share of the requests of which no pod has much."""

    divert: WarmUpShare


WarmUpConfig: TypeAlias = Literal["none"] | Divert
"""Whether new pods get requests of which no pod has much."""


class SpillConfig(TypedDict, total=False):
    """When a pod is too busy, and on how many pods a prefix is wanted at most."""

    relative: float
    absolute: int
    max_replicas: int


class Spill(TypedDict):
    """The least busy pod takes the request, and has its prefix from then on."""

    spill: SpillConfig


GuardConfig: TypeAlias = Literal["none"] | Spill
"""What happens if the pod that was picked is much busier than the others."""


class ProfileConfig(TypedDict, total=False):
    """A profile. What is left out is the preset's."""

    filters: list[FilterConfig]
    scorers: ScorersConfig
    picker: PickerConfig
    warm_up: WarmUpConfig
    guard: GuardConfig
    fallbacks: int
    seed: int


class PrefillConfig(ProfileConfig, total=False):
    """When a prompt is computed by a pod of its own, and by which."""

    max_uncached_tokens: Required[int]
    min_prompt_tokens: int
    max_prefill_load: int


class SamplingConfig(TypedDict, total=False):
    """Which pods are looked at in a fleet of more than ``above``: holders, and others by lot."""

    above: int
    holders: int
    others: int


class PolicyConfig(TypedDict, total=False):
    """How pods are chosen: a preset, and what is to differ from it."""

    preset: Preset
    sampling: SamplingConfig
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
    speculation_ms: int


class OverloadConfig(TypedDict, total=False):
    """From when on a pod counts as overloaded: if a load report reaches any of the two."""

    waiting: int
    kv_usage: float


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
    capacity: NotRequired[float]
    events: NotRequired[EventsConfig]


class Config(TypedDict, total=False):
    """Everything that can be said of a router."""

    policy: PolicyConfig
    index: IndexConfig
    text_block_bytes: int
    sessions: SessionsConfig
    requests: RequestsConfig
    overload: OverloadConfig
    domains: dict[str, DomainConfig]
    pods: list[PodConfig]
