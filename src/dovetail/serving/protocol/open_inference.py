"""The Open Inference Protocol (V2) beside MLflow's: tensors in and out, each column a tensor of its name.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import orjson

from dovetail.serving.protocol.answers import plain
from dovetail.serving.protocol.body import PredictionRequest
from dovetail.serving.protocol.body_limits import check_rows
from dovetail.serving.protocol.json_body import ARRAY, check_size, in_utf8, parse
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature, kind

TYPE = "application/vnd.open-inference+json"  # how the server and its body process call such a body
PLATFORM = "dovetail"
MATRIX = "input"  # how the metadata names the one tensor of a model without columns
_DATATYPES = {
    "double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL", "string": "BYTES",
    "datetime": "BYTES",
}  # fmt: skip
_KNOWN = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
          "BYTES")  # fmt: skip
_BINARY = b"inference-header-content-length"


def metadata(name: str, version: int, signature: Signature) -> dict[str, Any]:
    """What the model takes and gives, as `GET /v2/models/NAME` says it."""
    columns = signature.columns
    if columns is None:
        inputs = [{"name": MATRIX, "datatype": "FP64", "shape": [-1, -1]}]
    else:
        inputs = [{"name": each.name, "datatype": _DATATYPES[each.type], "shape": [-1]} for each in columns]
    outputs = [
        {"name": method, "datatype": _DATATYPES.get(signature.output or "", "BYTES"), "shape": [-1]}
        if method == "predict"
        else {"name": method, "datatype": "FP64", "shape": [-1, -1]}
        for method in signature.methods
    ]
    return {"name": name, "versions": [str(version)], "platform": PLATFORM, "inputs": inputs, "outputs": outputs}


def refuse_binary(headers: Mapping[bytes, bytes]) -> None:
    """Refuse tensors as bytes behind the JSON.

    Raises:
        Refused: 415, for that is an extension of Triton.
    """
    if _BINARY in headers:
        raise Refused(415, "tensors as bytes behind the JSON are not read here; send their data in it",
                      field=_BINARY.decode(), expected="data in JSON (tritonclient: binary_data=False)")  # fmt: skip


def read_infer(body: bytes, signature: Signature, most_rows: int) -> PredictionRequest:
    """The question in the body of a request to `infer`.

    Raises:
        Refused: 400 when it is no such request, 422 when it is not what the model takes.
    """
    body = in_utf8(body)
    check_size(body, most_rows)
    asked = parse(body)
    tensors = asked.get("inputs") if isinstance(asked, dict) else None
    if not isinstance(tensors, list) or not tensors or not all(isinstance(each, dict) for each in tensors):
        raise Refused(400, "the body has no inputs", field="inputs", expected="a list of tensors", got=kind(tensors))
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        name, shape, values = _tensor(tensor, most_rows)
        if name in columns:
            raise Refused(422, f"the input {name!r} is there twice", field=name)
        columns |= _columns(name, shape, values, signature, alone=len(tensors) == 1)
    sizes = {name: len(values) for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        raise Refused(422, f"the inputs have unlike numbers of rows: {str(sizes)[:200]}", field="shape")
    rows = next(iter(sizes.values()))
    if not rows:
        raise Refused(422, "there are no rows to predict", expected="at least one row", got="none")
    given = asked.get("id", "")
    if not isinstance(given, str):
        raise Refused(400, "the id is not text", field="id", expected="text", got=kind(given))
    return PredictionRequest(signature.check(columns), rows, signature.method(_params(asked)), given)


def _tensor(tensor: Mapping[str, Any], most_rows: int) -> tuple[str, Sequence[int], list[Any]]:
    """A tensor's name, shape and flat data."""
    name, shape, datatype, values = (tensor.get(key) for key in ("name", "shape", "datatype", "data"))
    if not isinstance(name, str):
        raise Refused(400, "an input has no name", field="name", expected="text", got=kind(name))
    if datatype not in _KNOWN:
        raise Refused(422, f"input {name!r}: a datatype that is not read", field=name, expected=", ".join(_KNOWN),
                      got=str(datatype)[:80])  # fmt: skip
    if not isinstance(shape, list) or not 1 <= len(shape) <= 2 or not all(type(size) is int for size in shape):  # noqa: PLR2004  (dimensions)
        raise Refused(422, f"input {name!r}: the shape is not one of rows, or of rows and columns", field=name,
                      expected="[rows] or [rows, columns]", got=str(shape)[:80])  # fmt: skip
    if not isinstance(values, list):
        raise Refused(400, f"input {name!r} has no data", field=name, expected="a list", got=kind(values))
    check_rows(shape[0], most_rows)
    if len(shape) > 1 and values and isinstance(values[0], list):  # nested or flat, as the client likes
        if not all(isinstance(row, list) and len(row) == shape[1] for row in values):
            raise Refused(422, f"input {name!r}: the data has another shape", field=name, expected=str(shape))
        values = list(chain.from_iterable(values))
    size = shape[0] * (shape[1] if len(shape) > 1 else 1)
    if len(values) != size:
        raise Refused(422, f"input {name!r}: {len(values)} values for the shape {shape}", field=name,
                      expected=f"{size} values", got=f"{len(values)} values")  # fmt: skip
    if min(shape) < 0 or shape[-1] < len(shape) - 1:
        raise Refused(422, f"input {name!r}: no data has the shape {str(shape)[:80]}", field=name,
                      expected="no size below zero, and at least one column", got=str(shape)[:80])  # fmt: skip
    return name, shape, values


def _columns(
    name: str, shape: Sequence[int], values: list[Any], signature: Signature, *, alone: bool
) -> dict[str, list[Any]]:
    """A tensor as the columns that it stands for: its own, or all of them where it is the one matrix."""
    width = shape[1] if len(shape) > 1 else 1
    if signature.columns is None:
        if not alone:
            if len(shape) > 1 and width > 1:
                raise Refused(422, f"input {name!r}: {width} columns beside other inputs", field=name,
                              expected="a tensor for each column, or one of all")  # fmt: skip
            return {name: values}
        return {ARRAY: [values[at : at + width] for at in range(0, len(values), width)] if len(shape) > 1 else values}
    names = [column.name for column in signature.columns]
    if width == 1 and (len(shape) == 1 or name in names):
        return {name: values}
    if not alone or width != len(names):
        raise Refused(422, f"input {name!r}: {width} columns", field=name,
                      expected=f"a tensor for each of {', '.join(names)}, or one of {len(names)} columns")  # fmt: skip
    return {column: values[at::width] for at, column in enumerate(names)}


def _params(asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The method: of `parameters`, else the one output that is asked for."""
    given = asked.get("parameters")
    if isinstance(given, dict) and "method" in given:
        return {"method": given["method"]}
    outputs = asked.get("outputs")
    names = [each.get("name") for each in outputs if isinstance(each, dict)] if isinstance(outputs, list) else []
    if len(names) > 1:
        raise Refused(
            422, "one output can be asked for at a time", field="outputs", expected="one", got=str(names)[:80]
        )
    return {"method": names[0]} if names else None


def infer_answer(
    model: tuple[str, int], request: PredictionRequest, output: str | None, content: bytes, request_id: str
) -> bytes:
    """The answer of `infer`: the predictions, a JSON list in `content`, as one tensor.

    `model` is a name and a version, `output` the signature's type of a prediction; `request_id` is said where the
    client gave no id of its own.
    """
    predictions = plain(orjson.loads(content), request.method)
    shape = [len(predictions)]
    if predictions and isinstance(predictions[0], list) and len({len(row) for row in predictions}) == 1:
        shape.append(len(predictions[0]))
        predictions = list(chain.from_iterable(predictions))
    datatype = _datatype(predictions, output if request.method == "predict" else "double")
    if datatype == "BYTES":
        predictions = [each if isinstance(each, str) else json.dumps(each) for each in predictions]
    tensor = {"name": request.method, "datatype": datatype, "shape": shape, "data": predictions}
    name, version = model
    said = {"model_name": name, "model_version": str(version), "id": request.id or request_id, "outputs": [tensor]}
    return orjson.dumps(said)


def _datatype(values: Sequence[Any], expected: str | None) -> str:
    """Of what was predicted; the signature's, unless the values are of other types."""
    types = {type(value) for value in values if value is not None}
    if types <= {bool} and types:
        return "BOOL"
    if types == {int}:
        return _DATATYPES[expected] if expected in ("long", "integer", "double", "float") else "INT64"
    if types and types <= {int, float}:
        return "FP32" if expected == "float" else "FP64"
    return "FP64" if not types and expected in ("double", "float") else "BYTES"
