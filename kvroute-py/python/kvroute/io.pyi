# What everything is and does is in its docstrings: help(kvroute.io.Fleet).

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, NotRequired, Self, TypedDict, final

import numpy as np
from numpy.typing import NDArray

from . import Router
from .types import PodId

__all__ = ["Fleet", "LoraDict", "Model", "Prompt", "Target", "Tokenizer", "TokenizerCounters"]

class LoraDict(TypedDict):
    name: str
    path: str
    id: int

class Model(TypedDict):
    name: str
    base: NotRequired[str]
    lora: NotRequired[LoraDict]
    root: NotRequired[str]
    max_model_len: NotRequired[int]
    pods: list[str]
    is_partial: bool

class TokenizerCounters(TypedDict):
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

@final
class Fleet:
    def __new__(
        cls, document: Mapping[str, Any] | str, *, threads: int = 2, hold_events: bool = False
    ) -> Self: ...
    @property
    def router(self) -> Router: ...
    def now(self) -> float: ...
    def target(self, pod: PodId, /) -> Target | None: ...
    def models(self) -> list[Model]: ...
    def status(self) -> dict[str, Any]: ...
    def reconfigure(self, document: Mapping[str, Any] | str, /) -> None: ...
    def release_events(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Target:
    @property
    def name(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def dp_rank(self) -> int: ...
    @property
    def dp_ranks(self) -> int: ...

@final
class Tokenizer:
    def __new__(
        cls,
        folder: str | os.PathLike[str],
        *,
        chat_template: str | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
        trust_request_chat_template: bool = False,
        exclude_tools_when_tool_choice_none: bool = False,
        cache_bytes: int = 268435456,
        max_text_bytes: int = 16777216,
        max_template_steps: int = 5000000,
        threads: int = 2,
        queue: int = 256,
        wait: float = 0.1,
    ) -> Self: ...
    def prompts(
        self,
        endpoint: Literal["completions", "chat.completions", "responses"],
        body: bytes | bytearray | memoryview | str,
        /,
    ) -> list[Prompt]: ...
    def encode(self, text: str, /, *, add_special_tokens: bool) -> NDArray[np.uint32]: ...
    @property
    def segmentation(self) -> str: ...
    def counters(self) -> TokenizerCounters: ...

@final
class Prompt:
    @property
    def token_ids(self) -> NDArray[np.uint32] | None: ...
    @property
    def text(self) -> bytes | None: ...
    @property
    def reason(self) -> str | None: ...
