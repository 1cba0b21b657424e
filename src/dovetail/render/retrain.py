"""A retraining for people: what was added, the gates as `promote` shows them, what came of it."""

from typing import Any

from dovetail.render.promote import gates_table


def retrained(answer: dict[str, Any]) -> str:
    """The rows, the gates, the candidate and what to type next."""
    if answer["refused"]:
        return f"{answer['refused']}; next: {answer['next'][0]}"
    rows, data = answer["rows"], answer["data"]
    counted = f"{answer['into']}: {rows['before']} rows, {rows['added']} more from {answer['source']}"
    if answer["set_aside"]:
        counted += f" ({answer['set_aside']} whose label does not fit are set aside)"
    if answer["dry_run"]:
        return f"{counted}; nothing was changed"
    failed = [gate["name"] for gate in answer["gates"] if not gate["passed"] and gate["name"] not in answer["later"]]
    name = f"{answer['model']} version {answer['version']}"
    against = f" (production is version {answer['from']})" if answer["from"] else ""
    said = "passes its gates" if answer["passed"] else f"does not pass {', '.join(failed)}"
    later = f"; {', '.join(answer['later'])} once that is done:" if answer["later"] else ""
    return "\n".join(
        [
            f"{counted}; md5 {data['a'][:8]} → {data['b'][:8]}",
            *gates_table(answer["gates"]),
            f"{name} on {answer['branch']} {said}{against}{later}",
            *(f"  next: {command}" for command in answer["next"]),
        ]
    )
