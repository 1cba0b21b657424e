"""A status for people."""

from typing import Any

from dovetail.render.columns import wrapped


def status(answer: dict[str, Any]) -> str:
    """A line for each model, one for each problem and one for each note."""
    lines = []
    for model in answer["models"]:
        here = model["workspace"]
        state = f"version {here['version']}" if here["version"] else "no version"
        marks = [name for name in ("committed", "pushed") if here[name]]
        aliases = [f"@{alias} {model[alias]['version'] or 'none'}" for alias in ("staging", "production")]
        lines.append(f"{model['model']}: workspace {', '.join([state, *marks])} · {' · '.join(aliases)}")
        lines += [wrapped(f"  {problem['what']}; next: {problem['next']}", 4) for problem in model["problems"]]
        lines += [wrapped(f"  {note['what']}; see: {note['next']}", 4) for note in model["notes"]]
    return "\n".join(lines) or "no models are declared; next: dovetail init"
