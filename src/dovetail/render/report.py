"""A report as one self-contained HTML page, and in a few lines."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from dovetail.render import graph_svg, metric_bars, timeline
from dovetail.render.drift_bars import drift
from dovetail.render.lineage_graph import graph
from dovetail.render.page import chip, document, joined
from dovetail.render.short import SHORT

Pictures = Mapping[str, tuple[str, bytes]]  # kind and bytes, by digest


def page(answer: dict[str, Any], pictures: Pictures) -> str:
    """The page of an answer of `dovetail report`; `pictures` are its plots' bytes."""
    names = [_name(one) for one in answer["models"]]
    return document(", ".join(names), body(answer, pictures))


def body(answer: dict[str, Any], pictures: Pictures) -> str:
    """What stands on the page."""
    models = answer["models"]
    nav = "".join(f'<a href="#model-{place}">{escape(_name(one))}</a>' for place, one in enumerate(models))
    parts = [f"<nav>{nav}</nav>" if len(models) > 1 else ""]
    parts += [_model(one, place, answer["made"], pictures) for place, one in enumerate(models)]
    parts += [_note(problem) for problem in answer["problems"]]
    parts.append(
        f"<footer>Made by <code>dovetail report</code>, {escape(_minute(answer['made']))} UTC, of what git, DVC and "
        "MLflow had then. This page needs neither a network nor scripts.</footer>"
    )
    return joined(parts)


def summary(answer: dict[str, Any]) -> str:
    """A line for each model, and one for each that there is nothing to report of."""
    lines = []
    for one in answer["models"]:
        failed = [gate["name"] for gate in one["gates"] if not gate["passed"]]
        parts = [
            _headline(one["metrics"]),
            f"FAIL {', '.join(failed)}" if failed else "its metrics pass" if one["gates"] else "",
            _counted(len(one["history"]), "promotion"),
            f"monitored: {one['drift']['verdict']}" if one["drift"] else "not monitored yet",
            _counted(len(one["plots"]), "plot"),
        ]
        lines.append(
            " ".join([_name(one), *(f"@{alias}" for alias in one["aliases"])]) + ": " + ", ".join(filter(None, parts))
        )
        lines += [f"  {note['what']}; next: {note['next']}" for note in one["notes"]]
    lines += [f"{problem['what']}; next: {problem['next']}" for problem in answer["problems"]]
    return "\n".join(lines)


def _headline(metrics: dict[str, float]) -> str:
    first = next((name for name in metrics if f"{name}_low" in metrics), next(iter(metrics), None))
    if first is None:
        return "no metrics"
    low, high = (metrics.get(f"{first}_{end}") for end in ("low", "high"))
    return f"{first} {metrics[first]:.4g}" + ("" if low is None or high is None else f" [{low:.4g}, {high:.4g}]")


def _model(one: dict[str, Any], place: int, now: str, pictures: Pictures) -> str:
    sections = (
        _section("large", "Metrics", "on its test set", metric_bars.bars(one["metrics"])),
        _section("small", "Gates", "", f"{_gates(one['gates'])}{_promoted_with(one)}"),
        _section("", "Lineage", "what made it, sources first", graph_svg.drawn(graph(one), f"Lineage of {_name(one)}")),
        _section("", "Plots", "", _plots(one["plots"], pictures)),
        _section("large", "Production", "who let which alias name what, when and why", _history(one, now)),
        _section("small", "Drift", "what was served beside what it was trained on", drift(one["drift"], one["model"])),
        _section("half", "Data", "", _data(one)),
        _section("half", "Made by", "", _facts(one)),
    )
    notes = joined(map(_note, one["notes"]))
    return f'<article id="model-{place}">{_header(one)}{notes}<div class="sections">{joined(sections)}</div></article>'


def shown(one: dict[str, Any]) -> str:
    """What `dovetail show` says of a version, laid out as on the page."""
    sections = (
        _section("large", "Metrics", "on its test set", metric_bars.bars(one["metrics"])),
        _section("small", "Gates", "", f"{_gates(one['gates'])}{_promoted_with(one)}"),
        _section("", "Lineage", "what made it, sources first", graph_svg.drawn(graph(one), f"Lineage of {_name(one)}")),
        _section("half", "Data", "", _data(one)),
        _section("half", "Made by", "", _facts(one)),
    )
    return f'{_header(one)}<div class="sections">{joined(sections)}</div>'


def _section(width: str, title: str, told: str, content: str) -> str:
    small = f"<small>{escape(told)}</small>" if told else ""
    return f'<section class="{width}"><h2>{escape(title)}{small}</h2>{content}</section>\n' if content else ""


def _header(one: dict[str, Any]) -> str:
    title = (
        f"{escape(one['model'])}<span>/{one['version']}</span>"
        if one["version"]
        else f"{escape(one['model'])}<span>, a run without a version</span>"
    )
    chips = [chip(f"@{alias}", "accent") for alias in one["aliases"]]
    failed = [gate["name"] for gate in one["gates"] if not gate["passed"]]
    if one["gates"]:
        chips.append(chip(f"{', '.join(failed)}: FAIL", "bad") if failed else chip("its metrics pass", "good"))
    if one["drift"]:
        verdict = one["drift"]["verdict"]
        chips.append(chip(verdict, {"drift": "bad", "stable": "good"}.get(verdict, "")))
    verified = one["artifact"]["verified"]
    chips.append(chip("bytes verified", "good") if verified else chip("NOT the bytes that the registry holds", "bad"))
    commit = next(reversed(one["commits"]), None)  # the first that holds it
    made = f"{_day(commit['time'])}, {commit['author']}: {commit['summary']}" if commit else "in no commit yet"
    return (
        f'<header class="model"><h1>{title}</h1><p>{escape(made)}</p><div class="chips">{"".join(chips)}</div></header>'
    )


def _gates(gates: list[dict[str, Any]]) -> str:
    items = []
    for gate in gates:
        told = joined(
            [escape(gate["limit"]), escape(gate["detail"]), f"next: {escape(gate['next'])}" if gate["next"] else ""],
            "<br>",
        )
        mark = chip("pass", "good") if gate["passed"] else chip("FAIL", "bad")
        items.append(f"<li>{mark}<b>{escape(gate['name'])}</b><small>{told}</small></li>")
    return f'<ul class="gates">{"".join(items)}</ul>' if items else "<p>No gate of this model asks for its metrics.</p>"


def _promoted_with(one: dict[str, Any]) -> str:
    """The gates of the last promotion of this very version, as its tag records them."""
    last = next((event for event in one["promotions"] if event["gates"]), None)
    if last is None:
        return ""
    items = "".join(
        f"<li>{chip('pass', 'good') if gate['passed'] else chip('FAIL', 'bad')}<b>{escape(gate['name'])}</b>"
        f"<small>{escape(gate.get('limit', ''))}</small></li>"
        for gate in last["gates"]
    )
    told = f"At its promotion to @{last['alias']}, {_minute(last['time'])} UTC"
    return f'<h3 class="then">{escape(told)}</h3><ul class="gates">{items}</ul>'


def _plots(plots: list[dict[str, Any]], pictures: Pictures) -> str:
    shown = []
    for plot in plots:
        kind, content = pictures[plot["md5"]]
        name = plot["path"].rpartition("/")[2].rpartition(".")[0]
        source = f"data:{kind};base64,{b64encode(content).decode()}"
        shown.append(
            f'<figure><img src="{source}" alt="{escape(name)}"><figcaption>{escape(plot["path"])}</figcaption></figure>'
        )
    return f'<div class="plots">{"".join(shown)}</div>' if shown else ""


def _history(one: dict[str, Any], now: str) -> str:
    if not one["history"]:
        return f"<p>Nothing was promoted yet: <code>dovetail promote {escape(one['model'])}</code></p>"
    return timeline.timeline(one["history"], "production", now)


def _data(one: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{escape(entry['path'])}<br><span class='code'>{escape(entry['md5'][:SHORT])}</span></td>"
        f"<td>{escape(entry['role'])}</td><td>{escape(', '.join(entry['available']) or 'NOWHERE')}</td></tr>"
        for entry in one["data"]
    )
    head = "<tr><th>file</th><th>role</th><th>kept in</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>" if rows else ""


def _facts(one: dict[str, Any]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in _made_by(one))
    return f'<dl class="facts">{rows}</dl>{_params(one["params"])}'


def _made_by(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def code(text: str) -> str:
        return f"<code>{escape(text)}</code>"

    yield "model", f"{code(one['artifact']['path'])}<br>md5 {code(one['artifact']['md5'])}"
    commits = [f"{code(commit['sha'][:SHORT])}{_refs(commit)}" for commit in one["commits"]]
    if commits:
        yield "commit", commits[-1] + (f", last in {commits[0]}" if len(commits) > 1 else "")
    yield "run", code(one["run_id"])
    yield "fingerprint", code(one["fingerprint"][:16])
    environment = one["environment"]
    if environment["python"]:
        yield "Python", f"{escape(environment['python'])}, {len(environment['packages'])} packages"
    shown = {
        name: environment["packages"][name]
        for name in ("scikit-learn", "numpy", "pandas")
        if name in environment["packages"]
    }
    if shown:
        yield "with", escape(", ".join(f"{name} {version}" for name, version in shown.items()))
    ref = f"{one['model']}/{one['version']}" if one["version"] else f"runs:/{one['run_id']}"
    yield "make it again", code(f"dovetail reproduce {ref}")


def _refs(commit: dict[str, Any]) -> str:
    return f" ({escape(', '.join(commit['refs']))})" if commit["refs"] else ""


def _params(params: dict[str, str]) -> str:
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(value)}</td></tr>" for key, value in params.items())
    return (
        f"<details><summary>{len(params)} params</summary><table><tbody>{rows}</tbody></table></details>"
        if rows
        else ""
    )


def _note(note: dict[str, Any]) -> str:
    return f'<p class="note">{escape(note["what"])}; next: <code>{escape(note["next"])}</code></p>'


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _name(one: dict[str, Any]) -> str:
    return f"{one['model']}/{one['version']}" if one["version"] else f"{one['model']} (run {one['run_id'][:SHORT]})"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()


def _minute(text: str) -> str:
    return text[:16].replace("T", " ")
