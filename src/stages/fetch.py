"""Fetch one dataset from outside: what a function returns, what a query finds, or what a URL gives."""

import pkgutil
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

import polars as pl

from stages.common.errors import OutsideError, StageError
from stages.common.outputs import replacing, scratch_folder
from stages.common.params import PARAMS_FILE, Params, block
from stages.common.sources import OutsideSource
from stages.data.pandas_index import with_index
from stages.data.raw_check import check, format_of
from stages.data.raw_open import opened
from stages.data.urls import database, fill

if TYPE_CHECKING:
    from sqlalchemy import Engine

_NAME = re.compile(r"(?<![:\w\\]):(?=\w)")  # what SQLAlchemy takes for the place of a value, as in '{"a":1}'
_CHUNK = 50_000  # rows of a query that are in memory at a time


def run(key: str, params: Params, *, raw: Path) -> None:
    """Fetch the source into `raw`: Parquet from a function or a query, the very bytes from a URL.

    Raises:
        StageError: if the entry, the function, the query or what comes from it is wrong.
        OutsideError: if the database or the URL cannot be reached.
    """
    source = block("sources.outside", params.sources.outside, key)
    place = f"sources.outside.{key}"
    with replacing(raw) as file:
        if source.load is not None:
            _load(source.load, source.args, f"{PARAMS_FILE}: {place}.load = {source.load}").write_parquet(file)
        elif source.url is not None:
            _copy(source.url, f"{place}.url", file)
            with opened(file, format_of(params, raw), file.parent, shown=raw) as readable:
                check(readable)
        else:
            with scratch_folder(raw) as folder:
                _query(source, place, file, folder)


def _load(path: str, args: dict[str, Any], what: str) -> pl.DataFrame:
    try:
        function = pkgutil.resolve_name(path)
    except Exception as error:  # an import runs whatever stands in the module
        raise StageError(f"{what} does not import: {_say(error)}; correct the path, or install the package") from error
    if not callable(function):
        raise StageError(f"{what} is a {type(function).__name__}, not a function; name one that returns a frame")
    try:
        answer = function(**args)
    except (ConnectionError, TimeoutError, URLError) as error:
        raise OutsideError(f"{what} failed: {_say(error)}; try again") from error
    except Exception as error:
        raise StageError(f"{what} failed: {_say(error)}; correct its args or the function") from error
    try:
        frame = _bunch(answer) if isinstance(answer, dict) and "data" in answer else _frame(answer)
    except (Exception, pl.exceptions.PanicException) as error:  # Polars panics at decimals of 256 bits
        kind = type(answer).__name__
        raise StageError(f"{what} returned a {kind}: {_say(error)}; it must be a data frame or a Bunch") from error
    if frame.is_empty():
        raise StageError(f"{what} returned no rows; correct its args or the function")
    _refuse_types(frame, what, "the function")
    return frame


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _frame(answer: Any) -> pl.DataFrame:
    """Any frame that narwhals knows; in pandas' a NaN is a missing value."""
    import narwhals as nw

    frame = nw.from_native(with_index(answer))
    return (frame.collect() if isinstance(frame, nw.LazyFrame) else frame).to_polars()


def _bunch(bunch: dict[str, Any]) -> pl.DataFrame:
    """A scikit-learn Bunch: its features, then `target`, by name where it has names."""
    data, target = bunch["data"], bunch.get("target")
    frame = pl.DataFrame(data, schema=list(bunch["feature_names"]), orient="row") if _is_array(data) else _frame(data)
    if target is None:
        return frame
    if getattr(target, "ndim", 1) > 1:
        several = (
            pl.DataFrame(target, schema=list(bunch["target_names"]), orient="row")
            if _is_array(target)
            else _frame(target)
        )
        return frame.hstack(several)
    if "target" in frame.columns:
        raise ValueError("one of its features is named 'target' too: rename it in a function of your own")
    codes = pl.Series("target", target)
    names = bunch.get("target_names")
    if names is not None and codes.dtype.is_integer():
        codes = codes.replace_strict(range(len(names)), [str(name) for name in names], return_dtype=pl.String)
    return frame.with_columns(codes.alias("target"))


def _is_array(data: Any) -> bool:
    import numpy as np

    return isinstance(data, np.ndarray)


def _copy(url: str, place: str, file: Path) -> None:
    import fsspec

    address = fill(url, place)
    what = f"{PARAMS_FILE}: {place} = {address.shown}"
    try:
        with fsspec.open(address.filled, "rb") as remote, file.open("wb") as local:
            shutil.copyfileobj(remote, local, 1 << 20)
    except (ImportError, ValueError) as error:
        raise StageError(
            f"{what}: {address.scrub(error)}; correct the URL, or install what its protocol needs"
        ) from None
    except Exception as error:  # noqa: BLE001  (each protocol has its own errors, and any may hold the URL)
        raise OutsideError(f"{what}: {address.scrub(error)}; is it there, and open to you?") from None


def _query(source: OutsideSource, place: str, file: Path, folder: Path) -> None:
    """Each chunk finds its own types (SQLite has none to tell); together they get the ones that hold all."""
    address = fill(str(source.database), f"{place}.database")
    what = f"{PARAMS_FILE}: {place}.sql"
    with database(address) as engine:
        _refuse_absent(engine, f"{PARAMS_FILE}: {address.place} = {address.shown}")
        chunks = []
        for number, (names, rows) in enumerate(_answer(engine, str(source.sql), what)):
            chunks.append(folder / f"{number:06}.parquet")
            _table(names, rows, what).write_parquet(chunks[-1])
        if not chunks:
            raise StageError(f"{what} finds no rows; correct the query")
        try:
            fetched = pl.concat([pl.scan_parquet(chunk, glob=False) for chunk in chunks], how="vertical_relaxed")
            with file.open("wb") as whole:  # open: a sink of a name may make the file after it failed
                fetched.sink_parquet(whole)
        except pl.exceptions.PolarsError as error:
            raise StageError(
                f"{what}: a column changes its type on the way: {_say(error)}; cast in the query"
            ) from error


def _refuse_absent(engine: "Engine", what: str) -> None:
    """SQLite would make an empty database of a file that is not there."""
    name = engine.url.database or ""
    if engine.dialect.name == "sqlite" and not name.startswith("file:") and not Path(name).is_file():
        raise OutsideError(f"{what}: there is no such file; put it there")


def _answer(engine: "Engine", query: str, what: str) -> Iterator[tuple[list[str], Sequence[Any]]]:
    from sqlalchemy import text

    with engine.connect().execution_options(stream_results=True, max_row_buffer=_CHUNK) as connection:
        try:
            answer = connection.execute(text(_NAME.sub(r"\:", query)))
            names = list(answer.keys())
            for rows in answer.partitions(_CHUNK):
                yield names, rows
        except (ValueError, OverflowError) as error:  # a driver's
            raise StageError(f"{what}: Python has no such value: {_say(error)}; cast it in the query") from error


def _table(names: list[str], rows: Sequence[Any], what: str) -> pl.DataFrame:
    firsts = [next((row[place] for row in rows if row[place] is not None), None) for place in range(len(names))]
    if odd := {place: check for place, first in enumerate(firsts) if (check := _CHECKS.get(type(first)))}:
        checks = [odd.get(place) for place in range(len(names))]
        rows = [
            tuple(check(value, f"{what}: column {name!r}") if check else value
                  for value, check, name in zip(row, checks, names, strict=True))
            for row in rows
        ]  # fmt: skip
    try:
        frame = pl.DataFrame(map(tuple, rows), schema=names, orient="row", strict=False, infer_schema_length=None)
    except (pl.exceptions.PolarsError, TypeError, RuntimeError) as error:  # the last where a decimal is too long
        raise StageError(f"{what}: the rows make no table: {_say(error)}; cast in the query") from error
    _refuse_types(frame, what, "the query")
    return frame


def _refuse_types(frame: pl.DataFrame, what: str, where: str) -> None:
    """Refuse columns that Parquet cannot have, or whose values would be others to who reads it."""
    for name, dtype in frame.schema.items():
        if dtype == pl.Object:
            held = type(frame[name].drop_nulls()[0]).__name__
        elif dtype in (pl.Int128, pl.UInt128):
            held = "whole numbers beyond 64 bits"
        elif isinstance(dtype, pl.BaseExtension):  # pandas' periods would be numbers
            held = f"values of the type {dtype.ext_name()}"
        else:
            continue
        raise StageError(f"{what}: column {name!r} holds {held}; cast it in {where}")


def _decimal(value: Any, what: str) -> Any:
    """A decimal that is a number; none is missing, as everywhere. Polars panics at both."""
    if not isinstance(value, Decimal) or value.is_finite():
        return value
    if value.is_nan():
        return None
    raise StageError(f"{what} holds {value} as a decimal; cast it in the query")


def _clock(value: Any, what: str) -> Any:
    """A time of day; Polars forgets its zone."""
    if isinstance(value, time) and value.tzinfo is not None:
        raise StageError(f"{what} holds {value}, a time of day with a zone; cast it in the query")
    return value


_CHECKS = {Decimal: _decimal, time: _clock}
