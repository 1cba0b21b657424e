"""True labels for an answer that was given, as they come in."""

import json
import re
from collections.abc import Sequence
from typing import Any

import orjson

from dovetail.serving.protocol.json_body import check_size
from dovetail.serving.protocol.refused import Refused

_REQUEST_ID = re.compile(r"[0-9a-f]{32}")


def read_feedback(body: bytes, most_rows: int) -> tuple[str, list[Any]]:
    """The request and its labels: `{"request_id", "labels": [one for each row, null where it is not known]}`.

    Raises:
        Refused: when it is something else.
    """
    form = '{"request_id": "…", "labels": […]}'
    check_size(body, most_rows)
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON: {error}", expected=form) from None
    if not isinstance(said, dict) or set(said) != {"request_id", "labels"}:
        raise Refused(422, "feedback is not what it has to be", expected=form)
    request_id, labels = said["request_id"], said["labels"]
    if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id):
        raise Refused(422, "request_id is not one that this server gave", field="request_id",
                       expected="the X-Request-Id of an answer", got=json.dumps(request_id)[:80])  # fmt: skip
    if not isinstance(labels, list) or not 0 < len(labels) <= most_rows:
        raise Refused(422, "labels is not a list with an entry for each row", field="labels",
                       expected=f"a list of 1 to {most_rows} labels")  # fmt: skip
    for row, label in enumerate(labels):
        if not (label is None or isinstance(label, str | int | float | bool)):
            raise Refused(422, f"labels, row {row}: a label is text, a number, true, false or null", field="labels",
                           expected="a scalar")  # fmt: skip
    return request_id, labels


_LABELS: dict[str, tuple[str, tuple[type, ...]]] = {
    "double": ("a number", (int, float)), "float": ("a number", (int, float)),
    "long": ("a whole number", (int, float)), "integer": ("a whole number", (int, float)),
    "string": ("text", (str,)), "boolean": ("true or false", (bool,)),
}  # fmt: skip


def check_labels(labels: Sequence[Any], output: str | None) -> None:
    """Refuse labels of another type than the version predicts; null is not known yet.

    Args:
        labels: Scalars.
        output: MLflow's type of a prediction; None where it is not known: then any pass.

    Raises:
        Refused: naming the first that is of another.
    """
    if output not in _LABELS:
        return
    expected, types = _LABELS[output]
    whole = output in ("long", "integer")
    for row, label in enumerate(labels):
        fits = isinstance(label, types) and (bool in types or not isinstance(label, bool))
        if label is not None and not (fits and (not whole or isinstance(label, int) or label.is_integer())):
            got = json.dumps(label)[:80]
            raise Refused(422, f"labels, row {row}: expected {expected} or null, got {got}", field="labels",
                          expected=f"{expected} or null", got=got)  # fmt: skip
