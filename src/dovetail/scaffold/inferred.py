"""What the columns of a data file hold, as a schema that a person corrects: types, and what looks like another one."""

import csv
import gzip
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import UserError, one_line

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (".csv", ".tsv")
SUFFIXES = (*_TEXT, ".csv.gz", ".tsv.gz", ".parquet", ".jsonl", ".jsonl.gz")
_FEW = 20  # distinct whole numbers that are rather classes than amounts
_MANY_ROWS = 20_000  # beyond them histograms instead of a forest
_AGAIN = "dovetail new PROJECT --data FILE --target COLUMN"
_SEPARATORS = ",;\t|"
_NULLS = frozenset({"", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None", "?"})


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column: its type in the words of params.yaml, whether it names the row, and what a person should know of it."""

    name: str
    dtype: str
    nullable: bool
    is_id: bool = False
    warning: str = ""


@dataclass(frozen=True, slots=True)
class InferredData:
    """A data file.

    Attributes:
        separator: Of a text file, where it is not the one that its name promises; empty otherwise.
        null_words: The words in a text file that stand for missing values, the empty one among them; empty without any.
        missing: The share of rows whose target is missing.
        classes: Whether the target is one of few values rather than an amount.
    """

    rows: int
    columns: tuple[InferredColumn, ...]
    separator: str
    null_words: tuple[str, ...]
    missing: float
    classes: bool

    @property
    def estimator(self) -> str:
        """The import path of an estimator that is good without being tuned."""
        kind = "HistGradientBoosting" if self.rows > _MANY_ROWS else "RandomForest"
        return f"sklearn.ensemble.{kind}{'Classifier' if self.classes else 'Regressor'}"


def infer(file: Path, target: str | None = None) -> InferredData:
    """Read the file; without a target what its columns are, and no more.

    Raises:
        UserError: when it cannot be read, has no such column, or nothing can be learned of it.
    """
    separator = _separator(file)
    try:
        table = _read(file, separator)
    except UnicodeDecodeError as error:
        typed = shlex.quote(str(file))
        following = f"iconv -f WINDOWS-1252 -t UTF-8 {typed} > utf8.csv, then the same with utf8.csv"
        raise UserError(f"{file} is not UTF-8: {one_line(error)}", following) from error
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise UserError(
            f"{file} cannot be read as a table: {why}", "correct it, or write params.yaml by hand"
        ) from error
    names = [str(name) for name in table.columns]
    if target is not None and target not in names:
        raise UserError(f"{file} has no column {target!r}; it has: {', '.join(names)}", _AGAIN)
    if target is not None:
        _check_target(file, target, table[target])
    elif table.empty:
        raise UserError(f"{file} has no rows", "give it some")
    columns = tuple(_column(name, table[column]) for name, column in zip(names, table.columns, strict=True))
    return InferredData(
        rows=len(table),
        columns=columns,
        separator=separator if separator != _promised(file) else "",
        null_words=_null_words(file, separator),
        missing=float(table[target].isna().mean()) if target is not None else 0.0,
        classes=target is not None and _are_classes(table[target].dropna()),
    )


def _are_classes(values: Any) -> bool:
    from pandas.api import types

    number = types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype)
    if not number and not types.is_datetime64_any_dtype(values.dtype):
        return True
    return str(values.dtype) == "Int64" and bool(values.nunique() <= _FEW)


def _check_target(file: Path, target: str, values: Any) -> None:
    present = values.dropna()
    why = ""
    if values.empty:
        why = "it has no rows"
    elif present.empty:
        why = f"{target!r} has no value in any row"
    elif (present == present.iloc[0]).all():
        why = f"{target!r} is {present.iloc[0]!r} in each row"
    if why:
        raise UserError(f"nothing can be learned of {file}: {why}", _AGAIN)


def _promised(file: Path) -> str:
    return {".csv": ",", ".tsv": "\t"}.get(_suffix(file), "")


def suffix_of(file: Path) -> str:
    """The ending of a file's name that says how it is written, that of compression included."""
    return _suffix(file) + (".gz" if file.name.lower().endswith(".gz") else "")


def _suffix(file: Path) -> str:
    return Path(file.name.lower().removesuffix(".gz")).suffix


def _separator(file: Path) -> str:
    """What stands between the cells of a text file's header most often."""
    if _suffix(file) not in _TEXT:
        return ""
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8", newline="") as text:
            header = text.readline()
    except (OSError, UnicodeDecodeError):  # what reads it says so
        return _promised(file)
    counts = {mark: len(next(csv.reader([header], delimiter=mark), [])) for mark in _SEPARATORS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] > counts[_promised(file)] else _promised(file)


def _read(file: Path, separator: str) -> "pd.DataFrame":
    import pandas as pd

    kind = _suffix(file)
    if kind in _TEXT:
        header = list(pd.read_csv(file, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0])
        if twice := [name for name in header if header.count(name) > 1]:  # pandas would rename one
            raise ValueError(f"two columns are named {twice[0]!r}")
        return pd.read_csv(file, sep=separator, na_values=list(_NULLS), keep_default_na=False).convert_dtypes()
    if kind == ".parquet":
        return pd.read_parquet(file).convert_dtypes()
    if kind == ".jsonl":
        return pd.read_json(file, lines=True).convert_dtypes()
    raise ValueError(f"its name ends in none of {', '.join(SUFFIXES)}")


def _null_words(file: Path, separator: str) -> tuple[str, ...]:
    """Which of the words that pandas takes for missing values stand in a text file."""
    if _suffix(file) not in _TEXT:
        return ()
    import pandas as pd

    cells = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False)
    words = {word for column in cells for word in _NULLS.intersection(cells[column].unique())}
    return tuple(sorted(words | {""})) if words - {""} else ()


def _column(name: str, values: Any) -> InferredColumn:
    from pandas.api import types

    kind = values.dtype
    dtype = "str"
    if types.is_bool_dtype(kind):
        dtype = "bool"
    elif types.is_integer_dtype(kind):
        dtype = "int64"
    elif types.is_float_dtype(kind):
        dtype = "float64"
    elif types.is_datetime64_any_dtype(kind):
        dtype = "datetime"
    present = values.dropna()
    is_id = dtype in ("str", "int64") and len(present) > _FEW and present.is_unique
    return InferredColumn(name, dtype, bool(values.isna().any()), is_id, "; ".join(_warnings(dtype, values)))


def _warnings(dtype: str, values: Any) -> Iterator[str]:
    import pandas as pd

    present = values.dropna()
    if present.empty or (present == present.iloc[0]).all():
        yield "one value only" if len(present) else "no value at all"
        return
    if values.isna().mean() > 1 / 2:
        yield f"{values.isna().mean():.0%} missing"
    if dtype in ("str", "int64") and present.is_unique and len(present) > _FEW:
        yield "another value in each row: dropped where others remain"
    if dtype == "str":
        numbers = pd.to_numeric(present.str.replace(r"[,$€%\s]", "", regex=True), errors="coerce").notna().mean()
        if numbers > 1 / 2:
            yield f"{numbers:.0%} of it looks like numbers: null_values, decimal and thousands under clean read them"
        elif pd.to_datetime(present.head(1000), errors="coerce", format="ISO8601").notna().mean() > 1 / 2:
            yield "looks like dates: dtype datetime"
