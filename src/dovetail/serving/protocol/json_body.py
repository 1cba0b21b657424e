"""A body of JSON in one of MLflow's four forms: split, records, instances, inputs."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from dovetail.serving.protocol.body_limits import check_names, check_rows, check_values
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import kind, transposed

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
ARRAY = ""  # the one column of a request to a model without signature that came as a bare list
_CELLS = 1_000_000  # values of a table that is made of rows with unlike columns
_SPARE = 10_000  # lists and objects besides one for each row
_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*"?|[\[{]', re.DOTALL)  # a text, or what begins a list or an object


def in_utf8(body: bytes) -> bytes:
    """The body in UTF-8 without a byte-order mark; UTF-16 and UTF-32 are recognised as Python's json does it.

    Raises:
        Refused: 400 when it is none of these.
    """
    encoding = json.detect_encoding(body[:4])
    if encoding == "utf-8":
        return body
    try:
        return body.decode(encoding).encode()
    except UnicodeError as error:
        raise Refused(400, f"the body is not JSON: {error}", expected="JSON in UTF-8") from None


def check_size(body: bytes, most_rows: int) -> None:
    """Refuse more objects than the rows of a table need: millions of tiny lists take long, and much memory.

    Raises:
        Refused: before anything is parsed.
    """
    check_values(body.count(b","))
    most = most_rows + _SPARE
    if body.count(b"[") + body.count(b"{") <= most:
        return
    found = 0
    for token in _TOKEN.finditer(body):  # some of them are within texts
        found += token.group()[:1] != b'"'
        if found > most:
            raise Refused(422, f"the body has more than {most} lists and objects", field="rows",
                          expected=f"at most {most}", got="more")  # fmt: skip


def read_json(body: bytes, wanted: set[str] | None, most_rows: int) -> tuple[dict[str, list[Any]], int, object]:
    """The columns in a body, how many rows they have, and what `params` is.

    Raises:
        Refused: when it is not JSON, or not one of the forms.
    """
    body = in_utf8(body)
    check_size(body, most_rows)
    document = parse(body)
    if not isinstance(document, dict):
        raise Refused(400, "the body is not an object", expected=f"an object with {_FORMS_SAID}", got=kind(document))
    forms = [form for form in FORMS if form in document]
    if len(forms) != 1:
        got = ", ".join(str(key)[:40] for key in list(document)[:10]) or "an empty object"
        raise Refused(400, f"the body needs {_FORMS_SAID}", expected=_FORMS_SAID, got=got)
    form = forms[0]
    content = document[form]
    if form == "dataframe_split":
        columns, rows = _split(content, wanted, most_rows)
    elif isinstance(content, list) and content and isinstance(content[0], dict):
        columns, rows = _records(form, content, wanted, most_rows)
    elif form in ("inputs", "instances") and isinstance(content, dict):
        columns, rows = _columns(form, content, most_rows)
    elif form != "dataframe_records" and isinstance(content, list):
        columns, rows = {ARRAY: content}, len(content)
        check_rows(rows, most_rows)
    else:
        raise Refused(422, f"{form} is not what it has to be", field=form, expected="a list of records",
                       got=kind(content))  # fmt: skip
    return columns, rows, document.get("params")


_FORMS_SAID = "exactly one of " + ", ".join(FORMS)


def parse(body: bytes) -> Any:
    """JSON, with NaN and Infinity as Python writes them.

    Raises:
        Refused: 400 when it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as strict:
        # Python writes NaN, and so does MLflow into the example beside a model: JSON has no such word, MLflow reads it.
        if b"NaN" not in body and b"Infinity" not in body:
            raise Refused(400, f"the body is not JSON: {strict}", expected="JSON in UTF-8") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}", expected="JSON in UTF-8") from None


def _split(content: object, wanted: set[str] | None, most_rows: int) -> tuple[dict[str, list[Any]], int]:
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise Refused(422, "dataframe_split is not what it has to be", field="dataframe_split",
                       expected='{"columns": […], "data": [[…], …]}', got=kind(content))  # fmt: skip
    if unknown := set(content) - {"columns", "data", "index"}:
        raise Refused(422, f"dataframe_split has keys that it does not know: {', '.join(sorted(unknown))[:80]}",
                       field="dataframe_split", expected="columns, data, index")  # fmt: skip
    data, names = content["data"], content.get("columns")
    check_rows(len(data), most_rows)
    if not isinstance(names, list) or set(map(type, names)) != {str}:
        raise Refused(422, "dataframe_split.columns has to name the columns", field="dataframe_split.columns",
                       expected="a list of names", got=kind(names))  # fmt: skip
    check_names(names, wanted)
    if set(map(type, data)) - {list} or set(map(len, data)) - {len(names)}:
        row, bad = next((r, v) for r, v in enumerate(data) if not isinstance(v, list) or len(v) != len(names))
        got = f"{len(bad)} values" if isinstance(bad, list) else kind(bad)
        raise Refused(422, f"dataframe_split.data, row {row}: expected {len(names)} values, got {got}",
                       field="dataframe_split.data", expected=f"a list of {len(names)} values", got=got)  # fmt: skip
    return transposed(names, data), len(data)


def _records(
    form: str, content: list[Any], wanted: set[str] | None, most_rows: int
) -> tuple[dict[str, list[Any]], int]:
    """Rows as objects. In `dataframe_records` what one of them lacks is missing, as pandas has it."""
    check_rows(len(content), most_rows)
    if set(map(type, content)) != {dict}:
        row, bad = next((r, v) for r, v in enumerate(content) if not isinstance(v, dict))
        raise Refused(422, f"{form}, row {row}: expected a record, got {kind(bad)}", field=form,
                       expected="a list of records", got=kind(bad))  # fmt: skip
    first = content[0]
    if all(record.keys() == first.keys() for record in content):
        names = [name for name in first if wanted is None or name in wanted]
        return {name: [record[name] for record in content] for name in names}, len(content)
    if form != "dataframe_records":
        row = next(r for r, record in enumerate(content) if record.keys() != first.keys())
        raise Refused(422, f"{form}, row {row}: has other columns than row 0", field=form,
                       expected=", ".join(first)[:200], got=", ".join(content[row])[:200])  # fmt: skip
    names = list(dict.fromkeys(name for record in content for name in record if wanted is None or name in wanted))
    if len(names) * len(content) > _CELLS:  # a few rows of ever new names are a large table
        raise Refused(422, f"{form}: {len(content)} rows of {len(names)} names in all are too large a table",
                       field=form, expected=f"at most {_CELLS} values")  # fmt: skip
    return {name: [record.get(name) for record in content] for name in names}, len(content)


def _columns(form: str, content: Mapping[str, Any], most_rows: int) -> tuple[dict[str, list[Any]], int]:
    columns = {name: values if isinstance(values, list) else [values] for name, values in content.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        short, long = min(lengths, key=lengths.__getitem__), max(lengths, key=lengths.__getitem__)
        said = f"column {short[:80]!r} has {lengths[short]} values, {long[:80]!r} has {lengths[long]}"
        raise Refused(422, f"{form}: {said}", field=short[:80], expected=f"{lengths[long]} values",
                       got=f"{lengths[short]} values")  # fmt: skip
    rows = next(iter(lengths.values()), 0)
    check_rows(rows, most_rows)
    return columns, rows
