"""Metrics as bars on a scale: the value, its interval, what a baseline without features gets. HTML without scripts."""

from collections.abc import Mapping
from html import escape
from math import isfinite

_ENDS = ("_low", "_high")
_BASELINE = "baseline."
_LARGEST_WHOLE, _LARGEST_EXACT = 1e12, 1e5


def bars(metrics: Mapping[str, float]) -> str:
    """A bar for each metric of the model itself, those with an interval first; the rest in tables, folded."""
    bounds = {f"{name}{end}" for name in metrics for end in _ENDS}
    plain = [name for name in metrics if "." not in name and name not in bounds]
    scaled = [name for name in plain if _interval(metrics, name) or f"{_BASELINE}{name}" in metrics]
    scaled = [name for name in scaled if isfinite(metrics[name])]
    scaled.sort(key=lambda name: _interval(metrics, name) is None)
    if not scaled and plain:
        scaled = [name for name in plain if 0 <= metrics[name] <= 1]
    shown = "".join(_bar(metrics, name) for name in scaled)
    legend = ["<span><i></i>interval of 95 %</span>"] if any(_interval(metrics, name) for name in scaled) else []
    if any(f"{_BASELINE}{name}" in metrics for name in scaled):
        legend.append("<span><s></s>a baseline that sees no feature</span>")
    left = [name for name in metrics if name not in scaled and name not in bounds and not name.startswith(_BASELINE)]
    return (
        (f'<div class="bars">{shown}</div>' if shown else "")
        + (f'<p class="legend">{"".join(legend)}</p>' if legend else "")
        + _tables(metrics, left, is_open=not shown)
    )


def _interval(metrics: Mapping[str, float], name: str) -> tuple[float, float] | None:
    low, high = (metrics.get(f"{name}{end}") for end in _ENDS)
    return None if low is None or high is None or not isfinite(low) or not isfinite(high) else (low, high)


def _bar(metrics: Mapping[str, float], name: str) -> str:
    value, interval, chance = metrics[name], _interval(metrics, name), metrics.get(f"{_BASELINE}{name}")
    chance = chance if chance is not None and isfinite(chance) else None
    values: list[float] = [value, *(interval or ()), *(() if chance is None else (chance,))]
    least, most = min(0.0, *values), max(values)
    most = 1.0 if least >= 0 and 0.25 < most <= 1 else most * 1.08 if most > 0 else 0.0  # noqa: PLR2004
    span = (most - least) or 1.0

    def at(one: float) -> float:
        return min(max((one - least) / span, 0.0), 1.0) * 100

    parts = []
    below = []
    if interval:
        parts.append(f'<i style="left:{at(interval[0]):.2f}%;right:{100 - at(interval[1]):.2f}%"></i>')
        below.append(f"{number(interval[0])} to {number(interval[1])}")
    if chance is not None:
        parts.append(f'<s style="left:{at(chance):.2f}%" title="baseline {number(chance)}"></s>')
        below.append(f"baseline {number(chance)}")
    parts.append(f'<u style="left:{at(value):.2f}%"></u>')
    small = f"<small>{' · '.join(below)}</small>" if below else ""
    return (
        f'<div class="bar"><b>{escape(name)}</b><div class="track">{"".join(parts)}</div>'
        f"<output>{number(value)}{small}</output></div>"
    )


def _tables(metrics: Mapping[str, float], left: list[str], *, is_open: bool) -> str:
    """What else was measured: `classes.setosa.recall` is the row `setosa`, column `recall` of the table `classes`."""
    if not left:
        return ""
    grouped: dict[str, dict[str, dict[str, float]]] = {}
    for name in left:
        head, _, leaf = name.rpartition(".")
        group, _, row = head.partition(".")
        grouped.setdefault(group, {}).setdefault(row, {})[leaf] = metrics[name]
    body = "".join(_table(group, rows) for group, rows in grouped.items())
    return f"<details{' open' * is_open}><summary>{len(left)} more numbers</summary>{body}</details>"


def _table(group: str, rows: dict[str, dict[str, float]]) -> str:
    leaves = list(dict.fromkeys(leaf for values in rows.values() for leaf in values))
    if len(rows) == 1 or len(leaves) > 6:  # noqa: PLR2004  more columns do not fit
        pairs = [
            (".".join(filter(None, [row, leaf])), value)
            for row, values in rows.items()
            for leaf, value in values.items()
        ]
        body = "".join(
            f'<tr><td>{escape(name)}</td><td class="number">{number(value)}</td></tr>' for name, value in pairs
        )
    else:
        head = "".join(f'<th class="number">{escape(leaf)}</th>' for leaf in leaves)
        body = f"<tr><th></th>{head}</tr>" + "".join(
            f"<tr><td>{escape(row)}</td>"
            + "".join(f'<td class="number">{number(values[leaf]) if leaf in values else ""}</td>' for leaf in leaves)
            + "</tr>"
            for row, values in rows.items()
        )
    title = f"<h3>{escape(group)}</h3>" if group else ""
    return f'{title}<div class="scroll"><table><tbody>{body}</tbody></table></div>'


def number(value: float) -> str:
    """Four digits; a whole number with its thousands apart."""
    if isfinite(value) and value == int(value) and abs(value) < _LARGEST_WHOLE:
        return f"{int(value):,}"
    return f"{value:.4g}" if abs(value) < _LARGEST_EXACT else f"{value:,.0f}" if isfinite(value) else str(value)
