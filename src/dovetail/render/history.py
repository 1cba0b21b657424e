"""The promotions of a model for people."""

from typing import Any

from dovetail.render.short import SHORT


def events(answer: dict[str, Any]) -> str:
    """A line for each event, newest first."""
    lines = []
    for event in answer["events"]:
        version = f"version {event['version']}" if event["version"] else event["semver"] or event["commit"][:SHORT]
        was = f" (from {event['from']})" if event["from"] else ""
        gates = event["evidence"].get("gates") or []
        failed = [gate["name"] for gate in gates if not gate["passed"]]
        proof = f"{len(gates) - len(failed)} of {len(gates)} gates passed" if gates else ""
        against = f"AGAINST {', '.join(failed)}" if failed else ""
        told = {"assign": "made without gates", "unassign": "taken back"}.get(event["kind"], "")
        unfit = f"MOVED NOTHING: {event['problem']}" if event["problem"] else ""
        parts = [part for part in (unfit, proof, against, told, event["reason"]) if part]
        lines.append(
            f"{event['time'][:16].replace('T', ' ')}  {event['kind']:8}  @{event['alias']} {version}{was}  "
            f"{event['actor']}  {event['tag']}" + "".join(f"\n    {part}" for part in parts)
        )
    model = answer["model"]
    never = f"no tag here names a version of {model}; next: dovetail promote {model}, or: git fetch --tags"
    return "\n".join(lines) or ("nothing was named then" if answer["at"] else never)
