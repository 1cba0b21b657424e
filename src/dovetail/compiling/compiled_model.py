"""A model compiled to ONNX, asked: it answers the rows for which it was proved, and leaves the others to scikit-learn.

The file says itself what it takes: the columns, and for each the values between which, or of which, it was tried.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from dovetail.models.reader import ENV_NO_ORT_TELEMETRY
from dovetail.values.tag_keys import COMPILED_FILE

FILE = COMPILED_FILE
ABOUT = "dovetail"  # the key under which the file says what it takes
_TIE = 1e-9  # between the two best classes: closer, and the last bit of a sum decides
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12  # scikit-learn's own sums differ by less, with the number of rows asked together
_DTYPES = {
    "int64": "int64",
    "int32": "int64",
    "bool": "bool",
}  # of a column that is an input of its own; other numbers are float64


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """What a column may hold: numbers from `low` to `high`, or one of `texts`."""

    name: str
    dtype: str
    low: float = 0.0
    high: float = 0.0
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a compiled model takes and answers.

    Attributes:
        columns: In the order of the signature.
        whole: Whether all columns, numbers then, are one input; else each is an input of its own name.
        methods: Those of the model.
    """

    columns: tuple[ColumnRange, ...]
    whole: bool
    methods: tuple[str, ...]

    def text(self) -> str:
        """As the file keeps it; `parse` is the inverse."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "ModelMetadata":
        """From what the file keeps."""
        said = json.loads(text)
        columns = tuple(ColumnRange(**{**column, "texts": tuple(column["texts"])}) for column in said["columns"])
        return cls(columns, said["whole"], tuple(said["methods"]))


class Compiled:
    """A compiled model in memory, on one thread."""

    def __init__(self, content: bytes) -> None:
        """Load it.

        Raises:
            ImportError: when onnxruntime is not installed.
            Exception: of onnxruntime's own, when it does not run the file.
        """
        import numpy as np

        os.environ.setdefault(ENV_NO_ORT_TELEMETRY, "1")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # its errors are raised as well
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.about = ModelMetadata.parse(self._session.get_modelmeta().custom_metadata_map[ABOUT])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._low = np.array([column.low for column in self.about.columns])
        self._high = np.array([column.high for column in self.about.columns])

    def answer(self, method: str, columns: Mapping[str, list[Any]]) -> list[Any] | None:
        """What the model says of the rows; None where scikit-learn is to be asked instead."""
        if method not in self.about.methods or (feeds := self.feeds(columns)) is None:
            return None
        said, sure = self.ask(method, feeds)
        return list(said.tolist()) if sure is None or sure.all() else None

    def why_unusable(
        self,
        methods: Sequence[str],
        ours: Callable[[str, Mapping[str, list[Any]]], Any],
        columns: Mapping[str, list[Any]],
    ) -> str | None:
        """Why it is not to be used on this machine, by the rows of the input example; None where it may be.

        Each row is asked by itself, as it answers none of several among which is one that it was not proved for.

        Args:
            methods: Those by which it is going to be asked.
            ours: What the model itself says by a method of one row.
            columns: The rows.
        """
        if not columns:
            return "there is no input example to try it on here"
        rows = [
            dict(zip(columns, ([value] for value in row), strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        for method in methods:
            asked = 0
            for row in rows:
                try:
                    theirs = self.answer(method, row)
                    same = theirs is None or is_same(ours(method, row), theirs)
                except Exception as error:  # noqa: BLE001  (onnxruntime raises its own, and a model anything)
                    return f"{method} of the input example fails here: {' '.join(str(error).split())[:200]}"
                if not same:
                    return f"{method} does not say the same of the input example here"
                asked += theirs is not None
            if not asked:
                return f"no row of the input example could be tried here by {method}"
        return None

    def feeds(self, columns: Mapping[str, list[Any]]) -> dict[str, Any] | None:
        """The rows as its inputs; None where one holds what it was not proved for, or nothing."""
        import numpy as np

        about = self.about
        if len(columns) != len(about.columns) or not all(
            map(len, columns.values())
        ):  # scikit-learn refuses a table without rows
            return None
        if about.whole:
            try:
                rows = np.array([columns[column.name] for column in about.columns], dtype="float64").T
            except (KeyError, TypeError, ValueError, OverflowError):
                return None
            within = (rows >= self._low) & (rows <= self._high)  # never so of NaN
            return {self._input: np.ascontiguousarray(rows)} if within.all() else None
        feeds = {}
        for column in about.columns:
            values = columns.get(column.name)
            if values is None or not _is_within(column, values, self._texts.get(column.name)):
                return None
            dtype = "object" if column.texts else _DTYPES.get(column.dtype, "float64")
            feeds[column.name] = np.array(values, dtype=dtype)[:, None]
        return feeds

    @cached_property
    def _texts(self) -> dict[str, frozenset[str]]:
        return {column.name: frozenset(column.texts) for column in self.about.columns if column.texts}

    def ask(self, method: str, feeds: Mapping[str, Any]) -> tuple[Any, Any]:
        """Predictions, and of which rows they are sure: booleans of shape (rows,), None for all."""
        if len(self._outputs) == 1:
            (numbers,) = self._session.run(None, feeds)
            return (numbers[:, 0] if numbers.ndim > 1 and numbers.shape[1] == 1 else numbers), None
        labels, scores = self._session.run(self._outputs[:2], feeds)
        if method == "predict_proba":
            return scores, None
        return labels, _has_one_best(scores)


def is_same(ours: Any, theirs: Any) -> bool:
    """Whether two answers are one: labels and types equal, numbers but for the last digits of a sum."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE)
    return type(ours) is type(theirs) and bool(ours == theirs)


def _is_within(column: ColumnRange, values: Sequence[Any], texts: frozenset[str] | None) -> bool:
    if texts is not None:
        return texts.issuperset(values)
    try:
        return all(column.low <= value <= column.high for value in values)
    except TypeError:  # None is missing
        return False


def _has_one_best(scores: Any) -> Any:
    """Which rows have one best class."""
    import numpy as np

    best = np.partition(scores, -2, axis=1)
    return best[:, -1] - best[:, -2] > _TIE
