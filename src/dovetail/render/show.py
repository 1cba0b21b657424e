"""One version for people, on one screen."""

from collections.abc import Iterator
from typing import Any

from dovetail.render.commits import shortened
from dovetail.render.promote import gates_table
from dovetail.render.short import SHORT

_SHOWN = 5  # promotions


def version(answer: dict[str, Any]) -> str:
    """Name and aliases, metrics, gates, promotions, commits, stages and data."""
    return "\n".join(_lines(answer))


def _commit(commit: dict[str, Any]) -> str:
    return f"commit {commit['sha'][:SHORT]} {commit['author']}: {commit['summary']}"


def _lines(one: dict[str, Any]) -> Iterator[str]:
    name = f"{one['model']}/{one['version']}" if one["version"] else f"{one['model']} (a run without a version)"
    yield " ".join([name, *(f"@{alias}" for alias in one["aliases"])])
    state = "verified" if one["artifact"]["verified"] else "NOT what the registry holds"
    yield f"  {one['artifact']['path']}  md5 {one['artifact']['md5']}  {state}"
    yield f"  run {one['run_id']}  fingerprint {one['fingerprint'][:SHORT]}"
    yield "metrics"
    bounds = {f"{name}_{end}" for name in one["metrics"] for end in ("low", "high")}
    for metric, value in one["metrics"].items():
        if "." not in metric and metric not in bounds:
            low, high = one["metrics"].get(f"{metric}_low"), one["metrics"].get(f"{metric}_high")
            yield f"  {metric} {value:.4g}" + ("" if low is None or high is None else f" [{low:.4g}, {high:.4g}]")
    if one["gates"]:
        yield "gates that the metrics answer"
        yield from gates_table(one["gates"], indent=2)
    yield "promotions" if one["promotions"] else "promotions: none"
    for event in one["promotions"][:_SHOWN]:
        failed = [gate["name"] for gate in event["gates"] if not gate["passed"]]
        against = f"  AGAINST {', '.join(failed)}" if failed else ""
        day = event["time"][:16].replace("T", " ")
        yield f"  {day}  {event['kind']} @{event['alias']}  {event['actor']}  {event['tag']}{against}"
    yield "made by"
    if not one["commits"]:
        yield "  in no commit yet: git add -A && git commit"
    yield from (f"  {line}" for line in shortened(one["commits"], _commit))
    yield f"  {' → '.join(stage['name'] for stage in one['stages'])}"
    for data in one["data"]:
        where = ", ".join(data["available"]) or "NOWHERE"
        yield f"  {data['role']:10}  {data['path']}  {data['md5'][:SHORT]}  in {where}"
