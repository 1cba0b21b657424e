"""What the columns that the schema does not name were read as, and what they look like instead."""

from collections.abc import Iterator, Mapping

import polars as pl

from stages.common.missing_words import MISSING_WORDS
from stages.data.raw_file import Raw, by_name, malformed, scan

_ROWS = 10_000  # from the head of the file, as the types are inferred from
_MOST = 0.9  # share of values that makes it look so
_FEW = 0.05  # share of values below which a column is nearly all missing
_MANY = 20  # values: fewer may be distinct by chance
_BEYOND_64_BITS = r"^[+-]?[1-9]\d{18,}$"
_LEADING_ZERO = r"^\s*[+-]?0\d"
_LOOKS = {  # the first that most values match
    "numbers": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$",
    "numbers with a decimal comma": r"^[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+$",
    "numbers with separated thousands": r"^[+-]?\d{1,3}([ ,']\d{3})+(\.\d+)?$",
    "amounts of money": r"^[+-]?[$€£¥] ?[\d.,]+$|^[+-]?[\d.,]+ ?[$€£¥]$",
    "percentages": r"^[+-]?[\d.,]+ ?%$",
    "dates": r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?$",
}


def report_of(raw: Raw, types: Mapping[str, pl.DataType]) -> dict[str, dict[str, str]]:
    """`type_report` of these columns of a file, of which text is looked at as it is written."""
    try:
        return type_report(scan(raw, dict.fromkeys(types, pl.String) if raw.is_text else {}), types)
    except pl.exceptions.PolarsError as error:  # what no row was asked for before need not be readable
        raise malformed(raw.path, raw.kind, error) from error


def type_report(frame: pl.LazyFrame, types: Mapping[str, pl.DataType]) -> dict[str, dict[str, str]]:
    """For each of the columns in `types`: its `type`, and `looks_like` where that is something else.

    Args:
        frame: the rows, in which these columns may be text whatever their type is. Its first rows are read alone.
        types: what each was read as.
    """
    inner = {name: str(number) for number, name in enumerate(types)}
    head = frame.select(by_name(name).alias(column) for name, column in inner.items()).head(_ROWS).collect()
    report = {}
    for name, dtype in types.items():
        looks = next(_looks_like(head[inner[name]], dtype), "")
        report[name] = {"type": str(dtype), **({"looks_like": looks} if looks else {})}
    return report


def _looks_like(column: pl.Series, dtype: pl.DataType) -> Iterator[str]:
    text = dtype == pl.String and column.dtype == pl.String
    words = column.str.strip_chars() if text else column
    is_word = words.str.to_lowercase().is_in(MISSING_WORDS) if text else column.is_null()
    values = words.filter(~is_word.fill_null(value=True))
    if len(values) <= _FEW * len(column):
        yield "nearly all missing"
        return
    if text:
        if values.str.contains(_BEYOND_64_BITS).any() and values.str.contains(_LOOKS["numbers"]).all():
            yield "whole numbers beyond 64 bits"
        for looks, pattern in _LOOKS.items():
            if values.str.contains(pattern).mean() >= _MOST:  # type: ignore[operator]  # a share, never null here
                odd = words.filter(is_word.fill_null(value=False)).unique().sort().to_list()
                yield f"{looks}, beside {odd[0]!r}" if odd else looks
    yield from _lost_zeros(values, dtype)
    if dtype.is_nested():
        return
    distinct = values.n_unique()
    if distinct == 1:
        yield "a constant"
    if distinct == len(values) >= _MANY and (text or dtype.is_integer()):
        yield "an id: no value comes twice"


def _lost_zeros(values: pl.Series, dtype: pl.DataType) -> Iterator[str]:
    if dtype.is_numeric() and values.dtype == pl.String:
        codes = values.filter(values.str.contains(_LEADING_ZERO))
        if len(codes):
            yield f"text: {codes[0]!r} is read as a number, without its zeros"
