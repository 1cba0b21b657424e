"""What `new` made, for people."""

from typing import Any

_SHOWN = 20  # columns that something is said of


def made(answer: dict[str, Any]) -> str:
    """The project, what is to be looked at in its data, and what comes next."""
    lines = [f"{answer['project']}: model {answer['model']}, {answer['estimator']}, {answer['rows']} rows"]
    noted = [column for column in answer["columns"] if column["warning"]]
    lines += [f"  {column['name']} ({column['dtype']}): {column['warning']}" for column in noted[:_SHOWN]]
    if len(noted) > _SHOWN:
        lines.append(f"  and {len(noted) - _SHOWN} other columns of which params.yaml says something")
    if not answer["committed"]:
        lines.append(
            "not committed: git does not know who you are; next: git config user.name … and user.email …, git commit"
        )
    return "\n".join([*lines, f"next: cd {answer['project']} && dvc repro"])
