"""A diff as GitHub shows it below a pull request: what decides on top, the rest to unfold."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from dovetail.render.diff import code_name, code_value, contents, delta, measured, same, side

_LONGEST = 200  # characters of a value: a comment may have 65,536 in all
_OVERLAP = {True: "overlap", False: "**apart**", None: ""}


def markdown(answer: dict[str, Any]) -> str:
    """The comment. Its first line, invisible there, is for a job that looks for its former comment."""
    models = dict.fromkeys((answer["a"]["model"], answer["b"]["model"]))
    return "\n\n".join(
        [
            f"<!-- dovetail diff {' '.join(models)} -->\n### {_code(side(answer['a']))} → {_code(side(answer['b']))}",
            *(f"> {_code(note)}" for note in answer["notes"]),
            *_sections(answer),
            same(answer).capitalize() + ".",
        ]
    )


def _sections(answer: dict[str, Any]) -> Iterator[str]:
    if answer["metrics"]:
        head = ("metric", "before", "after", "change", "intervals")
        yield _table(head, (_metric(entry) for entry in answer["metrics"]))
    if answer["gates"]:
        yield _table(("gate", "limit", "measured", "next"), (_gate(gate) for gate in answer["gates"]))
    if answer["data"]:
        cells = ((_code(entry["path"]), entry["role"], _code(contents(entry))) for entry in answer["data"])
        yield _table(("data", "role", "change"), cells)
    if answer["params"]:
        yield _values("param", answer["params"])
    if answer["code"]:
        code = ((_code(code_name(e)), _code(code_value(e, "a")), _code(code_value(e, "b"))) for e in answer["code"])
        yield _folded("code", len(answer["code"]), _table(("code", "before", "after"), code))
    if answer["environment"]:
        yield _folded("packages", len(answer["environment"]), _values("package", answer["environment"]))


def _metric(entry: dict[str, Any]) -> Iterable[str]:
    values = (_code(measured(entry, "a")), _code(measured(entry, "b")), _code(delta(entry)))
    return (_code(entry["name"]), *values, _OVERLAP[entry["overlap"]])


def _gate(gate: dict[str, Any]) -> Iterable[str]:
    return ("✅" if gate["passed"] else "❌", _code(gate["limit"]), _code(gate["detail"]), gate["next"])


def _values(what: str, entries: list[dict[str, Any]]) -> str:
    rows = ((_code(e["name"]), _value(e["a"]), _value(e["b"])) for e in entries)
    return _table((what, "before", "after"), rows)


def _value(value: str | None) -> str:
    return "" if value is None else _code(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    # https://github.github.com/gfm/#tables-extension-: a pipe ends a cell, within code too
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])


def _folded(what: str, number: int, content: str) -> str:
    return f"<details><summary>{what}: {number}</summary>\n\n{content}\n\n</details>"


def _code(text: str) -> str:
    """The text as code, in which nothing is markup, a mention or an issue; more backticks fence those in it."""
    line = " ".join(text.split())
    if not line:
        return ""
    if len(line) > _LONGEST:
        line = line[:_LONGEST] + "…"
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    edge = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{edge}{line}{edge}{fence}"
