"""What the last monitoring of a version found, as bars: the columns that moved most first. HTML without scripts."""

from html import escape
from typing import Any

from dovetail.render.metric_bars import number
from dovetail.render.page import chip

SHOWN_LARGE = 0.2  # as in monitoring.drift, which says why
_SCALE = 0.5  # of the population stability index, at least
_MOST = 15  # columns that are listed
_WHAT = {
    "drift": "What is served has moved.",
    "stable": "What is served is like what it was trained on.",
    "silent": "Too little was served to tell.",
}


def drift(found: dict[str, Any] | None, model: str) -> str:
    """The verdict, the metric on served rows, and a bar for each column; how to ask where nobody did."""
    if found is None:
        return f"<p>Nobody has looked yet: <code>dovetail monitor {escape(model)}</code></p>"
    tone = {"drift": "bad", "stable": "good"}.get(found["verdict"], "")
    counted = [
        f"{found[key]:,} {word}"
        for key, word in (("rows", "rows answered"), ("labelled", "labelled"))
        if found[key] is not None
    ]
    parts = [
        f"<p>{chip(found['verdict'], tone)} {escape(_WHAT.get(found['verdict'], ''))}</p>",
        f"<p>{', '.join(counted)}, looked at on {escape(found['time'][:16].replace('T', ' '))} UTC</p>",
        *_metric(found["metric"]),
    ]
    columns = [column for column in found["columns"] if column["psi"] is not None]
    if columns:
        most = max(_SCALE, *(column["psi"] for column in columns))
        shown = "".join(_bar(column, most) for column in columns[:_MOST])
        more = f"<p>and {len(columns) - _MOST} columns that moved less</p>" if len(columns) > _MOST else ""
        parts.append(f'<div class="moved">{shown}</div>{more}')
        parts.append(
            f"<p>Population stability index of each column; beyond the line, {SHOWN_LARGE:g}, a difference is large. "
            f"With its histograms: <code>dovetail monitor {escape(model)} --html drift.html</code></p>"
        )
    return "".join(parts)


def _metric(metric: dict[str, float]) -> list[str]:
    names = [name for name in metric if not name.endswith(("_low", "_high"))]
    shown = []
    for name in names:
        low, high = (metric.get(f"{name}_{end}") for end in ("low", "high"))
        interval = "" if low is None or high is None else f", {number(low)} to {number(high)}"
        shown.append(f"<p>{escape(name)} on what was served: <b>{number(metric[name])}</b>{interval}</p>")
    return shown


def _bar(column: dict[str, Any], most: float) -> str:
    large = column["psi"] >= SHOWN_LARGE
    tone = ' class="large"' if large else ""
    told = ", ".join(
        f"{word} {column[key]:.1%}" for key, word in (("missing", "missing"), ("unseen", "unseen")) if column[key]
    )
    title = f' title="{told}"' if told else ""
    return (
        f"<div{tone}{title}><b>{escape(column['name'])}</b>"
        f'<span><i style="width:{column["psi"] / most * 100:.1f}%"></i>'
        f'<s style="left:{SHOWN_LARGE / most * 100:.1f}%"></s></span><output>{column["psi"]:.2f}</output></div>'
    )
