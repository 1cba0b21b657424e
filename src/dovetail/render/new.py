"""What `new` made, for people."""

from typing import Any


def made(answer: dict[str, Any]) -> str:
    """The project, what is to be looked at in its data, and what comes next."""
    lines = [f"{answer['project']}: model {answer['model']}, {answer['estimator']}, {answer['rows']} rows"]
    lines += [
        f"  {column['name']} ({column['dtype']}): {column['warning']}"
        for column in answer["columns"]
        if column["warning"]
    ]
    if not answer["committed"]:
        lines.append(
            "not committed: git does not know who you are; next: git config user.name … and user.email …, git commit"
        )
    return "\n".join([*lines, f"next: cd {answer['project']} && dvc repro"])
