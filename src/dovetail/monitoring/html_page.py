"""What monitoring found as one self-contained HTML page, without scripts or network. Pure."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from dovetail.monitoring import charts
from dovetail.monitoring.column_pair import ColumnPair
from dovetail.monitoring.drift import ALPHA, LARGE_DISTANCE, LARGE_SHARE, LARGE_STABILITY
from dovetail.promotion.comparison import Interval

_STYLE = """
:root { color-scheme: light dark; --paper: #f6f5f2; --card: #fff; --ink: #1f2328; --soft: #646b73; --line: #e2e0da;
  --reference: #cfd3d8; --served: #2563a8; --alarm: #c2410c; --calm: #2f7d4f; --silent: #6b7280; }
@media (prefers-color-scheme: dark) { :root { --paper: #15171a; --card: #1e2125; --ink: #e8e6e3; --soft: #9aa1a9;
  --line: #33373d; --reference: #4a5058; --served: #6cb0f5; --alarm: #fb8a4c; --calm: #63c18a; --silent: #9aa1a9; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
header { border-left: 6px solid var(--tone); padding: .1rem 0 .1rem 1rem; margin: .5rem 0 1.5rem; }
h1 { font-size: clamp(1.5rem, 5vw, 2.2rem); line-height: 1.2; margin: 0 0 .35rem; text-wrap: balance; }
h1 b { color: var(--tone); }
p { margin: 0; color: var(--soft); }
.legend { display: flex; gap: 1.25rem; margin: 0 0 .75rem; font-size: .875rem; color: var(--soft); }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .4rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(20.5rem, 100%), 1fr)); }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem; min-width: 0;
  display: flex; flex-direction: column; gap: .6rem; }
article.drifted { border-color: var(--alarm); --served: var(--alarm); }
h2 { font-size: 1.05rem; margin: 0; display: flex; justify-content: space-between; gap: .5rem; align-items: baseline;
  overflow-wrap: anywhere; }
h2 small { font-size: .78rem; font-weight: 600; color: var(--soft); white-space: nowrap; }
.drifted h2 small { color: var(--alarm); }
.why { font-size: .875rem; }
.drifted .why { color: var(--alarm); }
svg { width: 100%; max-width: 27rem; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); font-variant-numeric: tabular-nums; }
text.mid { text-anchor: middle; } text.end { text-anchor: end; } text.new { fill: var(--alarm); font-weight: 600; }
rect.reference { fill: var(--reference); } rect.served { fill: var(--served); }
line.axis { stroke: var(--line); } line.reference, line.served { stroke-width: 3; stroke-linecap: round; }
line.reference { stroke: var(--soft); } line.served { stroke: var(--served); }
circle.reference { fill: var(--soft); } circle.served { fill: var(--served); }
dl { display: grid; grid-template-columns: repeat(4, 1fr); gap: .25rem .5rem; margin: auto 0 0; padding-top: .6rem;
  border-top: 1px solid var(--line); }
dt { font-size: .72rem; color: var(--soft); } dd { margin: 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
footer { margin-top: 2rem; font-size: .85rem; color: var(--soft); display: grid; gap: .5rem; overflow-wrap: anywhere; }
"""
_TONES = {"drift": "alarm", "stable": "calm", "silent": "silent"}
_WHAT = {
    "stable": "what is served is like what it was trained on",
    "silent": "too little was served to tell",
}


def page(answer: dict[str, Any], pairs: Sequence[ColumnPair]) -> str:
    """The page of an answer of `dovetail monitor`, with a chart for each pair that was compared."""
    name = escape(f"{answer['model']} {answer['version']}")
    drawn = {pair.name: charts.column(pair) for pair in pairs[: len(pairs) - bool(answer["prediction"])]}
    cards = [*_metric(answer["metric"])]
    if answer["prediction"]:
        cards.append(_card(answer["prediction"], charts.column(pairs[-1])))
    ordered = sorted(answer["columns"], key=lambda column: (not column["drifted"], -(column["psi"] or 0)))
    cards += [_card(column, drawn.get(column["name"], "")) for column in ordered]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: {answer["verdict"]}</title>
<style>{_STYLE}</style>
</head>
<body style="--tone: var(--{_TONES[answer["verdict"]]})">
<main>
<header><h1>{name}: <b>{answer["verdict"]}</b>, {_headline(answer)}</h1><p>{_summary(answer)}</p></header>
<div class="legend"><span><i style="background: var(--reference)"></i>training</span>
<span><i style="background: var(--served)"></i>served</span>
<span><i style="background: var(--alarm)"></i>served, drifted</span></div>
<div class="grid">
{"".join(cards)}
</div>
<footer>{"".join(f"<div>{line}</div>" for line in _footer(answer))}</footer>
</main>
</body>
</html>
"""


def _headline(answer: dict[str, Any]) -> str:
    if answer["verdict"] != "drift":
        return _WHAT[answer["verdict"]]
    count = sum(column["drifted"] for column in answer["columns"])
    found = [f"in {count} of {len(answer['columns'])} columns"] if count else []
    found += ["in its predictions"] if answer["prediction"] and answer["prediction"]["drifted"] else []
    found += [f"in {escape(answer['metric']['name'])}"] if answer["metric"] and answer["metric"]["drifted"] else []
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _summary(answer: dict[str, Any]) -> str:
    if answer.get("data"):
        return f"{answer['rows']:,} rows of {escape(answer['data'])}"
    since, until = (f"{answer[key][:16].replace('T', ' ')} UTC" for key in ("since", "until"))
    return f"{answer['rows']:,} rows answered, {answer['labelled']:,} of them labelled, from {since} to {until}"


def _metric(metric: dict[str, Any] | None) -> Iterator[str]:
    if metric is None:
        return
    both = [("test set", "reference", metric["test"]), ("served", "served", metric["served"])]
    known = [(label, kind, Interval(**one)) for label, kind, one in both if one]
    chart = charts.intervals(known) if known else ""
    why = metric["reason"] or f"on {metric['rows']:,} labelled rows, with its interval of 95 %"
    mark = "drift" if metric["drifted"] else "real metric"
    yield _article(metric["name"], mark, _why(why), chart, drifted=metric["drifted"])


def _card(column: dict[str, Any], chart: str) -> str:
    missing = column["missing"]["served"] if column["missing"] else None
    numbers = [
        ("PSI", _number(column["psi"])),
        ("p, corrected", _number(column["p_corrected"])),
        ("missing", _share(missing)),
        ("unseen", _share(column["unseen"]))
        if column["kind"] == "category"
        else ("moved, SDs", _number(column["wasserstein"])),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in numbers)
    kind = "drift" if column["drifted"] else column["kind"] or ""
    body = (_why(column["reason"]), chart, f"<dl>{listed}</dl>")
    return _article(column["name"], kind, *body, drifted=column["drifted"])


def _article(name: str, mark: str, *body: str, drifted: bool) -> str:
    tone = ' class="drifted"' if drifted else ""
    return f"<article{tone}><h2>{escape(name)}<small>{escape(mark)}</small></h2>{''.join(body)}</article>\n"


def _why(reason: str) -> str:
    return f'<p class="why">{escape(reason)}</p>' if reason else ""


def _number(value: float | None) -> str:
    if value is None:
        return "n/a"
    return "&lt; 10⁻⁶" if 0 < value < 1e-6 else f"{value:.2g}"  # noqa: PLR2004  (below it numbers are not told apart)


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _footer(answer: dict[str, Any]) -> Iterator[str]:
    yield from map(escape, answer["notes"])
    trained = answer["reference"]
    yield (
        f"Compared with {escape(trained['path'])} (md5 {trained['md5']}, {trained['rows']:,} rows), "
        "which this version was trained on; predictions and the metric with those on its test set."
    )
    if answer["sampled"] < answer["rows"]:
        yield f"Of the rows answered {answer['sampled']:,} were drawn at random."
    yield (
        f"A column has drifted where chance does not explain the difference (corrected p below {ALPHA:g}) and where it "
        f"is large: a population stability index of {LARGE_STABILITY:g}, a distance of {LARGE_DISTANCE:g}, or, of all "
        f"rows, {LARGE_SHARE:.0%} more or fewer without a value, or {LARGE_SHARE:.0%} with one unseen in training."
    )
