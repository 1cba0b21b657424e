"""The process that holds one version's model: reads it by the closed table, predicts, knows no HTTP and no MLflow.

A model that crashes, hangs or leaks takes this process with it, not the server; and what a pickle does, it does here.
"""

import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from dovetail.compiling import compiled_model
from dovetail.compiling.compiled_model import Compiled
from dovetail.joblib_model import METHODS, JoblibModel
from dovetail.models import folder_model, mlflow_folder, network_file
from dovetail.models.fitted_columns import fitted_columns
from dovetail.models.folder_md5 import SUFFIX
from dovetail.models.network_file import packaged_model
from dovetail.models.reader import read, read_at
from dovetail.serving.engine import forest_predictor, frames
from dovetail.serving.engine.model_values import column, dumped, listed
from dovetail.serving.protocol.body import JSON, PredictionRequest
from dovetail.serving.protocol.body import read as read_body
from dovetail.serving.protocol.json_body import ARRAY
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature
from dovetail.system import sandbox
from dovetail.system.processes import silence
from dovetail.system.telemetry import send_nothing
from dovetail.values.tag_keys import BOOLEANS

_EXAMPLE = "serving_input_example.json"


def main() -> None:
    """Read a model and answer the server's questions, in a process that was started for it."""
    import_libraries()
    answer_questions(socket.socket(fileno=int(sys.argv[1])))


def import_libraries() -> None:
    """Import what every model needs, while the server still asks which version it is.

    What models print goes nowhere from here on; what they say of a fault goes to stderr.
    """
    send_nothing()  # where a model has to be read by MLflow
    silence(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # the server ends first, and what it has begun with it
        signal.signal(number, signal.SIG_IGN)
    import joblib  # noqa: F401
    import pandas as pd  # noqa: F401
    import sklearn.base

    # The pipeline's params were checked when it was fitted; each predict would check them again.
    sklearn.set_config(skip_parameter_validation=True)


def answer_questions(connection: socket.socket) -> None:
    """Go behind the walls, and answer until the server closes the connection."""
    sandbox.enter(keep=[connection.fileno()])
    model: ServedModel | None = None
    with suppress(BrokenPipeError, ConnectionResetError):
        while (asked := frames.receive(connection)) is not None:
            kind, *arguments = asked
            if kind == "load":
                model, parts = load(*arguments)
            else:
                parts = model.predict(*arguments) if model else [(False, b'{"message": "no model is loaded"}')]
            connection.sendall(frames.answer(parts))


def load(
    folder: str, md5: str, allow: Sequence[str], onnx: str | None
) -> tuple["ServedModel | None", list[frames.Part]]:
    """The model in `folder`, ready to answer, and what it takes and gives; None and the reason where it cannot be."""
    try:
        model = ServedModel(Path(folder), md5, allow, onnx)
        model.warm()
        return model, [(True, json.dumps(model.about).encode())]
    except Exception as error:  # noqa: BLE001  (a model can raise anything)
        return None, [(False, json.dumps({"message": _one_line(error)}).encode())]


class ServedModel:
    """One version's model in memory."""

    def __init__(self, folder: Path, md5: str, allow: Sequence[str], onnx: str | None = None) -> None:
        """Read the MLflow model in `folder`, and the compiled one beside it if its bytes are those of `onnx`.

        Raises:
            ValueError: when its bytes are not those of `md5`, or it is of a kind that is not served.
        """
        import pandas as pd
        import yaml

        about = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        self.model = JoblibModel(_read(folder, about, md5, allow)).estimator
        methods = [name for name in METHODS if hasattr(self.model, name)]
        described = {key: json.loads(about["signature"][key]) for key in ("inputs", "outputs")
                     if (about.get("signature") or {}).get(key)}  # fmt: skip
        described["booleans"] = (about.get("metadata") or {}).get(BOOLEANS) or []
        self.signature = Signature.of(described, methods)
        self._names = pd.Index([column.name for column in self.signature.columns or ()])  # takes longer than a tree
        self._types = {column.name: column.type for column in self.signature.columns or ()}
        example = folder / _EXAMPLE
        self._example = example.read_bytes() if example.exists() else None
        self._parallel = [(part, part.n_jobs) for part in _parts(self.model) if getattr(part, "n_jobs", None)]
        self._few: bool | None = None
        self._forest: forest_predictor.ForestPredictor | None = None
        self.about = {
            "inputs": described.get("inputs"), "outputs": described.get("outputs"), "methods": methods,
            "booleans": described["booleans"], "example": read_example(self._example),
        }  # fmt: skip
        self._compiled, not_compiled = _open(folder / compiled_model.FILE, onnx) if onnx else (None, None)
        self._say(not_compiled)

    def _say(self, not_compiled: str | None) -> None:
        self.about |= {"compiled": "onnx" if self._compiled else None, "not_compiled": not_compiled}

    def warm(self) -> None:
        """Predict the input example, so that the first request finds everything imported; prove the faster ways.

        Raises:
            ValueError: when the model does not answer its own example.
        """
        compiled, self._compiled = self._compiled, None
        columns: Mapping[str, list[Any]] = {}
        if self._example is None:
            self._prove_forest(())
        else:
            try:
                asked = read_body(self._example, JSON, self.signature, sys.maxsize)
            except Refused as error:
                raise ValueError(f"its input example is not what its signature says: {error.message}") from None
            self._ask_example(asked)
            columns = asked.columns
            self._prove_forest([self._frame(columns)])
        if compiled:
            methods = [method for method in self.about["methods"] if method in compiled.about.methods]
            why = compiled.why_unusable(methods, lambda method, row: self.answer(method, 1, row)[0], columns)
            self._compiled = None if why else compiled
            self._say(why)

    def _prove_forest(self, examples: Sequence[Any]) -> None:
        if self.signature.columns is not None:
            self._use_threads(few=True)  # threads sum the trees in any order
            self._forest = forest_predictor.proved(self.model, list(self._names), self.about["methods"], examples)

    def _ask_example(self, asked: PredictionRequest) -> None:
        for _ in range(2):
            ((well, content),) = self.predict(asked.method, [asked.rows], asked.columns)
            if not well:
                raise ValueError(f"it does not answer its input example: {json.loads(content)['message']}")

    def predict(self, method: str, sizes: Sequence[int], columns: Mapping[str, list[Any]]) -> list[frames.Part]:
        """The answers to requests of `sizes` rows each, whose rows lie behind each other in `columns`.

        All of them in one prediction; where that fails each by itself, so that one bad request spoils no other.
        """
        try:
            return self._answers(method, sizes, columns)
        except Exception as error:  # noqa: BLE001  (a model can raise anything)
            if len(sizes) == 1:
                return [(False, json.dumps({"message": _one_line(error)}).encode())]
            return [self.predict(method, [size], part)[0] for size, part in _each(sizes, columns)]

    def _compiled_answer(self, method: str, columns: Mapping[str, list[Any]]) -> list[Any] | None:
        if self._compiled:
            with suppress(Exception):  # whatever becomes of it there, scikit-learn is asked
                return self._compiled.answer(method, columns)
        return None

    def _answers(self, method: str, sizes: Sequence[int], columns: Mapping[str, list[Any]]) -> list[frames.Part]:
        rows = sum(sizes)
        said, by_row = self.answer(method, rows, columns)
        if len(sizes) == 1 and (not by_row or self.signature.columns is None):
            return [(True, dumped(said))]
        if not by_row or len(said) != rows:
            raise ValueError(f"{len(said)} predictions for {rows} rows")
        ends = accumulate(sizes)
        return [(True, dumped(said[end - size : end])) for size, end in zip(sizes, ends, strict=True)]

    def answer(self, method: str, rows: int, columns: Mapping[str, Any]) -> tuple[list[Any], bool]:
        """What the model says of the rows, by the fastest way that says the same; and whether that is one for each.

        It is not where a forest of several outputs gives the probabilities of each.
        """
        if (answer := self._compiled_answer(method, columns)) is not None:
            return answer, True
        few = rows <= forest_predictor.MOST_ROWS
        self._use_threads(few=few)
        found = self._forest_answer(method, columns) if few else None
        return listed(getattr(self.model, method)(self._frame(columns)) if found is None else found)

    def use_one_thread(self) -> None:
        """Let the model's parts use one thread, however many rows come: the same bits each time."""
        self._use_threads(few=True)
        self._parallel = []

    def _forest_answer(self, method: str, columns: Mapping[str, list[Any]]) -> Any:
        if self._forest:
            with suppress(Exception):  # the model itself says what is wrong
                numbers = self._numbers(columns) if self._forest.takes_numbers else None
                return self._forest.answer(method, self._frame(columns) if numbers is None else numbers)
        return None

    def _use_threads(self, *, few: bool) -> None:
        """Let the model's parts use the threads that it was fitted with, but for a few rows."""
        if self._parallel and self._few != few:
            self._few = few
            for part, jobs in self._parallel:
                part.n_jobs = 1 if few else jobs

    def _numbers(self, columns: Mapping[str, list[Any]]) -> Any:
        """The rows as one block of shape (rows, columns); None where they are not numbers alone."""
        import numpy as np

        if set(self._types.values()) != {"double"} or len(columns) != len(self._types):
            return None
        return np.array([columns[name] for name in self._names], dtype="float64").T

    def _frame(self, columns: Mapping[str, list[Any]]) -> Any:
        """The rows as the model was trained on them: a table, or the bare list that was sent."""
        import numpy as np
        import pandas as pd

        if ARRAY in columns:
            return np.asarray(columns[ARRAY])
        if (numbers := self._numbers(columns)) is not None:  # one block, a third of the time
            return pd.DataFrame(numbers, columns=self._names)
        names = list(columns) if self._types else fitted_columns(self.model, columns)
        return pd.DataFrame({name: column(columns[name], self._types.get(name)) for name in names})


def _read(folder: Path, about: Mapping[str, Any], md5: str, allow: Sequence[str]) -> Any:
    """The model of the package, once its bytes are found to be those that were registered."""
    if md5.endswith(SUFFIX):
        if (actual := folder_model.digest(folder)) != md5:
            raise ValueError(f"the folder (md5 {actual}) is not what was registered ({md5}); it was not loaded")
        os.dup2(1, 2)  # some frameworks tell at length what they find on the machine
        return read_at(folder)
    flavor, file = about["flavors"].get("python_function", {}), packaged_model(folder)
    network = file and network_file.kind_of(file)
    if file is None or flavor.get("loader_module") not in ([network.loader] if network else mlflow_folder.LOADERS):
        raise ValueError("it was not registered by Dovetail; use mlflow models serve")
    content = file.read_bytes()
    if (actual := hashlib.md5(content, usedforsecurity=False).hexdigest()) != md5:
        raise ValueError(f"{file.name} (md5 {actual}) is not what was registered ({md5}); it was not unpickled")
    if network:
        os.dup2(1, 2)  # as for a folder
    return read(content, allow, file)


def _open(file: Path, md5: str) -> tuple[Compiled | None, str | None]:
    """The compiled model, or why it is not used."""
    try:
        content = file.read_bytes()
        actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if actual != md5:
            return None, f"{compiled_model.FILE} (md5 {actual}) is not what was registered ({md5})"
        return Compiled(content), None
    except Exception as error:  # noqa: BLE001  (onnxruntime raises its own, or is not there; scikit-learn answers)
        return None, _one_line(error)


def _each(sizes: Sequence[int], columns: Mapping[str, list[Any]]) -> list[tuple[int, dict[str, list[Any]]]]:
    found, start = [], 0
    for size in sizes:
        found.append((size, {name: values[start : start + size] for name, values in columns.items()}))
        start += size
    return found


def _parts(model: Any) -> list[Any]:
    """The estimator and those within it."""
    if not hasattr(model, "get_params"):
        return [model]
    return [model, *(part for part in model.get_params(deep=True).values() if hasattr(part, "get_params"))]


def read_example(content: bytes | None) -> Any:
    """The input example as JSON can say it: what is missing is null."""
    if content is None:
        return None
    return json.loads(content, parse_constant=lambda _: None)


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


if __name__ == "__main__":
    main()
