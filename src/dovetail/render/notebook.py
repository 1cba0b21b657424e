"""An answer in a notebook: tables and graphs as HTML, in the colours of the page around them, without scripts."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from dovetail.render import diff, doctor, gc, graph_svg, lineage_graph, metric_bars, report, sync, timeline
from dovetail.render.drift_bars import SHOWN_LARGE
from dovetail.render.monitor import verdict
from dovetail.render.page import chip, joined, style
from dovetail.render.promote import promotion
from dovetail.render.reproduce import reproduced
from dovetail.render.retrain import retrained
from dovetail.render.short import SHORT

_SCOPE = ".dovetail.dovetail.dovetail"  # thrice: what Jupyter says of any table counts for less
_MOST = 200  # rows of a table
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def html(kind: str, answer: Any, pictures: report.Pictures) -> str | None:
    """What a notebook shows of an answer whose class is `kind`; None: its repr."""
    write = KINDS.get(kind)
    if write is None:
        return None
    body = report.body(answer, pictures) if kind == "ReportAnswer" else write(answer)
    # Nested, so that nothing outside of the answer looks different for it.
    return f'<div class="dovetail"><style>{_SCOPE} {{ {style("answers")} {style("notebook")} }}</style>{body}</div>'


def _status(answer: dict[str, Any]) -> str:
    rows = []
    for one in answer["models"]:
        here = one["workspace"]
        state = f"version {here['version']}" if here["version"] else "no version"
        marks = [name for name in ("committed", "pushed") if here[name]]
        mark = chip("in sync", "good") if one["in_sync"] else chip(f"{len(one['problems'])} to do", "bad")
        found = [*(_found(problem, "next") for problem in one["problems"]), *(_found(n, "see") for n in one["notes"])]
        rows.append((
            f"<b>{escape(one['model'])}</b>", mark, escape(", ".join([state, *marks])),
            _number(one["staging"]["version"]), _number(one["production"]["version"]), "<br>".join(found),
        ))  # fmt: skip
    return _table(("model", "", "workspace", "@staging", "@production", ""), rows)


def _found(one: Mapping[str, Any], word: str) -> str:
    return f"{escape(one['what'])}; {word}: <code>{escape(one['next'])}</code>"


def _list(answer: dict[str, Any]) -> str:
    known = [one for one in answer["models"] if any(version["metrics"] is not None for version in one["versions"])]
    if known:
        return joined(map(_versions, known))
    rows = [
        (
            f"<b>{escape(one['model'])}</b>",
            str(len(one["versions"])),
            "".join(chip(f"@{alias} {number}", "accent") for alias, number in one["aliases"].items()),
            f"<code>{escape(one['path'] or 'not in dvc.yaml')}</code>",
            escape(one["desc"] or ""),
        )
        for one in answer["models"]
    ]
    return _table(("model", "versions", "aliases", "path", ""), rows)


def _versions(one: dict[str, Any]) -> str:
    bounds = ("_low", "_high")
    names = list(dict.fromkeys(
        name for version in one["versions"] for name in version["metrics"] or {}
        if "." not in name and not name.endswith(bounds)
    ))[:8]  # fmt: skip
    rows = [
        (
            f"<b>{version['version']}</b> " + "".join(chip(f"@{alias}", "accent") for alias in version["aliases"]),
            escape(version["created"][:16].replace("T", " ")),
            f"<code>{escape((version['md5'] or '')[:SHORT])}</code>",
            *(metric_bars.number(version["metrics"][n]) if n in version["metrics"] else "" for n in names),
        )
        for version in one["versions"]
    ]
    return f"<h3>{escape(one['model'])}</h3>" + _table(("version", "made", "md5", *names), rows)


def _lineage(answer: dict[str, Any]) -> str:
    told = f"Lineage of {answer['model'] if 'stages' in answer else answer['path'] or answer['md5']}"
    return graph_svg.drawn(lineage_graph.graph(answer), told)


def _show(answer: dict[str, Any]) -> str:
    return report.shown({**answer, "drift": None})


def _history(answer: dict[str, Any]) -> str:
    if not answer["events"]:
        return f"<p>Nothing was promoted yet: <code>dovetail promote {escape(answer['model'])}</code></p>"
    return timeline.timeline(answer["events"], "", "")


def _diffs(answer: dict[str, Any]) -> str:
    if "models" not in answer:
        return _diff(answer)
    told = (f"<p>{escape(each['what'])}: not compared: {escape(each['why'])}</p>" for each in answer["problems"])
    return joined([*map(_diff, answer["models"]), *told])


def _diff(answer: dict[str, Any]) -> str:
    parts = [f"<h3>{escape(diff.side(answer['a']))} → {escape(diff.side(answer['b']))}</h3>"]
    for kind, rows in diff.rows(answer):
        parts.append(_table((kind, "a", "b", ""), [tuple(map(escape, row)) for row in rows]))
    parts += [f"<p>{escape(note)}</p>" for note in answer["notes"]]
    if answer["gates"]:
        parts.append(_gates(answer["gates"]))
    return "".join([*parts, f"<p>{escape(diff.same(answer))}</p>"])


def _monitor(answer: dict[str, Any]) -> str:
    compared = [*answer["columns"], *([answer["prediction"]] if answer["prediction"] else [])]
    rows = [
        (
            f"<b>{escape(one['name'])}</b>",
            chip("drift", "bad") if one["drifted"] else "",
            _number(one["psi"]),
            _number(one["p_corrected"]),
            "" if one["missing"] is None else f"{one['missing']['served']:.1%}",
            "" if one["unseen"] is None else f"{one['unseen']:.1%}",
            escape(one["reason"]),
        )
        for one in compared
    ]
    notes = "".join(f"<p>{escape(note)}</p>" for note in answer["notes"])
    told = f"<p>beyond a PSI of {SHOWN_LARGE:g} a difference is large</p>"
    table = _table(("column", "", "PSI", "p, corrected", "missing", "unseen", ""), rows)
    return f"<h3>{escape(verdict(answer))}</h3>{table}{told}{notes}"


def _promote(answer: dict[str, Any]) -> str:
    end = promotion({**answer, "gates": []}).splitlines()
    failed = promotion(answer).splitlines()[-1]
    return f"<h3>{escape(end[0])}</h3>{_gates(answer['gates'])}<p>{escape(failed)}</p>"


def _gates(gates: list[dict[str, Any]]) -> str:
    rows = [
        (
            chip("pass", "good") if gate["passed"] else chip("FAIL", "bad"),
            f"<b>{escape(gate['name'])}</b>",
            escape(gate["limit"]),
            escape(gate["detail"]) + (f"; next: <code>{escape(gate['next'])}</code>" if gate["next"] else ""),
        )
        for gate in gates
    ]
    return _table(("", "gate", "limit", ""), rows)


def _register(answer: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"<b>{escape(one['model'])}</b>",
            _number(one["version"]),
            "".join(chip(f"@{alias}", "accent") for alias in one["aliases"]),
            f"<code>{escape(one['run_id'][:SHORT])}</code>",
            "".join(chip(gate["name"], "good" if gate["passed"] else "bad") for gate in one["gates"]),
        )
        for one in answer
    ]
    return _table(("model", "version", "aliases", "run", "gates"), rows)


def _text(write: Callable[[Any], str]) -> Callable[[Any], str]:
    """What the command prints, where a table would say no more."""
    return lambda answer: f"<pre>{escape(_COLOUR.sub('', write(answer)))}</pre>"


def _table(head: Iterable[str], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""
    if not rows:
        return "<p>nothing</p>"
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[:_MOST])
    more = f"<p>and {len(rows) - _MOST} more</p>" if len(rows) > _MOST else ""
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>{more}'


def _number(value: float | None) -> str:
    return "" if value is None else metric_bars.number(value)


KINDS: Mapping[str, Callable[[Any], str]] = {
    "StatusAnswer": _status,
    "ListAnswer": _list,
    "ShowAnswer": _show,
    "ModelLineage": _lineage,
    "DataLineage": _lineage,
    "HistoryAnswer": _history,
    "DiffAnswer": _diffs,
    "DiffsAnswer": _diffs,
    "MonitorAnswer": _monitor,
    "PromoteAnswer": _promote,
    "RegisterAnswer": _register,
    "ReportAnswer": lambda _: "",
    "DoctorAnswer": _text(doctor.doctor),
    "GcAnswer": _text(gc.gc),
    "SyncAnswer": _text(sync.synced),
    "ReproduceAnswer": _text(reproduced),
    "RetrainAnswer": _text(retrained),
}
