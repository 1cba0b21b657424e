"""Requests to servers on this machine, which no proxy is to be asked for."""

import urllib.request
from typing import Any

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def opened(asked: str | urllib.request.Request, seconds: float) -> Any:
    """The answer of a server on this machine, to be closed: whatever `http_proxy` says, and without `no_proxy`."""
    return _opener.open(asked, timeout=seconds)
