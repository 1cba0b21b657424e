"""The process that holds a model for batch scoring: as the server's, but it answers tables, in Arrow's bytes."""

import json
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dovetail.errors import one_line
from dovetail.serving.engine import frames
from dovetail.serving.engine.model_process import ServedModel, import_libraries, load
from dovetail.serving.protocol.answers import plain
from dovetail.system import sandbox
from dovetail.system.processes import silence

if TYPE_CHECKING:
    import pyarrow as pa


def main() -> None:
    """Answer questions until the connection ends."""
    import_libraries()
    connection = socket.socket(fileno=int(sys.argv[1]))
    import pyarrow as pa  # noqa: F401  (before the walls)

    silence()  # its answers say it all
    sandbox.enter(keep=[connection.fileno()])
    model: ServedModel | None = None
    with suppress(BrokenPipeError, ConnectionResetError):
        while (asked := frames.receive(connection)) is not None:
            kind, *arguments = asked
            if kind == "load":
                model, part = _load(*arguments)
            else:
                part = _score(model, *arguments)
            connection.sendall(frames.answer([part]))


def _load(folder: str, md5: str, allow: Sequence[str], onnx: str | None) -> tuple[ServedModel | None, frames.Part]:
    model, (part,) = load(folder, md5, allow, onnx)
    if model is None:
        return None, part
    model.use_one_thread()
    return model, (True, json.dumps({**model.about, "classes": _classes(model.model)}).encode())


def _classes(model: Any) -> list[str] | None:
    """The names of the classes, in the order of their probabilities; None where the model does not say."""
    try:
        found = model.classes_
        return None if any(hasattr(one, "__len__") and not isinstance(one, str) for one in found) else list(
            map(str, found.tolist() if hasattr(found, "tolist") else found)
        )  # fmt: skip
    except Exception:  # noqa: BLE001  (a property of the model's)
        return None


def _score(model: ServedModel | None, methods: Sequence[str], rows: int, columns: Mapping[str, Any]) -> frames.Part:
    try:
        if model is None:
            raise ValueError("no model is loaded")  # noqa: TRY301  (said as any other)
        return True, _bytes(_answers(model, methods, rows, columns))
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        return False, f"{type(error).__name__}: {one_line(error)}".encode()


def _answers(model: ServedModel, methods: Sequence[str], rows: int, columns: Mapping[str, Any]) -> "pa.Table":
    """A column for each method.

    Raises:
        ValueError: when it does not answer each row once.
    """
    import pyarrow as pa

    found = {}
    for method in methods:
        said, by_row = model.answer(method, rows, columns)
        if not by_row:
            raise ValueError(f"it has several outputs: {method} gives no answer a row")
        if len(said) != rows:
            raise ValueError(f"{len(said)} predictions for {rows} rows")
        found[method] = pa.array(plain(said, method), from_pandas=True)
    return pa.table(found)


def _bytes(table: "pa.Table") -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


if __name__ == "__main__":
    main()
