"""Compile a model to ONNX, and compare what both say of the test set: in a process of its own, for a pickle is read.

What was compared stands for more than the rows of the test set: besides them, rows are drawn from twice the range of
each column, so that a difference between them (a number that the model knows no category for) does not go unseen.
"""

import importlib.util
import math
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.compiling import float64_converters
from dovetail.compiling.compiled_model import ABOUT, ColumnRange, Compiled, ModelMetadata, is_same
from dovetail.errors import UserError
from dovetail.joblib_model import METHODS
from dovetail.models.reader import read_at
from dovetail.values import tag_keys

if TYPE_CHECKING:
    import pandas as pd

SAME = tag_keys.ONNX_SAME
DIFFERS, NOT_CONVERTIBLE, NOT_COMPILED = "differs on", "not convertible", "not compiled"
_KEY, _ONNX = "compile", "onnx"
_NEEDS = ("skl2onnx", "onnxruntime")
_SECONDS = 120
_DRAWN = 1_000
_NUMBERS = ("float64", "int64", "int32", "bool")  # of float32 scikit-learn makes float32, in some places
_SHOWN = 160  # characters of a reason


@dataclass(frozen=True, slots=True)
class CompileRequest:
    """What to compile, and the rows to compare on.

    Attributes:
        file: The model's bytes, of the right digest.
        allow: Names, or packages of classes, that it may name besides the table's.
        types: Of its columns, as the card has them; None without a card.
        tables: What it was evaluated on: where it lies, what it is called.
    """

    file: str
    allow: tuple[str, ...]
    types: Mapping[str, str] | None
    tables: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CompileResult:
    """What came of it; without `content` scikit-learn alone answers."""

    verdict: str
    content: bytes | None = None


def is_wanted(model: str, given: Any) -> bool:
    """Whether `meta.serving` of a model asks for it.

    Raises:
        UserError: when it is malformed or has an unknown key.
    """
    place = f"artifacts.{model}.meta.serving"
    right = f"write it as serving: {{{_KEY}: {_ONNX}}}"
    if not isinstance(given, Mapping):
        raise UserError(f"{place} is {given!r}", right)
    if unknown := sorted(map(str, set(given) - {_KEY})):
        raise UserError(f"{place} has unknown keys {unknown}", f"use {_KEY}")
    if given.get(_KEY) not in (None, _ONNX):
        raise UserError(f"{place}.{_KEY} is {given[_KEY]!r}", right)
    return given.get(_KEY) == _ONNX


def is_final(verdict: str) -> bool:
    """Whether asking again would say the same."""
    return bool(verdict) and not verdict.startswith(NOT_COMPILED)


def run(request: CompileRequest) -> CompileResult:
    """Compile it; never an error."""
    from dovetail.system.processes import NoAnswer, start_worker

    if lacking := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        return CompileResult(f"{NOT_COMPILED}: {' and '.join(lacking)} not installed")
    if request.types is None:
        return CompileResult(f"{NOT_COMPILED}: the model has no card that names its columns")
    if strange := [f"{name} is a {kind}" for name, kind in request.types.items() if kind not in (*_NUMBERS, "str")]:
        return CompileResult(f"{NOT_CONVERTIBLE}: {strange[0]}")
    try:
        outcome: CompileResult = start_worker(_run, request).result(_SECONDS)
    except NoAnswer as failure:
        return CompileResult(f"{NOT_COMPILED}: {failure}")
    return outcome


def _run(request: CompileRequest) -> CompileResult:
    warnings.simplefilter("ignore")  # what converters have to say of themselves
    if hasattr(signal, "alarm"):
        signal.alarm(_SECONDS)  # left behind by a killed parent it holds the parent's lock: not for longer
    try:
        rows = _rows(request)
        model = read_at(Path(request.file), request.allow)
        if rows is None:
            return CompileResult(f"{NOT_COMPILED}: no table that it was evaluated on has its columns")
        return _first_that_agrees(model, rows)
    except Exception as error:  # noqa: BLE001  (a model can raise anything, and so can a converter)
        return CompileResult(f"{NOT_COMPILED}: {_one_line(error)}")


def _rows(request: CompileRequest) -> "pd.DataFrame | None":
    """The test set's rows with nothing missing, in the types in which the model is asked."""
    import numpy as np

    from dovetail.values.tables import frame

    types = dict(request.types or {})
    for file, name in request.tables:
        table = frame(Path(file), name)
        if table is not None and types and set(types) <= set(table.columns):
            whole = table[list(types)].replace([np.inf, -np.inf], np.nan).dropna()
            return whole.astype(types).reset_index(drop=True) if len(whole) else None
    return None


def _first_that_agrees(model: Any, rows: "pd.DataFrame") -> CompileResult:
    float64_converters.teach()
    reach = tuple(_reach(str(name), rows[name]) for name in rows)
    drawn = _drawn(reach, rows)
    methods = tuple(name for name in METHODS if hasattr(model, name))
    if hasattr(model, "classes_") and "predict_proba" not in methods:
        return CompileResult(
            f"{NOT_CONVERTIBLE}: it gives no probabilities, and labels alone do not show how near they are"
        )
    outcomes: list[CompileResult] = []
    for whole, doubles in _forms(rows):
        about = ModelMetadata(reach if not doubles else tuple(replace(c, dtype="float64") if c.dtype in _NUMBERS else c
                                                      for c in reach), whole, methods)  # fmt: skip
        try:
            outcomes.append(_compared(model, _converted(model, about), rows, drawn))
        except Exception as error:  # noqa: BLE001  (skl2onnx and onnxruntime raise anything, and any model comes here)
            outcomes.append(CompileResult(f"{NOT_CONVERTIBLE}: {_one_line(error)}"))
        if outcomes[-1].content:
            return outcomes[-1]
    return next((one for one in outcomes if one.verdict.startswith(DIFFERS)), outcomes[0])


def _forms(rows: "pd.DataFrame") -> list[tuple[bool, bool]]:
    """How the rows may be put to it, the quickest first: as a whole or by column, numbers as doubles or as they are."""
    numbers = all(str(dtype) in _NUMBERS for dtype in rows.dtypes)
    return [(True, True)] * numbers + [(False, True), (False, False)]


def _reach(name: str, column: "pd.Series[Any]") -> ColumnRange:
    dtype = str(column.dtype)
    if dtype not in _NUMBERS:
        return ColumnRange(name, "str", texts=tuple(sorted(set(column))))
    if dtype == "bool":
        return ColumnRange(name, dtype, 0.0, 1.0)
    low, high = float(column.min()), float(column.max())
    return ColumnRange(name, dtype, low - (high - low) / 2, high + (high - low) / 2)


def _drawn(reach: Sequence[ColumnRange], rows: "pd.DataFrame") -> "pd.DataFrame":
    """Rows between those of the test set and around them, each column by itself."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    columns: dict[str, Any] = {}
    for column in reach:
        seen = random.choice(rows[column.name].to_numpy(), _DRAWN)
        if column.dtype in ("str", "bool"):
            columns[column.name] = seen
        elif column.dtype.startswith("int"):
            columns[column.name] = random.integers(math.ceil(column.low), math.floor(column.high) + 1, _DRAWN)
        else:
            anywhere = random.uniform(column.low, column.high, _DRAWN)
            columns[column.name] = np.where(random.random(_DRAWN) < 0.5, seen, anywhere)  # noqa: PLR2004  (half each)
    return pd.DataFrame(columns).astype(rows.dtypes.to_dict())


def _converted(model: Any, about: ModelMetadata) -> Any:
    """The model in ONNX, as skl2onnx makes it."""
    from onnx import helper
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import BooleanTensorType, DoubleTensorType, Int64TensorType, StringTensorType

    kinds = {"str": StringTensorType, "int64": Int64TensorType, "int32": Int64TensorType, "bool": BooleanTensorType}
    columns = about.columns
    inputs = [("rows", DoubleTensorType([None, len(columns)]))] if about.whole else [
        (column.name, kinds.get(column.dtype, DoubleTensorType)([None, 1])) for column in columns
    ]  # fmt: skip
    options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    made = convert_sklearn(
        model,
        ABOUT,  # else a name drawn at random: the same model is to give the same bytes
        initial_types=inputs,
        options=options,
        target_opset=float64_converters.TARGET_OPSET,
    )
    float64_converters.finish(made)
    helper.set_model_props(made, {ABOUT: about.text()})
    return made


def _compared(model: Any, made: Any, rows: "pd.DataFrame", drawn: "pd.DataFrame") -> CompileResult:
    content = made.SerializeToString()
    compiled = Compiled(content)
    if differing := _differing(model, compiled, rows):
        return CompileResult(f"{DIFFERS} {differing} of {len(rows)} rows")
    if differing := _differing(model, compiled, drawn):
        return CompileResult(f"{DIFFERS} {differing} of {_DRAWN} rows drawn around the test set")
    return CompileResult(f"{SAME} {len(rows)} rows", content)


def _differing(model: Any, compiled: Compiled, rows: "pd.DataFrame") -> int:
    """On how many rows the two do not say the same, by any method."""
    import numpy as np

    feeds = compiled.feeds({str(name): rows[name].tolist() for name in rows})
    if feeds is None:
        return len(rows)
    same = np.ones(len(rows), dtype=bool)
    for method in compiled.about.methods:
        theirs, sure = compiled.ask(method, feeds)
        try:
            ours = np.asarray(getattr(model, method)(rows))
        except Exception:  # noqa: BLE001  (what the model refuses, the other one has answered)
            return len(rows)
        if np.shape(ours) != np.shape(theirs):
            return len(rows)
        alike = [is_same(*pair) for pair in zip(ours.tolist(), theirs.tolist(), strict=True)]
        same &= np.array(alike, dtype=bool) | (~sure if sure is not None else False)  # those are not answered
    return int((~same).sum())


def _one_line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
