"""What `register` did to MLflow's view, for people."""

from typing import Any


def registrations(done: list[dict[str, Any]]) -> str:
    """A line for each model: what is new; then what came of compiling it, and the gates that did not pass."""
    lines = []
    for one in done:
        if not one["run_id"]:
            lines += [f"{found['what']}: {found['why']}; next: {found['next']}" for found in one["warnings"]]
            continue
        run = f"run {one['run_id'][:8]} {'made' if one['run_created'] else 'present'}"
        version = (
            f"version {one['version']} {'made' if one['version_created'] else 'present'}" if one["version"] else ""
        )
        aliases = " ".join(f"@{alias}" for alias in one["aliases"])
        lines.append(f"{one['model']}: " + ", ".join(part for part in (run, version, aliases) if part))
        if one["onnx"]:
            lines.append(f"  onnx: {one['onnx']}")
        lines += [f"  gate {g['limit']} failed: {g['detail']}; {g['next']}" for g in one["gates"] if not g["passed"]]
        lines += [f"  {found['what']}: {found['why']}; {found['next']}" for found in one["warnings"]]
    return "\n".join(lines) or "no models are declared; next: dovetail init"
