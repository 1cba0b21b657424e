"""Ids of answered requests that say themselves whether this server gave them, and for how many rows."""

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from dovetail.serving.key_file import key
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.settings import ENV_ID_KEY

_KEY_FILE = "request-ids.key"
_RANDOM, _ROWS, _MAC = 16, 6, 10  # hexadecimal digits: 32 in all
_AT_ONCE = 256  # ids for which random digits are drawn
_MOST_ROWS = (1 << 4 * _ROWS) - 1


class RequestIds:
    """Makes ids and checks them. Servers know each other's that share a folder of copies, or were given one key."""

    def __init__(self, folder: Path) -> None:
        """Use the environment's key, else that in `folder`; where it cannot be kept, one that ends with this server."""
        given = os.environ.get(ENV_ID_KEY, "")
        self._key = sha256(given.encode()).digest() if given else key(folder / _KEY_FILE)
        self._random = ""  # drawn, and not used yet: to ask the system for each hands Python's lock to other threads

    def make(self, rows: int, model: str) -> str:
        """An id for a model's answer of so many rows: 32 hexadecimal digits."""
        if not self._random:
            self._random = secrets.token_hex(_RANDOM // 2 * _AT_ONCE)
        random, self._random = self._random[:_RANDOM], self._random[_RANDOM:]
        begin = random + f"{min(rows, _MOST_ROWS):0{_ROWS}x}"
        return begin + self._mac(begin, model)

    def check(self, request_id: str, labels: int, model: str) -> None:
        """Refuse feedback that is about no answer of the model, or has more labels than that has rows.

        Raises:
            Refused: 404 for an id that was not given here, 422 for more labels than rows.
        """
        begin, mac = request_id[:-_MAC], request_id[-_MAC:]
        if not hmac.compare_digest(mac.encode(), self._mac(begin, model).encode()):
            raise Refused(404, f"request_id is not one that this server gave for {model}", field="request_id",
                          expected=f"the X-Request-Id of an answer of {model}", got=request_id[:80])  # fmt: skip
        rows = int(begin[_RANDOM:], 16)
        if labels > rows and rows < _MOST_ROWS:
            raise Refused(422, f"{labels} labels for {rows} rows", field="labels", expected=f"at most {rows} labels",
                          got=f"{labels} labels")  # fmt: skip

    def _mac(self, begin: str, model: str) -> str:
        return hmac.new(self._key, f"{begin}{model}".encode(), sha256).hexdigest()[:_MAC]
