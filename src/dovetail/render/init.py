"""What `init` would write, or wrote, for people."""

from typing import Any


def proposal(answer: dict[str, Any]) -> str:
    """The diff of each file, and what is left to do."""
    lines = [change["diff"].rstrip("\n") for change in answer["changes"]]
    if answer["allow"]:
        lines.append(f"{answer['path']} names {', '.join(answer['allow'])}: allow it only if you trust what wrote it")
    lines += [f"{finding['what']}: {finding['why']}; next: {finding['next']}" for finding in answer["findings"]]
    if not answer["changes"]:
        lines.append(f"{answer['model']}: nothing to do")
    return "\n".join([*lines, *written(answer).splitlines()])


def written(answer: dict[str, Any]) -> str:
    """That it was written; nothing where it was not."""
    return "written; next: dvc repro" if answer["written"] else ""
