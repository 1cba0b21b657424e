"""A request's body, read: JSON in MLflow's four forms, CSV or Parquet, checked against the version's signature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.serving.protocol.body_limits import check_rows
from dovetail.serving.protocol.csv_body import read_foreign_csv
from dovetail.serving.protocol.json_body import read_json
from dovetail.serving.protocol.parquet_body import read_parquet
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
TYPES = (JSON, CSV, PARQUET)


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """What is asked of a model: columns of `rows` values each, all of them lists; `id` is what the client calls it."""

    columns: Mapping[str, list[Any]]
    rows: int
    method: str
    id: str = ""


def read(body: bytes, content_type: str, signature: Signature, most_rows: int) -> PredictionRequest:
    """The question in a request's body.

    Raises:
        Refused: 400 when it cannot be read, 415 for another type or character set, 422 when it is not what the model
            takes.
    """
    mime = mime_of(content_type)
    if mime == JSON:
        columns, rows, params = read_json(body, signature.names, most_rows)
    else:
        columns, params = (read_foreign_csv if mime == CSV else read_parquet)(body, signature, most_rows), None
        rows = len(next(iter(columns.values()), ()))
        check_rows(rows, most_rows)
    if not rows:
        raise Refused(422, "there are no rows to predict", expected="at least one row", got="none")
    return PredictionRequest(signature.check(columns), rows, signature.method(params))


def mime_of(content_type: str) -> str:
    """The type of a body.

    Raises:
        Refused: 415 when it is none that is read here.
    """
    if content_type == JSON:
        return JSON
    mime, *parameters = (part.strip() for part in content_type.split(";"))
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.lower() != "charset" or value.strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise Refused(415, "the body has to be UTF-8", field="content-type", expected="charset=utf-8",
                           got=f"{name}={value}"[:80])  # fmt: skip
    if mime.lower() not in TYPES:
        raise Refused(415, "the body is of no type that is read here", field="content-type",
                       expected=" or ".join(TYPES), got=mime[:80] or "none")  # fmt: skip
    return mime.lower()
