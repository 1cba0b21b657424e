"""Load a model in its library's own format (LightGBM, XGBoost, CatBoost, ONNX) as an MLflow pyfunc.

None of these formats can run code when it is read. This file travels inside the model and needs what the model itself
needs, not Dovetail. It answers as MLflow's own flavor does, but for one column, which becomes shape (rows,).
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

MD5_KEY = "dovetail.model.md5"
METHODS = ("predict", "predict_proba")
FILES = (Path(__file__),)  # what travels

# Of each format the packages that read it, the first that is installed counts.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost", "xgboost-cpu"),
    "catboost": ("catboost",),
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
}
_HEAD = 4096  # bytes that tell the format
_OF_CLASSES = frozenset(
    {"Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy"}
)
# A protobuf text "location" as a key: ONNX names a file of weights beside the model so.
_EXTERNAL = b"\x0a\x08location"


class UnreadableModelError(ValueError):
    """The bytes are no model of the format that they begin like, or its library is not installed."""


def format_of(content: bytes) -> str | None:
    """Which of `PACKAGES` reads the file, told by how it begins; None for none of them."""
    head = content[:_HEAD]
    if head.startswith((b"tree\n", b"tree\r\n")):
        return "lightgbm"
    if head.startswith(b"CBM1"):
        return "catboost"
    if (head.startswith(b"{L") and b"learner" in head) or (head.lstrip().startswith(b"{") and b'"learner"' in head):
        return "xgboost"
    # ir_version, the first field of an ONNX model; 1 and 2 were never written by a release.
    return "onnx" if len(head) > 2 and head[0] == 8 and 3 <= head[1] <= 99 else None  # noqa: PLR2004


def flavor_of(content: bytes) -> dict[str, Any]:
    """What MLflow's flavor of that format says in an MLmodel file, besides versions and where the file is."""
    kind = format_of(content)
    if kind == "lightgbm":
        return {"model_class": "lightgbm.basic.Booster"}
    if kind == "xgboost":
        return {"model_class": _xgboost_class(content), "model_format": "json" if _is_json(content) else "ubj"}
    if kind == "catboost":
        return {"model_type": _catboost_class(content), "save_format": "cbm"}
    return {"providers": ["CPUExecutionProvider"], "onnx_session_options": None}


def read(content: bytes) -> Any:
    """The model in `content`, with `predict` of a frame or array of shape (rows, columns), and perhaps `predict_proba`.

    Columns go by their names where the model knows the names of all of them, else by their places.

    Raises:
        UnreadableModelError: when it cannot be read; its cause is a ModuleNotFoundError where the library is missing.
    """
    kind = format_of(content) or "onnx"
    try:
        return _READERS[kind](content)
    except ModuleNotFoundError as error:
        raise UnreadableModelError(f"it is a model of {kind}, and {error.name} is not installed") from error
    except Exception as error:  # each library raises its own
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnreadableModelError(f"it begins like a model of {kind}, which cannot read it: {why}"[:500]) from error


class NativeModel:
    """A model behind MLflow's `predict(model_input, params)`; `params={"method": "predict_proba"}` is known."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predictions for the rows of `model_input`: shape (rows,) or (rows, outputs).

        Raises:
            ValueError: when the method is not one of METHODS or the model does not have it.
        """
        method = (params or {}).get("method", "predict")
        if method not in METHODS or not hasattr(self.estimator, method):
            has = [name for name in METHODS if hasattr(self.estimator, name)]
            raise ValueError(f"method {method!r} is not available; this model has: {', '.join(has)}")
        return getattr(self.estimator, method)(model_input)


class _Predictor:
    """A model of a library as an estimator; `predict_proba` is there where `probabilities` is given.

    `probabilities_only` says that `predict` gives probabilities of numbered classes, not labels.
    """

    def __init__(
        self, predict: Callable[[Any], Any], probabilities: Callable[[Any], Any] | None = None, *, only: bool = False
    ) -> None:
        self._predict = predict
        self.probabilities_only = only
        if probabilities is not None:
            self.predict_proba = probabilities

    def predict(self, rows: Any) -> Any:
        """Shape (rows,), or (rows, outputs)."""
        return _by_row(self._predict(rows))


def _lightgbm(content: bytes) -> _Predictor:
    import lightgbm
    import numpy as np

    lightgbm.register_logger(_Silent())
    booster = lightgbm.Booster(model_str=content.decode())
    names = booster.feature_name()

    def predict(rows: Any) -> Any:
        return booster.predict(_ordered(rows, names))

    def probabilities(rows: Any) -> Any:
        found = np.asarray(predict(rows))
        return np.column_stack([1 - found, found]) if found.ndim == 1 else found

    said = re.search(rb"^objective=(\w+)", content, re.MULTILINE)
    of_classes = said is not None and said[1] in (b"binary", b"multiclass", b"multiclassova")
    return _Predictor(predict, probabilities if of_classes else None, only=of_classes)


class _Silent:
    """LightGBM's log, which would go to stdout; what is an error is raised, too."""

    def info(self, _message: str) -> None:
        """Say nothing."""

    def warning(self, _message: str) -> None:
        """Say nothing."""


def _xgboost(content: bytes) -> _Predictor:
    import xgboost

    named = _xgboost_class(content).rpartition(".")[2]
    model: Any = xgboost.Booster() if named == "Booster" else getattr(xgboost, named)()
    model.load_model(bytearray(content))
    booster = model if named == "Booster" else model.get_booster()
    names = booster.feature_names or ()
    if named == "Booster":
        if booster.num_features() == 0:
            raise ValueError("it has no features")

        def predict(rows: Any) -> Any:
            ordered = _ordered(rows, names)
            return booster.predict(xgboost.DMatrix(ordered, feature_names=list(names) or None))

        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        return _Predictor(predict, only=objective in ("binary:logistic", "multi:softprob"))
    of_classes = named == "XGBClassifier"
    return _Predictor(
        lambda rows: model.predict(_ordered(rows, names)),
        (lambda rows: model.predict_proba(_ordered(rows, names))) if of_classes else None,
    )


def _catboost(content: bytes) -> _Predictor:
    import catboost

    named = _catboost_class(content)
    model = getattr(catboost, named)()
    model.load_model(blob=content)
    names = [str(name) for name in model.feature_names_ or ()]
    of_classes = named == "CatBoostClassifier"
    return _Predictor(
        lambda rows: model.predict(_ordered(rows, names)),
        (lambda rows: model.predict_proba(_ordered(rows, names))) if of_classes else None,
    )


def _onnx(content: bytes) -> _Predictor:
    import onnxruntime

    if _EXTERNAL in content:
        raise ValueError("its weights are in files beside it; onnx.save(model, path) writes them into one file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    asked = {given.name: given.type for given in session.get_inputs()}
    outputs = [given.name for given in session.get_outputs()]

    def run(rows: Any, output: int) -> Any:
        return session.run([outputs[output]], _fed(rows, asked))[0]

    def probabilities(rows: Any) -> Any:
        found = run(rows, 1)
        return [list(row.values()) for row in found] if isinstance(found, list) else found

    # As skl2onnx and onnxmltools write classifiers: the label, then its probabilities.
    of_classes = len(outputs) == 2 and outputs[0].endswith("label")  # noqa: PLR2004
    return _Predictor(lambda rows: run(rows, 0), probabilities if of_classes else None)


_READERS: Mapping[str, Callable[[bytes], _Predictor]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "catboost": _catboost,
    "onnx": _onnx,
}
_NUMPY = {"float": "float32", "double": "float64", "string": "object"}  # the others have numpy's own names


def _fed(rows: Any, asked: Mapping[str, str]) -> dict[str, Any]:
    """What an ONNX session is given: each input a column of the frame, or the one input the whole table."""
    import numpy as np

    types = {name: re.sub(r"tensor\((\w+)\)", r"\1", kind) for name, kind in asked.items()}
    types = {name: _NUMPY.get(kind, kind) for name, kind in types.items()}
    columns = getattr(rows, "columns", ())
    if len(asked) == 1:
        ((name, kind),) = types.items()
        return {name: np.asarray(rows).astype(kind)}
    missing = [name for name in asked if name not in columns]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}, which the model takes")
    return {name: np.asarray(rows[name]).reshape(-1, 1).astype(kind) for name, kind in types.items()}


def _ordered(rows: Any, names: Iterable[str]) -> Any:
    """The frame with the model's columns in its order; as it is where the names are not the model's."""
    columns = getattr(rows, "columns", None)
    if columns is None:
        return rows
    known = {re.sub(r"\s", "_", str(column)): column for column in columns} | {
        str(column): column for column in columns
    }
    wanted = [known.get(name) for name in names]
    return rows[wanted] if wanted and None not in wanted else rows


def _by_row(predicted: Any) -> Any:
    import numpy as np

    found = np.asarray(predicted)
    return found.reshape(-1) if found.ndim == 2 and found.shape[1] == 1 else found  # noqa: PLR2004


def _is_json(content: bytes) -> bool:
    return not content.startswith(b"{L")


def _xgboost_class(content: bytes) -> str:
    said = re.search(rb"_estimator_type\W{1,9}(classifier|regressor|ranker)", content)
    named = {b"classifier": "XGBClassifier", b"regressor": "XGBRegressor", b"ranker": "XGBRanker"}
    return f"xgboost.sklearn.{named[said[1]]}" if said else "xgboost.core.Booster"


def _catboost_class(content: bytes) -> str:
    said = re.search(rb'"loss_function":\{"type":"(\w+)"', content)
    loss = said[1].decode() if said else ""
    return "CatBoostClassifier" if loss in _OF_CLASSES else "CatBoostRegressor" if loss else "CatBoost"


def _load_pyfunc(data_path: str) -> NativeModel:
    """MLflow's entry. The bytes that are read are the very bytes whose digest was checked.

    Raises:
        ValueError: when they are not the bytes that were registered, or cannot be read.
    """
    content = Path(data_path).read_bytes()
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != (expected := _registered(Path(data_path))):
        raise ValueError(
            f"{data_path} (md5 {actual}) is not what was registered ({expected}); it was not read. "
            "Next: dovetail register, from the commit that made it"
        )
    return NativeModel(read(content))


def _registered(data_path: Path) -> str:
    import yaml

    said = yaml.safe_load((data_path.parents[1] / "MLmodel").read_text(encoding="utf-8"))
    return str(said["metadata"][MD5_KEY])
