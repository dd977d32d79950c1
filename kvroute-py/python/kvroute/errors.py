"""What kvroute raises. Every message names what is wrong and where, and nothing was changed.

Arguments of a wrong *type* (a float among token ids, a ``str`` for a payload) raise Python's
``TypeError``, as everywhere; everything else that kvroute refuses is a :class:`KvrouteError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._kvroute import Explanation

__all__ = [
    "DecodeError",
    "InternalError",
    "InvalidInputError",
    "KvrouteError",
    "LimitError",
    "NoCandidateError",
    "NotReproducibleError",
    "RequestError",
    "TokenizerError",
    "UnknownPodError",
]


class KvrouteError(Exception):
    """Base of everything that kvroute itself raises."""


class InvalidInputError(KvrouteError, ValueError):
    """An argument or option is out of range, of the wrong shape, or contradicts another."""


class DecodeError(KvrouteError, ValueError):
    """Bytes from an engine that are not the format they should be."""


class NotReproducibleError(KvrouteError):
    """A block hash that cannot be reproduced outside the engine."""


class UnknownPodError(KvrouteError, LookupError):
    """A pod, or a cache domain, that this router does not know."""


class NoCandidateError(KvrouteError):
    """Every pod was dropped by a filter, or there is none."""

    explanation: Explanation | None = None
    """Which filter dropped which pod, where ``explain=True`` asked for it."""
    record: str | None = None
    """The line of a decision log, where ``record=True`` asked for it."""


class LimitError(KvrouteError):
    """A configured bound was reached."""


class TokenizerError(KvrouteError):
    """A model's tokenizer cannot be read, is not what it should be, or fails (``kvroute.io``)."""


class RequestError(KvrouteError, ValueError):
    """A request that its engine would refuse as well: its body, or what its chat template says of it
    (``kvroute.io``)."""


class InternalError(KvrouteError):
    """A bug in kvroute: its native code panicked. The process goes on, and so may the router."""
