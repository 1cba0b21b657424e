"""A promotion or a rollback for people: its gates, and what was moved."""

from typing import Any

from dovetail.render.columns import table, wrapped


def promotion(answer: dict[str, Any]) -> str:
    """The gates as a table, then what came of it."""
    name = f"{answer['model']}@{answer['alias']}"
    failed = [gate for gate in answer["gates"] if not gate["passed"]]
    was = f" (it was version {answer['from']})" if answer["from"] else ""
    if answer["already"]:
        end = f"{name} is version {answer['version']} already, tag {answer['tag']}"
    elif answer["promoted"]:
        against = f" AGAINST {len(failed)} of {len(answer['gates'])} gates" if answer["forced"] else ""
        end = f"{name} is version {answer['version']}{was}{against}, tag {answer['tag']}"
    elif not failed:
        end = f"{name} would become version {answer['version']}{was}; nothing was changed"
    else:
        names = ", ".join(gate["name"] for gate in failed)
        end = f"{name} stays {answer['from'] or 'unset'}: version {answer['version']} does not pass {names}"
    return "\n".join([chosen(answer), *gates_table(answer["gates"]), end])


def chosen(answer: dict[str, Any]) -> str:
    """Which version it is about, and why that one."""
    return f"{answer['model']}/{answer['version']} ({answer['chosen']}) → @{answer['alias']}"


def gates_table(gates: list[dict[str, Any]], *, indent: int = 0) -> list[str]:
    """A line for each gate, and for one that says no another with what to do."""
    rows = [("pass" if gate["passed"] else "FAIL", gate["name"], gate["limit"], gate["detail"]) for gate in gates]
    lines = []
    for gate, shown in zip(gates, table(rows, indent=indent), strict=True):
        lines += shown
        lines += [] if gate["passed"] else [wrapped(f"{' ' * indent}      next: {gate['next']}", indent + 8)]
    return lines


def moved(answer: dict[str, Any]) -> str:
    """What a promotion or a rollback did."""
    was = f" (it was version {answer['from']})" if answer["from"] else ""
    line = f"{answer['model']}@{answer['alias']} is version {answer['version'] or '?'}{was}, tag {answer['tag']}"
    what = "descriptions stay" if answer.get("alias_moved") else "alias stays"
    note = [f"  MLflow's {what} behind: {answer['problem']}; next: {answer['next']}"] if answer["problem"] else []
    return "\n".join([line, *note])


def written_off(answer: dict[str, Any]) -> str:
    """What a write-off took back, and what the aliases name now."""
    lines = [f"{answer['model']} of commit {answer['commit'][:8]} is written off: {', '.join(answer['tags'])}"]
    named = ((alias, number or "no version") for alias, number in answer["aliases"].items())
    lines += [f"  @{alias} names {number} now" for alias, number in named]
    lines += [f"  MLflow stays behind: {answer['problem']}; next: {answer['next']}"] if answer["problem"] else []
    return "\n".join([*lines, "  for other clones: git push --tags"])
