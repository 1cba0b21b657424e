"""What is answered to a request, before it is sent."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dovetail.serving.engine.version_loader import ServedVersion

Scope = dict[str, Any]
JSON = "application/json"
Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        version: The one that answered, and the headers that name it.
        more: Headers besides.
        rows: That were predicted.
        after: What is left to do once it is sent.
    """

    status: int
    content: bytes
    kind: str = JSON
    version: tuple[str, list[Header]] = ("", [])
    more: tuple[Header, ...] = ()
    rows: int = 0
    after: Callable[[], None] | None = None


def named(model: str, loaded: ServedVersion | None) -> tuple[str, list[Header]]:
    """A version, and the headers that name it."""
    version = str(loaded.copy.version) if loaded else ""
    return version, [(b"x-dovetail-model", model.encode()), (b"x-dovetail-version", version.encode())]


Look = Callable[[Scope], Reply]
Post = Callable[..., Awaitable[Reply]]  # of scope, headers, receive
