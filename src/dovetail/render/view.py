"""What `register` and `sync` did to MLflow's view, for people."""

from typing import Any


def registrations(done: list[dict[str, Any]]) -> str:
    """A line for each model: what is new; then what came of compiling it, and the gates that did not pass."""
    lines = []
    for one in done:
        run = f"run {one['run_id'][:8]} {'made' if one['run_created'] else 'present'}"
        version = (
            f"version {one['version']} {'made' if one['version_created'] else 'present'}" if one["version"] else ""
        )
        aliases = " ".join(f"@{alias}" for alias in one["aliases"])
        lines.append(f"{one['model']}: " + ", ".join(part for part in (run, version, aliases) if part))
        if one["onnx"]:
            lines.append(f"  onnx: {one['onnx']}")
        lines += [f"  gate {g['limit']} failed: {g['detail']}; {g['next']}" for g in one["gates"] if not g["passed"]]
    return "\n".join(lines)


def synced(done: dict[str, Any]) -> str:
    """What was made, moved and mended, and what could not be had."""
    lines = [
        f"{what}: {done[what]['created']} created, {done[what]['present']} present" for what in ("runs", "versions")
    ]
    lines += [f"{a['model']}@{a['alias']}: {a['from'] or 'nothing'} → {a['to']}" for a in done["aliases"]]
    lines += [f"moved here from {folder}: paths in the store mended" for folder in done["mended"]]
    lines += [f"repaired: {version}" for version in done["repaired"]]
    lines += [f"not restored: {p['what']}: {p['why']}; next: {p['next']}" for p in done["problems"]]
    return "\n".join(lines)
