"""The verdict on a rebuilt version, for people."""

from collections.abc import Iterator
from typing import Any

from dovetail.render.short import SHORT


def reproduced(answer: dict[str, Any]) -> str:
    """The verdict, then what is missing, or what came out otherwise and why."""
    return "\n".join(_lines(answer))


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    version = f" ({answer['model']}/{answer['version']})" if answer["version"] else ""
    commit = f" from commit {answer['commit'][:SHORT]}" if answer["commit"] else ""
    yield f"{answer['ref']}{version}: {answer['verdict']}{commit}"
    for one in answer["missing"]:
        yield f"  missing: {one['what']}: {one['why']}; next: {one['next']}"
    yield from (f"  │ {line}" for line in answer["output"].splitlines())
    same = sum(output["identical"] for output in answer["outputs"])
    if answer["outputs"]:
        took = sum(stage["seconds"] for stage in answer["stages"])
        yield f"  {same} of {len(answer['outputs'])} outputs identical; {len(answer['stages'])} stages ran {took:.1f} s"
    yield from _differences(answer)
    if cause := answer["cause"]:
        yield f"  {cause['kind']}: {cause['detail']}; next: {cause['next']}"
    for change in answer["inputs"]:
        yield f"  {change['path']} of {change['stage']} is not what dvc.lock records"
    yield from (f"  {name} is frozen: its recorded outputs were taken" for name in answer["frozen"])
    if settings := {name: value for name, value in answer["settings"].items() if value}:
        yield f"  computed as recorded: {' '.join(f'{name}={value}' for name, value in settings.items())}"
    if answer["unavailable"] and answer["unavailable"] not in (answer["cause"] or {}).get("detail", ""):
        yield f"  {answer['unavailable']}"
    yield f"  environment: {_environment(answer['environment'])}"
    yield from (f"  {problem}" for problem in answer["problems"])


def _differences(answer: dict[str, Any]) -> Iterator[str]:
    same_value = [output["path"] for output in answer["outputs"] if output["same_value"]]
    if same_value:
        yield f"  other bytes, the same value: {', '.join(same_value)}"
    if first := answer["first_difference"]:
        digests = f"{_digest(first['expected'])} → {_digest(first['actual'])}"
        yield f"  first different: {first['path']} of {first['stage']}  {digests}"
    also = [output for output in answer["outputs"] if not output["identical"]][1:]
    if also:
        shown = (f"{one['path']} {_digest(one['expected'])} → {_digest(one['actual'])}" for one in also)
        yield f"  also different: {', '.join(shown)}"
    for metric in (answer["metrics"] or {}).get("changed", ()):
        yield f"  metric {metric['name']} {metric['expected']} → {metric['actual']}"


def _environment(environment: dict[str, Any]) -> str:
    if environment["identical"] is None:
        return "not compared"
    changed = [f"{c['name']} {c['expected'] or 'none'} → {c['actual'] or 'none'}" for c in environment["changed"]]
    unpinned = (
        f" (without {', '.join(environment['unpinned'])}: not in requirements.lock)" if environment["unpinned"] else ""
    )
    return (", ".join(changed) or "as recorded") + unpinned


def _digest(md5: str | None) -> str:
    return md5[:SHORT] if md5 else "nothing"
