"""A request that is not answered, and why."""

import json
from typing import Any

_CODES = {
    400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 404: "RESOURCE_DOES_NOT_EXIST", 405: "ENDPOINT_NOT_FOUND",
    408: "REQUEST_TIMEOUT", 413: "REQUEST_LIMIT_EXCEEDED", 415: "BAD_REQUEST", 422: "INVALID_PARAMETER_VALUE",
    431: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE",
}  # fmt: skip


class Refused(Exception):
    """An answer with a status of 400 and more.

    Attributes:
        status: The HTTP status.
        message: One line.
        about: `field`, `expected` and `got`, where they say more.
    """

    def __init__(self, status: int, message: str, **about: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.about = about
        self.who: Any = None  # the version that refused it, where that is not the one that answers now

    def body(self) -> bytes:
        """The answer's body: `error_code` and `message` as MLflow's server has them, and what is known besides."""
        said = {"error_code": _CODES.get(self.status, "BAD_REQUEST"), "message": self.message, **self.about}
        return json.dumps(said, ensure_ascii=False).encode("utf-8", "replace")
