"""A diff for people: on a terminal, and as a comment on a pull request."""

from collections.abc import Callable, Iterator
from typing import Any

from dovetail.render.short import SHORT

_KINDS = ("data", "params", "code", "metrics", "environment")
_NAMES = {"data": "data", "params": "params", "code": "code", "metrics": "metrics", "environment": "packages"}
_SHOWN_FILES = 5  # of a folder


def text(answer: dict[str, Any]) -> str:
    """The differences, a line each, under what they are differences of."""
    lines = [f"{side(answer['a'])} → {side(answer['b'])}"]
    lines += [f"note: {note}" for note in answer["notes"]]
    write = {
        "data": lambda e: f"{e['path']} ({e['role']}): {contents(e)}",
        "params": lambda e: f"{e['name']}: {_plain(e['a'])} → {_plain(e['b'])}",
        "code": lambda e: f"{code_name(e)}: {code_value(e, 'a')} → {code_value(e, 'b')}",
        "metrics": lambda e: f"{e['name']}: {measured(e, 'a')} → {measured(e, 'b')}{_change(e)}",
        "environment": lambda e: f"{e['name']}: {_plain(e['a'])} → {_plain(e['b'])}",
    }
    for kind in _KINDS:
        if answer[kind]:
            lines += [_NAMES[kind], *(f"  {write[kind](entry)}" for entry in answer[kind])]
    if answer["gates"]:
        lines += [
            "gates",
            *(f"  {'passed' if g['passed'] else 'FAILED'}: {g['limit']} ({g['detail']})" for g in answer["gates"]),
        ]
    return "\n".join([*lines, same(answer)])


def rows(answer: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, str, str]]]]:
    """Each kind of difference with its rows: what differs, on one side, on the other, and by how much."""
    write: dict[str, Callable[[dict[str, Any]], tuple[str, str, str, str]]] = {
        "data": lambda e: (e["path"], _digest(e["a"]), _digest(e["b"]), contents(e).partition("; md5 ")[0]),
        "params": lambda e: (e["name"], _plain(e["a"]), _plain(e["b"]), ""),
        "code": lambda e: (code_name(e), code_value(e, "a"), code_value(e, "b"), ""),
        "metrics": lambda e: (e["name"], measured(e, "a"), measured(e, "b"), _change(e).strip(" ()")),
        "environment": lambda e: (e["name"], _plain(e["a"]), _plain(e["b"]), ""),
    }
    for kind in _KINDS:
        if answer[kind]:
            yield _NAMES[kind], [write[kind](entry) for entry in answer[kind]]


def _digest(one: dict[str, Any] | None) -> str:
    return "none" if one is None else str(one["md5"][:SHORT])


def side(about: dict[str, Any]) -> str:
    """What is compared, with what else tells which one it is."""
    if about["kind"] == "version":
        return " ".join([f"{about['model']}/{about['version']}", *(f"@{alias}" for alias in about["aliases"])])
    if about["kind"] == "run":
        return f"{about['model']}, run {about['run_id'][:SHORT]}"
    at = about["commit"][:SHORT] if about["commit"] else "no commit"
    state = ", with changes" if about["dirty"] else ""
    aliases = "".join(f" @{alias}" for alias in about["aliases"] if not about["ref"].endswith(f"@{alias}"))
    return f"{about['ref']}{aliases} ({at}{state})"


def contents(entry: dict[str, Any]) -> str:
    """What happened to a file or a folder of data."""
    a, b = entry["a"], entry["b"]
    if a is None or b is None:
        rows = (a or b)["rows"]
        return f"{'new' if a is None else 'gone'}{'' if rows is None else f', {rows} rows'}"
    parts = []
    if a["rows"] is not None and b["rows"] is not None:
        parts.append(f"{a['rows']} → {b['rows']} rows" if a["rows"] != b["rows"] else f"{a['rows']} rows")
    if entry["rows"]:
        parts.append(_rows(entry["rows"], same_value=entry["same_value"]))
    if entry["columns"]:
        parts += _columns(entry["columns"])
    if entry["files"]:
        parts += [f"{_some(paths)} {what}" for what, paths in entry["files"].items() if paths]
    if entry["why"]:
        parts.append(f"not looked into: {entry['why']}")
    return "; ".join([*parts, f"md5 {a['md5'][:SHORT]} → {b['md5'][:SHORT]}"])


def _rows(rows: dict[str, Any], *, same_value: bool | None) -> str:
    counts = {what: rows[what] for what in ("added", "removed", "changed") if rows[what]}
    if not counts:
        return "the same table, written otherwise" if same_value else "the same rows, in another order or other types"
    said = ", ".join(f"{number} {what}" for what, number in counts.items())
    if rows["key"]:
        return f"{said} (by {', '.join(rows['key'])})"
    return f"{said} (no key: a changed row is a removed and an added one)" if len(counts) > 1 else said


def _columns(columns: dict[str, Any]) -> list[str]:
    parts = [f"column {name} {what}" for what in ("added", "removed") for name in columns[what]]
    return [*parts, *(f"column {one['name']}: {one['a']} → {one['b']}" for one in columns["retyped"])]


def _some(paths: list[str]) -> str:
    more = f" and {len(paths) - _SHOWN_FILES} more" if len(paths) > _SHOWN_FILES else ""
    return ", ".join(paths[:_SHOWN_FILES]) + more


def code_name(entry: dict[str, Any]) -> str:
    """The file, or the stage whose command changed."""
    return str(entry["path"] or f"command of {entry['stage']}")


def code_value(entry: dict[str, Any], which: str) -> str:
    """The file's digest, shortened, or the command."""
    value = entry[which]
    return "none" if value is None else value[:SHORT] if entry["path"] else " ".join(value.split())


def measured(entry: dict[str, Any], which: str) -> str:
    """A metric's value with its interval."""
    value, interval = entry[which], entry["interval"][which]
    bounds = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    return "none" if value is None else number(value) + bounds


def number(value: float) -> str:
    """Four digits of a fraction, all of a count."""
    return f"{value:.0f}" if value == int(value) else f"{value:.4g}"


def delta(entry: dict[str, Any]) -> str:
    """The change of a metric, with its sign."""
    change = entry["delta"]
    return "" if change is None else ("+" if change > 0 else "") + number(change)


def _change(entry: dict[str, Any]) -> str:
    overlap = {True: "intervals overlap", False: "intervals do not overlap", None: ""}[entry["overlap"]]
    parts = ", ".join(part for part in (delta(entry), overlap) if part)
    return f" ({parts})" if parts else ""


def _plain(value: str | None) -> str:
    return "none" if value is None else value


def same(answer: dict[str, Any]) -> str:
    """How much of each kind is the same on both sides."""
    counts = ", ".join(f"{answer['same'][kind]} {_NAMES[kind]}" for kind in _KINDS)
    differ = any(answer[kind] for kind in _KINDS)
    return f"the same on both sides: {counts}" if differ else f"no differences; the same on both sides: {counts}"
