"""A request's body, read: JSON in MLflow's four forms, CSV or Parquet, checked against the version's signature."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import orjson

from dovetail.serving.protocol.rejected import Rejected
from dovetail.serving.protocol.signature import Column, Signature, kind, transposed

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
TYPES = (JSON, CSV, PARQUET)
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CELLS = 1_000_000  # values of a table that is made of rows with unlike columns
_UNPACKED = 1 << 28  # bytes of text that a Parquet file may unpack to
ARRAY = ""  # the one column of a request to a model without signature that came as a bare list


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a model: columns of `rows` values each, all of them lists."""

    columns: Mapping[str, list[Any]]
    rows: int
    method: str


def read(body: bytes, content_type: str, signature: Signature, most_rows: int) -> Question:
    """The question in a request's body.

    Raises:
        Rejected: 400 when it cannot be read, 415 for another type or character set, 422 when it is not what the model
            takes.
    """
    mime = _mime(content_type)
    if mime == JSON:
        wanted = None if signature.columns is None else {column.name for column in signature.columns}
        columns, rows, params = _json(body, wanted, most_rows)
    else:
        columns, params = (_csv if mime == CSV else _parquet)(body, signature, most_rows), None
        rows = len(next(iter(columns.values()), ()))
        _few(rows, most_rows)
    if not rows:
        raise Rejected(422, "there are no rows to predict", expected="at least one row", got="none")
    return Question(signature.check(columns), rows, signature.method(params))


def _mime(content_type: str) -> str:
    if content_type == JSON:
        return JSON
    mime, *parameters = (part.strip() for part in content_type.split(";"))
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name.lower() != "charset" or value.strip('"').lower() not in ("utf-8", "utf8", "us-ascii"):
            raise Rejected(415, "the body has to be UTF-8", field="content-type", expected="charset=utf-8",
                           got=f"{name}={value}"[:80])  # fmt: skip
    if mime.lower() not in TYPES:
        raise Rejected(415, "the body is of no type that is read here", field="content-type",
                       expected=" or ".join(TYPES), got=mime[:80] or "none")  # fmt: skip
    return mime.lower()


def _json(body: bytes, wanted: set[str] | None, most_rows: int) -> tuple[dict[str, list[Any]], int, object]:
    document = _parse(body)
    if not isinstance(document, dict):
        raise Rejected(400, "the body is not an object", expected=f"an object with {_FORMS_SAID}", got=kind(document))
    forms = [form for form in FORMS if form in document]
    if len(forms) != 1:
        got = ", ".join(str(key)[:40] for key in list(document)[:10]) or "an empty object"
        raise Rejected(400, f"the body needs {_FORMS_SAID}", expected=_FORMS_SAID, got=got)
    form = forms[0]
    content = document[form]
    if form == "dataframe_split":
        columns, rows = _split(content, most_rows)
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        columns, rows = _records(form, content, wanted, most_rows)
    elif form == "inputs" and isinstance(content, dict):
        columns, rows = _columns(content, most_rows)
    elif form != "dataframe_records" and isinstance(content, list):
        columns, rows = {ARRAY: content}, len(content)
        _few(rows, most_rows)
    else:
        raise Rejected(422, f"{form} is not what it has to be", field=form, expected="a list of records",
                       got=kind(content))  # fmt: skip
    return columns, rows, document.get("params")


_FORMS_SAID = "exactly one of " + ", ".join(FORMS)


def _parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as strict:
        # Python writes NaN, and so does MLflow into the example beside a model: JSON has no such word, MLflow reads it.
        if b"NaN" not in body and b"Infinity" not in body:
            raise Rejected(400, f"the body is not JSON: {strict}", expected="JSON in UTF-8") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Rejected(400, f"the body is not JSON: {error}", expected="JSON in UTF-8") from None


def _split(content: object, most_rows: int) -> tuple[dict[str, list[Any]], int]:
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise Rejected(422, "dataframe_split is not what it has to be", field="dataframe_split",
                       expected='{"columns": […], "data": [[…], …]}', got=kind(content))  # fmt: skip
    if unknown := set(content) - {"columns", "data", "index"}:
        raise Rejected(422, f"dataframe_split has keys that it does not know: {', '.join(sorted(unknown))[:80]}",
                       field="dataframe_split", expected="columns, data, index")  # fmt: skip
    data, names = content["data"], content.get("columns")
    _few(len(data), most_rows)
    if not isinstance(names, list) or set(map(type, names)) != {str}:
        raise Rejected(422, "dataframe_split.columns has to name the columns", field="dataframe_split.columns",
                       expected="a list of names", got=kind(names))  # fmt: skip
    _distinct(names)
    if set(map(type, data)) - {list} or set(map(len, data)) - {len(names)}:
        row, bad = next((r, v) for r, v in enumerate(data) if not isinstance(v, list) or len(v) != len(names))
        got = f"{len(bad)} values" if isinstance(bad, list) else kind(bad)
        raise Rejected(422, f"dataframe_split.data, row {row}: expected {len(names)} values, got {got}",
                       field="dataframe_split.data", expected=f"a list of {len(names)} values", got=got)  # fmt: skip
    return transposed(names, data), len(data)


def _records(
    form: str, content: list[Any], wanted: set[str] | None, most_rows: int
) -> tuple[dict[str, list[Any]], int]:
    """Rows as objects. In `dataframe_records` what one of them lacks is missing, as pandas has it."""
    _few(len(content), most_rows)
    if set(map(type, content)) != {dict}:
        row, bad = next((r, v) for r, v in enumerate(content) if not isinstance(v, dict))
        raise Rejected(422, f"{form}, row {row}: expected a record, got {kind(bad)}", field=form,
                       expected="a list of records", got=kind(bad))  # fmt: skip
    first = content[0]
    if all(record.keys() == first.keys() for record in content):
        names = [name for name in first if wanted is None or name in wanted]
        return {name: [record[name] for record in content] for name in names}, len(content)
    if form != "dataframe_records":
        row = next(r for r, record in enumerate(content) if record.keys() != first.keys())
        raise Rejected(422, f"{form}, row {row}: has other columns than row 0", field=form,
                       expected=", ".join(first)[:200], got=", ".join(content[row])[:200])  # fmt: skip
    names = list(dict.fromkeys(name for record in content for name in record if wanted is None or name in wanted))
    if len(names) * len(content) > _CELLS:  # a few rows of ever new names are a large table
        raise Rejected(422, f"{form}: {len(content)} rows of {len(names)} names in all are too large a table",
                       field=form, expected=f"at most {_CELLS} values")  # fmt: skip
    return {name: [record.get(name) for record in content] for name in names}, len(content)


def _columns(content: Mapping[str, Any], most_rows: int) -> tuple[dict[str, list[Any]], int]:
    columns = {name: values if isinstance(values, list) else [values] for name, values in content.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        said = f"column {short[:80]!r} has {lengths[short]} values, {long[:80]!r} has {lengths[long]}"
        raise Rejected(422, f"inputs: {said}", field=short[:80], expected=f"{lengths[long]} values",
                       got=f"{lengths[short]} values")  # fmt: skip
    rows = next(iter(lengths.values()), 0)
    _few(rows, most_rows)
    return columns, rows


def _csv(body: bytes, signature: Signature, most_rows: int) -> dict[str, list[Any]]:
    """A header and rows; a value is missing where pandas says so, for MLflow reads CSV with pandas."""
    import csv

    import pandas as pd

    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected(400, f"the body is not UTF-8: byte {error.start}", expected="CSV in UTF-8") from None
    texts = {column.name: str for column in signature.columns or () if column.type in ("string", "datetime")}
    try:
        _distinct(next(csv.reader(text.splitlines()[:1]), []))
        frame = pd.read_csv(BytesIO(body), dtype=texts, nrows=most_rows + 1)
    except (ValueError, csv.Error) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        said = " ".join(str(error).split())
        raise Rejected(400, f"the body is not CSV with a header: {said[:120]}", expected="CSV in UTF-8") from None
    return _lists(frame)


def _parquet(body: bytes, signature: Signature, most_rows: int) -> dict[str, list[Any]]:
    """The columns that the model takes. What a file of a few bytes would unpack to is asked before it does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = {column.name: column for column in signature.columns or ()}
    try:
        file = pq.ParquetFile(BytesIO(body))
        _few(file.metadata.num_rows, most_rows)
        schema = file.schema_arrow
        _distinct(schema.names)
        names = [name for name in schema.names if signature.columns is None or name in wanted]
        for name in names:
            _fits(name, schema.field(name).type, wanted.get(name))
        texts = [name for name in names if _is_text(schema.field(name).type)]
        table = pq.ParquetFile(BytesIO(body), read_dictionary=texts).read(columns=names)
        if sum(_text_bytes(table[name]) for name in texts) > _UNPACKED:
            raise Rejected(413, f"the body unpacks to more than {_UNPACKED} bytes of text; send it in parts")
        frame = table.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())
        raise Rejected(400, f"the body is not Parquet: {said[:120]}", expected="a Parquet file") from None
    return _lists(frame)


def _fits(name: str, found: Any, column: Column | None) -> None:
    """Let a column of Parquet pass that can hold what the model takes: no nested values, no text for numbers."""
    from pyarrow import types

    is_text = _is_text(found)
    is_number = types.is_integer(found) or types.is_floating(found)
    is_time = types.is_timestamp(found) or types.is_date(found)
    is_plain = is_text or is_number or is_time or types.is_boolean(found) or types.is_null(found)
    if column is None:
        fits = is_plain
    else:
        by_type = {"string": is_text, "boolean": types.is_boolean(found), "datetime": is_time or is_text}
        fits = by_type.get(column.type, is_number) or types.is_null(found)
    if not fits:
        expected = column.expected if column else "plain values"
        raise Rejected(422, f"column {name[:80]!r}, row 0: expected {expected}, got {str(found)[:80]}",
                       field=name[:80], expected=expected, got=str(found)[:80])  # fmt: skip


def _text_bytes(column: Any) -> int:
    """Bytes of text that the rows of a dictionary-encoded column hold, without unpacking them."""
    import pyarrow.compute as pc

    total = 0
    for chunk in column.chunks:
        lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
        total += pc.sum(lengths.cast("int64")).as_py() or 0
    return total


def _is_text(found: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(found):
        return _is_text(found.value_type)
    return bool(types.is_string(found) or types.is_large_string(found))


def _lists(frame: Any) -> dict[str, list[Any]]:
    """Columns as lists of Python values, None where one is missing."""
    import pandas as pd

    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind == "M":
            values = [None if time is pd.NaT else time.to_pydatetime() for time in column]
        elif column.dtype.kind in "iufb":
            values = column.tolist()
        else:
            values = column.astype(object).where(column.notna(), None).tolist()
        columns[str(name)] = values
    return columns


def _few(rows: int, most: int) -> None:
    if rows > most:
        raise Rejected(422, f"{rows} rows are more than the {most} that one request may have; send them in parts",
                       field="rows", expected=f"at most {most}", got=str(rows))  # fmt: skip


def _distinct(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = str(next(name for name, times in Counter(names).items() if times > 1))
        raise Rejected(422, f"column {twice[:80]!r} is there twice", field=twice[:80], expected="each name once")
