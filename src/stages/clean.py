"""Clean one dataset: raw → rows that keep the schema → the dataset's cleaning script → typed Parquet."""

from pathlib import Path
from typing import Any

from stages.common.errors import StageError
from stages.common.outputs import replacing, write_json
from stages.common.params import Params, block
from stages.data.raw_check import format_for
from stages.data.raw_open import opened, scratch
from stages.parts.clean_parts import Folders, clean_parts
from stages.parts.json_columns import with_columns
from stages.rows.kernel import Counts, Job, clean_rows
from stages.rows.refusal import Rejected, refuse_too_many
from stages.rows.script import Script
from stages.validation.type_report import report_of


def run(key: str, params: Params, *, raw: Path, clean: Path, rejected: Path, metrics: Path) -> None:  # noqa: PLR0913  (one per file)
    """Validate and clean `raw` in one streaming pass or, where `part_rows` says so, part by part.

    Args:
        key: the dataset.
        params: its schema and how it is cleaned.
        raw: a file in one of the RAW_FORMATS, or a folder of Parquet files; with `part_rows` a folder of either.
        clean: the cleaned rows, in their order, as Parquet: a file, or a folder of parts.
        rejected: the rows that break the schema, as read, with `row` (from 1) and `reason`; of parts also `part`.
        metrics: rows in, out, rejected and dropped by the script; missing values by column; rejections by reason;
            what the columns look like that the schema does not name.

    Raises:
        StageError: on a bad file, schema or script, too many rejected rows, or nothing left.
    """
    dataset = block("datasets", params.datasets, key)
    script = Script(key)
    if script.missing:
        print(f"clean@{key}: {script.missing}")
    form = format_for(raw, key, params)
    with replacing(clean) as clean_out, replacing(rejected) as rejected_out:
        if dataset.clean.part_rows:
            folders = Folders(raw, clean_out, rejected_out)
            readable, counts, told, unnamed = clean_parts(key, dataset, form, folders)
        else:
            with opened(raw, form, scratch(clean)) as file:
                (readable,) = with_columns([file], dataset.schema_.columns.keys())
                validated, counts = clean_rows(Job(key, dataset, readable, clean_out, rejected_out), script)
                told = Rejected.of(rejected_out, validated)
                unnamed = report_of(readable, validated.unnamed(dataset.schema_))
        _print_report(key, unnamed)
        refuse_too_many(key, dataset, readable, told, counts)
        summary = _summary(counts)
        if counts.out == 0:
            raise StageError(
                f"nothing is left of the {counts.rows} rows of {raw}: {counts.rejected} rejected, "
                f"{summary['rows_dropped']} dropped by {script.path}; correct the file, the schema or the script"
            )
        write_json(metrics, summary | ({"unnamed": unnamed} if unnamed else {}))


def _print_report(key: str, report: dict[str, dict[str, str]]) -> None:
    if report:
        print(f"clean@{key}: columns that the schema does not name, by their first rows:")
    for name, column in report.items():
        looks = f", looks like {column['looks_like']}" if "looks_like" in column else ""
        print(f"  {name!r}: {column['type']}{looks}")


def _summary(counts: Counts) -> dict[str, Any]:
    return {
        "rows_in": counts.rows,
        "rows_out": counts.out,
        "rows_rejected": counts.rejected,
        "rows_dropped": counts.rows - counts.rejected - counts.out,
        "share_rejected": round(counts.rejected / counts.rows, 6) if counts.rows else 0.0,
        "missing": dict(counts.missing),
        "reasons": dict(counts.reasons),
    }
