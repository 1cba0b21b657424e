"""What `add-data` and `add-model` would write, or wrote, for people."""

from typing import Any


def addition(answer: dict[str, Any]) -> str:
    """The diff of each file, what is odd in the data, and what comes next."""
    if not answer["changes"]:
        return f"{answer['name']}: nothing to do"
    lines = [change["diff"].rstrip("\n") for change in answer["changes"]]
    if answer["copied"]:
        lines.append(f"the file is {answer['copied']}, kept by dvc add")
    lines += [
        " ".join([f"  {column['name']}", *([f"({column['dtype']})"] if column["dtype"] else [])])
        + f": {column['warning']}"
        for column in answer["columns"]
        if column["warning"]
    ]
    return "\n".join([*lines, *([f"written; next: {answer['next']}"] if answer["written"] else [])])
