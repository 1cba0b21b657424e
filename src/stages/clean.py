"""Clean one dataset: raw → rows that keep the schema → the dataset's cleaning script → typed Parquet."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import narwhals as nw
import polars as pl
import polars.selectors as cs

from stages import cleaning
from stages.common.datasets import Dataset
from stages.common.errors import StageError
from stages.common.missing_words import is_missing_word
from stages.common.outputs import replacing, write_json
from stages.common.params import Params, block
from stages.data.raw_check import check, check_columns, format_for
from stages.data.raw_file import CSV, JSONL, Raw, by_name, malformed
from stages.data.raw_open import opened, scratch
from stages.validation.type_report import report_of
from stages.validation.validate import Validated, validate

_LOOKED_AT = 10_000  # rejected rows, for a remedy
_OF_NO_NUMBER = ("str", "bool", "date")
_WRITTEN_OTHERWISE = r"^\s*[+-]?\d{1,3}([., '_]\d{3})*([.,]\d+)?\s*$"  # than Python does: `1.234,56`, `1,000`
_EXAMPLES = 3  # rows named per broken rule
_GROUP = 65_536  # rows; given, so that the bytes do not depend on how the rows came in
_SKELETON = """
import narwhals as nw
def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    return frame.drop_nulls()"""


@dataclass(frozen=True)
class _Job:
    """One dataset's cleaning, with the temporary files that it writes to."""

    key: str
    dataset: Dataset
    raw: Raw
    clean: Path
    rejected: Path


def run(key: str, params: Params, *, raw: Path, clean: Path, rejected: Path, metrics: Path) -> None:  # noqa: PLR0913  (one per file)
    """Validate and clean `raw` in one streaming pass.

    Args:
        key: the dataset.
        params: its schema and how it is cleaned.
        raw: a file in one of the RAW_FORMATS, or a folder of Parquet files.
        clean: the cleaned rows, in their order, as Parquet.
        rejected: the rows that break the schema, as read, with `row` (from 1) and `reason`.
        metrics: rows in, out, rejected and dropped by the script; missing values by column; rejections by reason;
            what the columns look like that the schema does not name.

    Raises:
        StageError: on a bad file, schema or script, too many rejected rows, or nothing left.
    """
    dataset = block("datasets", params.datasets, key)
    script = _Script(key)
    with (
        opened(raw, format_for(raw, key, params), scratch(clean)) as readable,
        replacing(clean) as clean_file,
        replacing(rejected) as rejected_file,
    ):
        job = _Job(key, dataset, readable, clean_file, rejected_file)
        validated, counts = _stream(job, script)
        summary = _summary(job, validated, counts)
        read_as = validated.good.collect_schema()
        if unnamed := {name: dtype for name, dtype in read_as.items() if name not in dataset.schema_.columns}:
            summary["unnamed"] = report_of(readable, unnamed)
            _print_report(key, summary["unnamed"])
        _refuse_too_many(job, validated, summary)
        if summary["rows_out"] == 0:
            raise StageError(
                f"nothing is left of the {summary['rows_in']} rows of {raw}: {summary['rows_rejected']} rejected, "
                f"{summary['rows_dropped']} dropped by {script.path}; correct the file, the schema or the script"
            )
        write_json(metrics, summary)


class _Script:
    """A dataset's cleaning script, src/stages/cleaning/<dataset>.py; without one rows go through as they are."""

    def __init__(self, key: str) -> None:
        module = f"stages.cleaning.{key}"
        self.path = f"src/{module.replace('.', '/')}.py"
        try:
            self._clean = importlib.import_module(module).clean
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                near = difflib.get_close_matches(
                    key, [name for _, name, _ in pkgutil.iter_modules(cleaning.__path__)], n=1
                )
                meant = f"; did you mean {near[0]}.py?" if near else ""
                print(f"clean@{key}: there is no {self.path}, so rows go through as they are{meant}")
                self._clean = _as_they_are
                return
            if isinstance(error, AttributeError) and not hasattr(error.obj, "clean"):
                raise StageError(f"{self.path} has no function `clean`; write one, for example:{_SKELETON}") from error
            raise self.failed(error) from error

    def failed(self, error: Exception) -> StageError:
        """The refusal of a script that raised `error`."""
        return StageError(
            f"{self.path} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}; correct it"
        )

    def __call__(self, good: pl.LazyFrame, engine: Literal["polars", "pandas"]) -> pl.LazyFrame:
        """The script's answer to `good`.

        Raises:
            StageError: if it raises, or returns something else than a frame.
        """
        frame = (
            good.collect(engine="streaming").to_pandas(use_pyarrow_extension_array=True) if engine == "pandas" else good
        )
        try:
            native = nw.to_native(self._clean(nw.from_native(frame)))
            cleaned = native.lazy() if isinstance(native, pl.DataFrame | pl.LazyFrame) else _from_pandas(native)
            cleaned.collect_schema()
        except Exception as error:
            raise self.failed(error) from error
        return cleaned


def _as_they_are(frame: Any) -> Any:
    return frame


def _from_pandas(frame: Any) -> pl.LazyFrame:
    if type(frame).__name__ != "DataFrame":
        raise TypeError(f"clean() returned {type(frame).__name__}, not the frame")
    import pyarrow as pa

    table = pl.from_arrow(pa.Table.from_pandas(frame, preserve_index=False))
    return pl.DataFrame(table).lazy()


def _print_report(key: str, report: dict[str, dict[str, str]]) -> None:
    print(f"clean@{key}: columns that the schema does not name, by their first rows:")
    for name, column in report.items():
        looks = f", looks like {column['looks_like']}" if "looks_like" in column else ""
        print(f"  {name!r}: {column['type']}{looks}")


def _stream(job: _Job, script: _Script) -> tuple[Validated, tuple[int, ...]]:
    """Write the clean and the rejected rows. Returns what was validated, and its counts.

    What the fast reader takes without a word is looked at where it could have happened: a short row or a blank line
    leaves the last column missing, a number too large for its type becomes infinite.
    """
    place = f"datasets.{job.key}"
    check_columns(job.raw)
    if job.raw.kind == JSONL:
        check(job.raw)
    try:
        validated, counts = _pass(job, validate(job.dataset, place, job.raw), script)
    except pl.exceptions.PolarsError:
        validated, counts = None, ()  # a cell does not parse: find out where
    if job.raw.kind == CSV and (validated is None or counts[-2]):
        check(job.raw)
    if validated and not (job.raw.is_text and counts[-1]):
        return validated, counts
    validated = validate(job.dataset, place, job.raw, as_text=True)
    try:
        return _pass(job, validated, script)
    except pl.exceptions.PolarsError as error:
        try:
            validated.good.sink_parquet(job.clean)  # the same without the script
        except pl.exceptions.PolarsError as unreadable:
            raise malformed(job.raw.path, job.raw.kind, unreadable) from unreadable
        raise script.failed(error) from error


def _pass(job: _Job, validated: Validated, script: _Script) -> tuple[Validated, tuple[int, ...]]:
    cleaned = script(validated.good, job.dataset.clean.engine)
    with _sink_rejected(validated.rejected, job.rejected) as rejected:
        outputs = [cleaned.sink_parquet(job.clean, row_group_size=_GROUP, lazy=True), rejected, validated.counts]
        counts = pl.collect_all(outputs, engine="streaming")[-1]
    return validated, counts.row(0)


@contextmanager
def _sink_rejected(rows: pl.LazyFrame, path: Path) -> Iterator[pl.LazyFrame]:
    """A sink for rows that come in many small pieces, by way of an Arrow file.

    The Parquet sink keeps each piece until a row group is full, and a piece pins memory around it: 0.12 GB for 4,000
    rows rejected among 40 million, and growing with the file. The Arrow file takes each piece at once.
    """
    from pyarrow import ipc

    spool = path.with_suffix(".arrow.tmp")
    try:
        schema = _arrow(pl.DataFrame(schema=rows.collect_schema())).schema
        with ipc.new_file(spool, schema, options=ipc.IpcWriteOptions(compression="lz4")) as file:
            yield rows.sink_batches(lambda piece: file.write_table(_arrow(piece)), lazy=True)
        pl.scan_ipc(spool).sink_parquet(path, row_group_size=_GROUP)
    finally:
        spool.unlink(missing_ok=True)


def _arrow(rows: pl.DataFrame) -> Any:
    return rows.to_arrow(compat_level=pl.CompatLevel.newest())


def _summary(job: _Job, validated: Validated, counts: tuple[int, ...]) -> dict[str, Any]:
    first = 1 + len(validated.rules)
    rows, broken, missing = counts[0], counts[1:first], counts[first:-1]
    out, bad = _rows(job.clean), _rows(job.rejected)
    return {
        "rows_in": rows,
        "rows_out": out,
        "rows_rejected": bad,
        "rows_dropped": rows - bad - out,
        "share_rejected": round(bad / rows, 6) if rows else 0.0,
        "missing": {name: n for name, n in zip(validated.columns, missing, strict=True) if n},
        "reasons": {rule.reason: n for rule, n in zip(validated.rules, broken, strict=True) if n},
    }


def _rows(parquet: Path) -> int:
    return int(pl.scan_parquet(parquet).select(pl.len()).collect().item())


def _refuse_too_many(job: _Job, validated: Validated, summary: dict[str, Any]) -> None:
    limit = job.dataset.clean.max_rejected
    if summary["rows_rejected"] <= limit * summary["rows_in"]:
        return
    columns = {rule.reason: rule.column for rule in validated.rules}
    broken = "; ".join(
        f"{reason} broken by {n} ({_examples(job, validated, reason, columns[reason])})"
        for reason, n in sorted(summary["reasons"].items(), key=lambda item: -item[1])
    )
    raise StageError(
        f"{job.raw.path}: {summary['rows_rejected']} of {summary['rows_in']} rows are rejected, more than "
        f"datasets.{job.key}.clean.max_rejected = {limit}: {broken}; {_remedy(job, validated)}"
    )


def _remedy(job: _Job, validated: Validated) -> str:
    """What to do about the rejected rows: a setting where their values say that one is missing."""
    usual = "correct the file, the schema or the limit"
    names = [name for name in validated.columns if name in job.dataset.schema_.columns]
    inner = {name: str(number) for number, name in enumerate(names)}
    head = pl.scan_parquet(job.rejected).select(by_name(name).alias(to) for name, to in inner.items()).head(_LOOKED_AT)
    text = head.collect().select(cs.string())
    words = sorted({value for column in text for value in column.unique().drop_nulls() if is_missing_word(value)})
    if job.raw.kind == CSV and words:
        null_values = [*job.raw.form.null_values, *words]
        return f"if {words[0]!r} means missing, set {job.raw.form.place}.null_values to {null_values}; or {usual}"
    numeric = [inner[name] for name in names if not job.dataset.schema_.columns[name].dtype.startswith(_OF_NO_NUMBER)]
    if job.raw.kind == CSV and any(
        text[name].str.contains(_WRITTEN_OTHERWISE).any() for name in numeric if name in text.columns
    ):
        return f"if numbers are written so, set {job.raw.form.place}.decimal and .thousands; or {usual}"
    return usual


def _examples(job: _Job, validated: Validated, reason: str, column: str) -> str:
    rows = pl.scan_parquet(job.rejected).filter(pl.col(validated.reason).str.contains(reason, literal=True))
    few = rows.select(pl.col(validated.row).alias("row"), by_name(column).alias("value")).head(_EXAMPLES).collect()
    return ", ".join(f"row {row}: {value!r:.40}" for row, value in few.iter_rows())
