"""What monitoring found, for people: a table, or one line for each look."""

from collections.abc import Iterator
from typing import Any

from dovetail.render.columns import table

_SMALL = 1e-6  # below it numbers are not told apart


def monitored(answer: dict[str, Any]) -> str:
    """The verdict, a line for each column, the real metric, and where to look."""
    return "\n".join(_lines(answer))


def line(answer: dict[str, Any]) -> str:
    """One look in one line."""
    return f"{answer['until']}  {verdict(answer)}"


def verdict(answer: dict[str, Any]) -> str:
    """The verdict with what it rests on."""
    drifted = [column["name"] for column in _compared(answer) if column["drifted"]]
    if answer["metric"] and answer["metric"]["drifted"]:
        drifted.append(answer["metric"]["name"])
    what = f" in {', '.join(drifted)}" if drifted else ""
    rows = f"{answer['rows']:,} rows, {answer['labelled']:,} labelled"
    where = f"in {answer['data']}" if answer.get("data") else f"since {answer['since']}"
    return f"{answer['model']}/{answer['version']}: {answer['verdict']}{what}  ({rows}, {where})"


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    yield verdict(answer)
    rows = [("", "", "PSI", "p", "missing", "unseen", ""), *map(_row, _compared(answer))]
    for shown in table(rows, indent=2):
        yield from shown
    if metric := answer["metric"]:
        reason = f"; {metric['reason']}" if metric["reason"] and not metric["drifted"] else ""
        mark = "DRIFT" if metric["drifted"] else ""
        beside = f"{_interval(metric['served'])} served, {_interval(metric['test'])} on the test set{reason}"
        yield "  ".join(["", mark.ljust(max(len(row[0]) for row in rows)), f"{metric['name']}: {beside}"])
    yield from (f"  {note}" for note in answer["notes"])
    reference = answer["reference"]
    yield f"  compared with {reference['path']} (md5 {reference['md5'][:8]}, {reference['rows']:,} rows)"
    kept = f"run {answer['run_id']}" if answer["run_id"] else "nothing was served since then: nothing is kept in MLflow"
    yield f"  {kept}" + (f", page {answer['page']}" if answer["page"] else "")


def _row(column: dict[str, Any]) -> tuple[str, ...]:
    missing = column["missing"]["served"] if column["missing"] else None
    return (
        "DRIFT" if column["drifted"] else "",
        column["name"],
        *(_number(column[name]) for name in ("psi", "p_corrected")),
        *("" if share is None else f"{share:.1%}" for share in (missing, column["unseen"])),
        column["reason"],
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return "<1e-6" if 0 <= value < _SMALL else f"{value:.2g}"


def _interval(interval: dict[str, float] | None) -> str:
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})" if interval else "nothing"


def _compared(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [*answer["columns"], *([answer["prediction"]] if answer["prediction"] else [])]
