"""True labels for an answer that was given, as they come in."""

import json
import re
from typing import Any

import orjson

from dovetail.serving.protocol.rejected import Rejected

_REQUEST_ID = re.compile(r"[0-9a-f]{32}")


def labels_of(body: bytes, most_rows: int) -> tuple[str, list[Any]]:
    """The request and its labels: `{"request_id", "labels": [one for each row, null where it is not known]}`.

    Raises:
        Rejected: when it is something else.
    """
    form = '{"request_id": "…", "labels": […]}'
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(400, f"the body is not JSON: {error}", expected=form) from None
    if not isinstance(said, dict) or set(said) != {"request_id", "labels"}:
        raise Rejected(422, "feedback is not what it has to be", expected=form)
    request_id, labels = said["request_id"], said["labels"]
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise Rejected(422, "request_id is not one that this server gave", field="request_id",
                       expected="the X-Request-Id of an answer", got=json.dumps(request_id)[:80])  # fmt: skip
    if not isinstance(labels, list) or not 0 < len(labels) <= most_rows:
        raise Rejected(422, "labels is not a list with an entry for each row", field="labels",
                       expected=f"a list of 1 to {most_rows} labels")  # fmt: skip
    for row, label in enumerate(labels):
        if not (label is None or isinstance(label, str | int | float | bool)):
            raise Rejected(422, f"labels, row {row}: a label is text, a number, true, false or null", field="labels",
                           expected="a scalar")  # fmt: skip
    return request_id, labels
