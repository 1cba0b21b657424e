"""A column of a data file: its type in the words of params.yaml, and what a person should know of it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from dovetail.scaffold.text_file import FEW_ODD, as_numbers
from dovetail.values.reading import Reading

FEW = 20  # distinct whole numbers that are rather classes than amounts; values that may be distinct by chance
_ISO = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:[0-5]\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?"  # what the stages read
_OTHER_DAYS = r"\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?"
_ODD_SHOWN = 3
_LEAST, _MOST = -(2**63), 2**63 - 1  # of 64 bits
_SOME = 1000  # values that are tried as dates


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column: its type in the words of params.yaml, whether it names the row, and what a person should know of it.

    `dtype` is empty where params.yaml has no word for it: lists, durations.
    """

    name: str
    dtype: str
    nullable: bool
    is_id: bool = False
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Values:
    """A column's values in their type.

    Attributes:
        odd: The rows, from 1, with what is no number in a column of numbers, or of text that is mostly numbers.
        warning: What reading them told.
    """

    typed: Any
    odd: tuple[tuple[int, str], ...] = ()
    warning: str = ""


def from_text(values: Any, reading: Reading, infinite: int, missing: str) -> Values:
    """The type that all of the cells have, but for very few in a column of numbers.

    `infinite` of them were removed; `missing` says which words were, which matters where text remains.
    """
    found = _from_text(values, reading, infinite)
    is_told = missing and dtype_of(found.typed) == "str"
    return replace(found, warning="; ".join(filter(None, (found.warning, missing)))) if is_told else found


def _from_text(values: Any, reading: Reading, infinite: int) -> Values:  # noqa: PLR0911  (one per type)
    import pandas as pd

    present = values.dropna()
    if present.empty:
        return Values(pd.Series(float("nan"), values.index))
    if present.str.strip().str.casefold().isin(["true", "false"]).all():
        return Values((values.str.strip().str.casefold() == "true").where(values.notna()).astype("boolean"))
    text = Values(values.astype("string"))
    if present.str.fullmatch(r"\s*0\d+\s*").any():
        return replace(text, warning="digits with leading zeros: text") if _is_digits(present) else text
    numbers = as_numbers(values.astype("string"), reading)
    odd = tuple((int(row) + 1, str(values[row])) for row in values.index[values.notna() & numbers.isna()])
    if len(odd) > FEW_ODD * len(present):
        mostly = len(odd) < len(present) / 2
        return replace(text, odd=odd, warning=_share(present, odd)) if mostly else text
    if numbers.abs().max() == float("inf"):
        return replace(text, warning="numbers too large for a computer: text")
    said = [f"infinite in {infinite} rows: read as missing"] if infinite else []
    said += [f"{_shown(odd)} no number: the row is rejected"] if odd else []
    warning = "; ".join(said)
    whole = numbers.dropna()
    if (whole == whole.round()).all():
        if (exact := _whole(values, numbers, reading)) is not None:
            return Values(exact, odd, warning)
        if not present.str.contains("e", case=False, regex=False).any():  # 6.022e23 is no id
            return replace(text, warning="whole numbers beyond 64 bits: text")
    return Values(numbers, odd, warning)


def _whole(values: Any, numbers: Any, reading: Reading) -> Any:
    """Whole numbers of up to 64 bits, None where one has more; beyond 53 of them a float would be another one."""
    import pandas as pd

    if numbers.abs().max() < 2.0**53:
        return numbers.round().astype("Int64")
    digits = values.where(numbers.notna()).str.strip().str.removeprefix("+")
    if reading.thousands:
        digits = digits.str.replace(reading.thousands, "", regex=False)
    plain = digits.str.replace(reading.decimal, ".", regex=False)
    exact = [None if pd.isna(text) else int(Decimal(text)) for text in plain]
    if any(number is not None and not _LEAST <= number <= _MOST for number in exact):
        return None
    return pd.Series(exact, values.index, "Int64")


def _is_digits(present: Any) -> bool:
    return bool(present.str.fullmatch(r"\s*\d+\s*").all())


def _share(present: Any, odd: tuple[tuple[int, str], ...]) -> str:
    share = 1 - len(odd) / len(present)
    return f"{share:.0%} of it are numbers, beside {_shown(odd)}: null_values under clean, if that means missing"


def _shown(odd: tuple[tuple[int, str], ...]) -> str:
    """Some of the values, each with its first row."""
    first: dict[str, int] = {}
    for row, word in odd:
        first.setdefault(word, row)
    few = [f"{word[:FEW]!r} (row {row})" for word, row in list(first.items())[:_ODD_SHOWN]]
    return ", ".join(few) + ("" if len(first) <= _ODD_SHOWN else f" and {len(first) - _ODD_SHOWN} others")


def dtype_of(values: Any) -> str:
    """The word of params.yaml for the type of present values; empty where there is none."""
    from pandas import ArrowDtype, CategoricalDtype
    from pandas.api import types

    kind = values.dtype
    if isinstance(kind, ArrowDtype):
        return "date"  # of no other column's type
    for is_of, word in (
        (types.is_bool_dtype, "bool"),
        (types.is_integer_dtype, "int64"),
        (types.is_float_dtype, "float64"),
        (types.is_datetime64_any_dtype, "datetime"),
    ):
        if is_of(kind):
            return word
    if types.is_object_dtype(kind):
        return "str" if len(values) and all(isinstance(value, str) for value in values) else ""
    return "str" if types.is_string_dtype(kind) or isinstance(kind, CategoricalDtype) else ""


def inferred_column(name: str, values: Values, is_target: bool) -> InferredColumn:  # noqa: FBT001  (one of two kinds)
    """What a person should know of the column `name`, which may be the target."""
    present = values.typed.dropna()
    dtype = dtype_of(present)
    if not dtype:
        return InferredColumn(name, "", nullable=True, warning="of a type that no model takes: dropped")
    is_id = not is_target and dtype in ("str", "int64") and len(present) > FEW and present.is_unique
    said = "; ".join([*([values.warning] if values.warning else []), *_warnings(dtype, values.typed, is_id=is_id)])
    return InferredColumn(name, dtype, bool(values.typed.isna().any()), is_id, said)


def _warnings(dtype: str, values: Any, *, is_id: bool) -> Iterator[str]:
    import pandas as pd

    present = values.dropna()
    if present.empty or (present == present.iloc[0]).all():
        yield "one value only" if len(present) else "no value at all"
        return
    if values.isna().mean() > 1 / 2:
        yield f"{values.isna().mean():.0%} missing"
    if is_id:
        yield "another value in each row: dropped where others remain"
    if dtype != "str":
        return
    text = present.astype(str)
    kinds = text.unique()
    stripped = {kind.strip() for kind in kinds}
    if len(stripped) < len(kinds):
        yield "some values differ by blanks alone: strip them in the cleaning script"
    if pd.to_numeric(text.str.replace(r"[,$€£%\s]", "", regex=True), errors="coerce").notna().mean() > 1 / 2:
        if not pd.to_numeric(text, errors="coerce").notna().mean() > 1 / 2:
            yield "looks like amounts or percentages: the cleaning script can make numbers of them"
        return
    some = text.head(_SOME)
    read = pd.to_datetime(some, errors="coerce", format="ISO8601", utc=True).notna()  # of several time zones, too
    if (read & some.str.strip().str.fullmatch(_ISO)).mean() > 1 / 2:
        yield "looks like dates: dtype datetime"
    elif (read | some.str.fullmatch(_OTHER_DAYS)).mean() > 1 / 2:
        yield "looks like dates, not as dtype datetime has them: the cleaning script can read them"
