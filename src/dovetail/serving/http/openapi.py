"""The server's own description: an OpenAPI document made from the signature."""

import csv
from io import StringIO
from typing import Any
from urllib.parse import quote

from dovetail.serving.protocol.body import CSV, JSON, PARQUET
from dovetail.serving.protocol.json_body import FORMS
from dovetail.serving.protocol.signature import Column, Signature
from dovetail.serving.settings import Settings

_LARGEST = 3.4e38  # forests and trees take no larger number: they compute in float32
_TIME = r"^(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])T([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"
_TYPES: dict[str, dict[str, Any]] = {
    "double": {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST},
    "float": {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST},
    "long": {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
    "integer": {"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1},
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "datetime": {"type": "string", "pattern": _TIME},
}
_NULL_TOO = ("double", "float", "string", "boolean", "datetime")
_REFUSED = {
    "400": "cannot be read", "401": "a bearer token is needed", "405": "another method", "408": "arrived too slowly",
    "413": "too large, or unpacks to too much", "415": "a type that is not read here, or a body that is packed",
    "422": "not what the model takes", "431": "a head that is too large",
    "503": "too busy, or no answer in time; see Retry-After",
}  # fmt: skip


def document(
    settings: Settings, signature: Signature, about: dict[str, Any], version: int, root: str = ""
) -> dict[str, Any]:
    """OpenAPI 3.1 of what the server answers, with the columns of the version that it serves.

    Below `root`, where a model is one of several, there are the paths of that model alone.
    """
    scheme = {"bearer": {"type": "http", "scheme": "bearer"}} if settings.tokens else {}
    security: list[dict[str, list[str]]] = [{"bearer": []}] if settings.tokens else []
    paths: dict[str, Any] = {
        "/invocations": {"post": _invocations(settings, signature, about, security)},
        "/feedback": {"post": _feedback(settings, signature, security)},
        "/model": {"get": _get("The version that answers: digest, commit, signature", JSON, security)},
        "/ready": {"get": _get("It is ready: requests may be sent here", JSON, unavailable=True)},
    }
    v2 = f"/v2/models/{quote(settings.model)}"
    if not root:
        paths |= {
            "/v2/health/live": {
                "get": _get("It lives, as the Open Inference Protocol says it", JSON, unavailable=True)
            },
            "/v2/health/ready": {"get": _get("It is ready, as that protocol says it", JSON, unavailable=True)},
            v2: {"get": _get("The version's inputs and outputs as that protocol says them", JSON, security)},
        }
        paths |= {
            "/ping": {"get": _get("A version is loaded, as MLflow's server says it", JSON, unavailable=True)},
            "/health": {"get": _get("It lives; what is served and what is wrong, if anything", JSON, unavailable=True)},
            "/version": {"get": _get("MLflow's version", JSON)},
            "/metrics": {"get": _get("Counts, for Prometheus", "text/plain", security)},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": f"{settings.what}, served by Dovetail", "version": str(version)},
        "servers": [{"url": root or "/"}],
        "paths": paths,
        "components": {"securitySchemes": scheme},
    }


def _invocations(
    settings: Settings, signature: Signature, about: dict[str, Any], security: list[dict[str, list[str]]]
) -> dict[str, Any]:
    content: dict[str, Any] = {JSON: {"schema": {"oneOf": [_form(form, settings, signature) for form in FORMS]}}}
    if about.get("example"):
        content[JSON]["example"] = about["example"]
    content[CSV] = {"schema": {"type": "string"}}
    if text := csv_example(about.get("example")):
        content[CSV]["example"] = text
    content[PARQUET] = {"schema": {"type": "string", "format": "binary"}}
    predictions = {"type": "object", "properties": {"predictions": {"type": "array"}}, "required": ["predictions"]}
    return {
        "summary": "Predict",
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "A prediction for each row",
                "headers": {
                    "X-Dovetail-Version": {"schema": {"type": "string"}},
                    "X-Request-Id": {"schema": {"type": "string"}},
                },
                "content": {JSON: {"schema": predictions}},
            },
            **_refusals(*_REFUSED),
        },
        "security": security,
    }


def csv_example(example: Any) -> str | None:
    """The model's own input example as CSV; None where it is no table with columns of one value."""
    split = example.get("dataframe_split") if isinstance(example, dict) else None
    if not split or any(isinstance(value, (list, dict)) for row in split["data"] for value in row):
        return None
    lines = StringIO()
    csv.writer(lines, lineterminator="\n").writerows([split["columns"], *map(_cells, split["data"])])
    return lines.getvalue()


def _cells(row: list[Any]) -> list[Any]:
    return [str(value).lower() if isinstance(value, bool) else value for value in row]


def _form(form: str, settings: Settings, signature: Signature) -> dict[str, Any]:
    columns = signature.columns
    most = settings.options.max_rows
    if form == "dataframe_split":
        names = {"type": "array", "items": {"type": "string"}}
        if columns is not None:
            names |= {"const": [column.name for column in columns]}
        row: dict[str, Any] = {"type": "array"}
        if columns is not None:
            row |= {"prefixItems": [_value(c) for c in columns], "minItems": len(columns), "maxItems": len(columns)}
        rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most}
        content: dict[str, Any] = {
            "type": "object",
            "properties": {"columns": names, "data": rows},
            "required": ["columns", "data"],
            "additionalProperties": False,
        }
    elif form == "inputs" and columns is not None:
        content = {
            "type": "object",
            "properties": {
                c.name: {"type": "array", "items": _value(c), "minItems": 1, "maxItems": 1} for c in columns
            },
            "required": [column.name for column in columns],
            "additionalProperties": False,
        }
    else:
        record: dict[str, Any] = {"type": "object"}
        if columns is not None:
            record |= {
                "properties": {column.name: _value(column) for column in columns},
                "required": [column.name for column in columns],
                "additionalProperties": False,
            }
        content = {"type": "array", "items": record, "minItems": 1, "maxItems": most}
    methods = {"type": "object", "properties": {"method": {"enum": list(signature.methods)}},
               "additionalProperties": False}  # fmt: skip
    return {
        "type": "object",
        "properties": {form: content, "params": methods},
        "required": [form],
        "additionalProperties": False,
    }


def _value(column: Column) -> dict[str, Any]:
    schema = _TYPES[column.type]
    if column.boolean:  # numbers, too, as the model gets them
        return {"anyOf": [_TYPES["boolean"], schema, {"type": "null"}]}
    if column.required or column.type not in _NULL_TOO:
        return schema
    return {"anyOf": [schema, {"type": "null"}]}


_LABELS = {
    "double": "number", "float": "number", "long": "integer", "integer": "integer", "string": "string",
    "boolean": "boolean",
}  # fmt: skip


def _feedback(settings: Settings, signature: Signature, security: list[dict[str, list[str]]]) -> dict[str, Any]:
    known = _LABELS.get(signature.output or "")
    label = {"type": [known, "null"] if known else ["string", "number", "boolean", "null"]}
    schema = {
        "type": "object",
        "properties": {
            "request_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "labels": {"type": "array", "items": label, "minItems": 1, "maxItems": settings.options.max_rows},
        },
        "required": ["request_id", "labels"],
        "additionalProperties": False,
    }
    return {
        "summary": "Tell the true labels of a request's rows",
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}},
        "responses": {
            "202": {"description": "Joined to the request's predictions when they are read"},
            **_refusals("400", "401", "404", "405", "408", "413", "415", "422"),
        },
        "security": security,
    }


def _get(
    summary: str, kind: str, security: list[dict[str, list[str]]] | None = None, *, unavailable: bool = False
) -> dict[str, Any]:
    refused = ("401", "405", "503") if security else ("405", "503") if unavailable else ("405",)
    described: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": "OK", "content": {kind: {}}}, **_refusals(*refused)},
    }
    return described | ({"security": security} if security else {})


def _refusals(*statuses: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in ("error_code", "message", "field", "expected", "got")},
    }
    said = {**_REFUSED, "404": "nothing of that kind here"}
    return {status: {"description": said[status], "content": {JSON: {"schema": schema}}} for status in statuses}
