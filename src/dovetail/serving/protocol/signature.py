"""What a version takes and gives, and whether values are that: MLflow's column types without MLflow or pandas."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from dovetail.serving.protocol.refused import Refused

_NUMBERS = ("double", "float")
_MOST = int(sys.float_info.max)
_INTEGERS = {"long": 63, "integer": 31}
_SAID = {
    "double": "a number", "float": "a number", "long": "a 64-bit integer", "integer": "a 32-bit integer",
    "string": "text", "boolean": "true or false", "datetime": "a time in ISO 8601, in UTC or with its time zone",
}  # fmt: skip
_NONE = type(None)
_TYPES: dict[str, set[type]] = {"string": {str, _NONE}, "boolean": {bool}, "datetime": {str, datetime, _NONE}}
_OPTIONAL_BOOLEAN = {bool, _NONE}
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?")
_SHOWN = 40  # characters of a value that an error repeats


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the signature; `type` is MLflow's: double, float, long, integer, string, boolean, datetime.

    `boolean` says that its numbers stand for true and false: some were missing where the model was trained.
    """

    name: str
    type: str
    required: bool
    boolean: bool = False

    @property
    def expected(self) -> str:
        """What its values are, in words."""
        said = _SAID["boolean"] if self.boolean else _SAID.get(self.type, self.type)
        return said + ("" if self.required or self.type in _INTEGERS else " or null")

    def check(self, values: list[Any], first: int = 0) -> list[Any]:
        """The values as the model gets them; missing numbers are None. `first` is the row that they begin with.

        Raises:
            Refused: naming the first that is not of the type.
        """
        kinds = set(map(type, values))
        if float in kinds and self.type not in _NUMBERS:
            values = [None if value != value else value for value in values]  # noqa: PLR0124  (NaN is missing)
            kinds = set(map(type, values))
        if self.type in _NUMBERS:
            if kinds <= {float, _NONE}:
                return values
            if kinds <= ({bool, float, int, _NONE} if self.boolean else {float, int, _NONE}):
                return self._floats(values, first)
        elif self.type in _INTEGERS:
            if kinds <= {int, float}:
                return self._integers(values, first)
        elif kinds <= (_OPTIONAL_BOOLEAN if self.type == "boolean" and not self.required else _TYPES[self.type]):
            return self._times(values, first) if self.type == "datetime" else values
        raise self._wrong(values, first)

    def _floats(self, values: list[Any], first: int) -> list[float | None]:
        """JSON may say 5 for 5.0: whatever comes after it, the model and the log, gets one type of value."""
        try:
            return [None if value is None else float(value) for value in values]
        except OverflowError:
            row = next(r for r, value in enumerate(values) if isinstance(value, int) and abs(value) > _MOST)
            raise self._reject(first + row, values[row]) from None

    def _integers(self, values: list[Any], first: int) -> list[int]:
        bits = _INTEGERS[self.type]
        whole = [int(value) if isinstance(value, int) or value.is_integer() else None for value in values]
        if any(value is None or not -(1 << bits) <= value < 1 << bits for value in whole):
            row = next(r for r, v in enumerate(whole) if v is None or not -(1 << bits) <= v < 1 << bits)
            raise self._reject(first + row, values[row])
        return whole  # type: ignore[return-value]  # none of them is None

    def _times(self, values: list[Any], first: int) -> list[Any]:
        times = []
        for row, value in enumerate(values):
            try:
                times.append(_utc(value))
            except (ValueError, OverflowError):
                raise self._reject(first + row, value) from None
        return times

    def _wrong(self, values: list[Any], first: int) -> Refused:
        allowed: dict[str, tuple[type, ...]] = {"string": (str,), "boolean": (bool,), "datetime": (str, datetime)}
        right = allowed.get(self.type, (int, float))
        null_too = self.type not in _INTEGERS and (self.type != "boolean" or not self.required)
        for row, value in enumerate(values):
            fits = isinstance(value, right) and (bool in right or self.boolean or not isinstance(value, bool))
            if not fits and not (value is None and null_too):
                return self._reject(first + row, value)
        return self._reject(first, values[0])

    def _reject(self, row: int, value: object) -> Refused:
        got = "null" if value is None else f"{value!r:.{_SHOWN}}"
        message = f"column {self.name!r}, row {row}: expected {self.expected}, got {got}"
        return Refused(422, message, field=self.name, expected=self.expected, got=got)


def _utc(value: Any) -> Any:
    """A time without a zone, as models get them: one that has a zone in UTC, as the cleaning of the data reads it."""
    if isinstance(value, str):
        if not _TIME.fullmatch(value.strip()):
            raise ValueError(value)
        value = datetime.fromisoformat(value.strip())
    return value.astimezone(UTC).replace(tzinfo=None) if value is not None and value.tzinfo else value


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and gives.

    Attributes:
        columns: None where the version has no signature: then everything is passed on as it comes.
        output: MLflow's type of a prediction; None where it is not known.
        methods: What `params: {"method": …}` may name.
    """

    columns: tuple[Column, ...] | None
    output: str | None
    methods: tuple[str, ...]

    @property
    def names(self) -> set[str] | None:
        """The columns' names; None where the version has no signature."""
        return None if self.columns is None else {column.name for column in self.columns}

    @classmethod
    def of(cls, described: Mapping[str, Any], methods: Sequence[str]) -> "Signature":
        """From what MLflow wrote: `inputs` and `outputs` are lists of {type, name, required}, `booleans` one of names.

        Raises:
            ValueError: when it has columns of a kind that is not served: tensors, arrays, objects.
        """
        inputs, outputs, truths = described.get("inputs"), described.get("outputs"), described.get("booleans") or ()
        if inputs and len(inputs) == 1 and inputs[0]["type"] == "tensor" and "name" not in inputs[0]:
            inputs = None  # one tensor, taken as it comes
        for column in inputs or ():
            if column["type"] not in _SAID or "name" not in column:
                raise ValueError(f"a column of type {column['type']} is not served; use mlflow models serve")
        return cls(
            columns=None
            if inputs is None
            else tuple(Column(c["name"], c["type"], c.get("required", True), c["name"] in truths) for c in inputs),
            output=outputs[0]["type"] if outputs and len(outputs) == 1 else None,
            methods=tuple(methods),
        )

    def check(self, given: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        """The columns that the model knows, in its order and types; others are ignored, as MLflow does.

        Raises:
            Refused: when one is missing or holds something else.
        """
        if self.columns is None:
            return dict(given)
        self.check_names(given)
        return {column.name: column.check(given[column.name]) for column in self.columns if column.name in given}

    def check_names(self, given: Iterable[str]) -> None:
        """Refuse what lacks a column that the model needs.

        Raises:
            Refused: naming those that are missing.
        """
        given, known = list(given), self.columns or ()
        missing = [column.name for column in known if column.required and column.name not in given]
        if missing:
            names = ", ".join(column.name for column in known)
            got = ", ".join(given[:20])[:200] or "none"
            message = f"columns are missing: {', '.join(missing)}"
            raise Refused(422, message, field=missing[0], expected=names, got=got)

    def method(self, params: object) -> str:
        """The method that the request asks for.

        Raises:
            Refused: when the model has none of that name.
        """
        if params is None:
            return self.methods[0]
        if not isinstance(params, dict):
            raise Refused(422, "params is not an object", field="params", expected="an object", got=kind(params))
        asked = params.get("method", self.methods[0])
        if asked not in self.methods:
            expected = " or ".join(self.methods)
            got = f"{asked!r:.{_SHOWN}}"
            raise Refused(422, f"params.method: expected {expected}, got {got}", field="params.method",
                           expected=expected, got=got)  # fmt: skip
        return str(asked)


def transposed(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Rows as columns. Their lengths have to agree with `names`."""
    if len(rows) == 1:
        return {name: [value] for name, value in zip(names, rows[0], strict=True)}
    flat = list(chain.from_iterable(rows))
    return {name: flat[start :: len(names)] for start, name in enumerate(names)}


def kind(value: object) -> str:
    """How JSON calls what was sent."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "a boolean"
    kinds: dict[type, str] = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)
