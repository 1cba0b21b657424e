"""Small charts as SVG: a column as it was trained on and as it was served, and two intervals on one scale. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import numpy as np

from dovetail.monitoring.column_pair import CATEGORY, DATE, Array, ColumnPair, totals
from dovetail.promotion.comparison import Interval

_WIDTH, _HEIGHT = 340, 132
_BASE, _TOP = 110, 8  # of the bars
_BINS = 24
_MOST = 7  # categories with a bar of their own
_LINE = 24  # height of a category
_LABEL = 112  # width of a category's name, at most
_LETTERS = 16  # that fit in it
_LARGEST = 1e307  # of a scale: its length has to be a number
_FIRST, _LAST = (time.replace(tzinfo=UTC).timestamp() for time in (datetime.min, datetime(9999, 12, 31)))  # noqa: DTZ001,DTZ901
_TAILS = 0.005  # of the values lie beyond each end of the scale; they are counted in the outermost bars


def column(pair: ColumnPair) -> str:
    """The distribution of a column, reference behind, served in front; nothing where neither has a value."""
    if not len(pair.reference.values) and not len(pair.served.values):
        return ""
    return _categories(pair) if pair.kind == CATEGORY else _histogram(pair)


def intervals(rows: Sequence[tuple[str, str, Interval]]) -> str:
    """Values with their intervals, one above the other: label, CSS class, interval."""
    low, high = min(row[2].low for row in rows), max(row[2].high for row in rows)
    margin = (high - low) * 0.08 or abs(high) * 0.08 or 1.0
    low, high = low - margin, high + margin

    def x(value: float) -> float:
        return 70 + (value - low) / (high - low) * (_WIDTH - 78)

    parts = []
    for number, (label, kind, one) in enumerate(rows):
        y = 20 + number * 34
        parts += [
            f'<text x="0" y="{y + 4}">{escape(label)}</text>',
            f'<line class="{kind}" x1="{x(one.low):.1f}" x2="{x(one.high):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="{kind}" cx="{x(one.value):.1f}" cy="{y}" r="5"/>',
            f'<text class="mid" x="{x(one.value):.1f}" y="{y - 9}">{one.value:.3f}</text>',
        ]
    named = "; ".join(f"{label} {one.value:.3f}, from {one.low:.3f} to {one.high:.3f}" for label, _, one in rows)
    return _svg(34 * len(rows) + 6, named, parts)


def _histogram(pair: ColumnPair) -> str:
    edges = _edges(pair.reference.values, pair.served.values)
    shares = [_shares(values, edges) for values in (pair.reference.values, pair.served.values)]
    tallest = max(share.max() for share in shares) or 1.0
    step = _WIDTH / len(shares[0])
    parts = []
    for kind, share, inset in (("reference", shares[0], 0.5), ("served", shares[1], step * 0.24)):
        for place, value in enumerate(share):
            height = value / tallest * (_BASE - _TOP)
            if height:
                parts.append(
                    f'<rect class="{kind}" x="{place * step + inset:.1f}" y="{_BASE - height:.1f}" '
                    f'width="{step - 2 * inset:.1f}" height="{height:.1f}" rx="1"/>'
                )
    parts.append(f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{_BASE}" y2="{_BASE}"/>')
    ends = (edges[0], edges[-1]) if len(shares[0]) == _BINS else (edges[0] + 0.5, edges[-1] - 0.5)  # see _edges
    ticks = (("", 0, ends[0]), ("mid", _WIDTH // 2, ends[0] / 2 + ends[1] / 2), ("end", _WIDTH, ends[1]))
    parts += [f'<text class="{kind}" x="{x}" y="{_BASE + 16}">{_tick(pair, at)}</text>' for kind, x, at in ticks]
    return _svg(_HEIGHT, f"Histogram of {pair.name}: training and served", parts)


def _edges(reference: Array, served: Array) -> Array:
    """The edges of bars of equal width, over all but the tails of either; one for each of a few whole numbers."""
    sides = [values for values in (reference, served) if len(values)]
    ends = [np.quantile(values, [_TAILS, 1 - _TAILS], method="nearest") for values in sides]
    low, high = max(min(end[0] for end in ends), -_LARGEST), min(max(end[1] for end in ends), _LARGEST)
    if 0 < high - low < _BINS - 1 and all(np.all(values == np.rint(values)) for values in sides):
        return np.asarray(np.arange(low - 0.5, high + 1))
    if high <= low:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return np.asarray(np.linspace(low, high, _BINS + 1))


def _shares(values: Array, edges: Array) -> Array:
    if not len(values):
        return np.zeros(len(edges) - 1)
    places = np.searchsorted(edges[1:-1], values, side="right")
    return np.bincount(places, minlength=len(edges) - 1) / len(values)


def _tick(pair: ColumnPair, value: float) -> str:
    if pair.kind == DATE:
        date = datetime.fromtimestamp(min(max(value, _FIRST), _LAST), UTC)
        return f"{date.day} {date:%b %Y}"
    return f"{value:.4g}"


def _categories(pair: ColumnPair) -> str:
    both = {
        value: pair.reference.counts.get(value, 0) / max(len(pair.reference.values), 1)
        + pair.served.counts.get(value, 0) / max(len(pair.served.values), 1)
        for value in {*pair.reference.counts, *pair.served.counts}
    }
    names = sorted(both, key=lambda value: (-both[value], value))[:_MOST]
    shares = [totals(sample.counts, names) / max(len(sample.values), 1) for sample in (pair.reference, pair.served)]
    shown = [*names, f"{len(both) - len(names):,} others"][: len(names) + (len(both) > len(names))]
    tallest = max(max(share[: len(shown)]) for share in shares) or 1.0
    left = min(_LABEL, 14 + 7 * max(map(len, shown)))
    room = _WIDTH - left - 44
    parts = []
    for place, name in enumerate(shown):
        y = place * _LINE + 6
        is_new = place < len(names) and name not in pair.reference.counts
        parts.append(f'<text class="end{" new" if is_new else ""}" x="{left - 8}" y="{y + 13}">{_short(name)}</text>')
        widths = [share[place] / tallest * room for share in shares]
        for kind, width, top, height in (("reference", widths[0], 0, 18), ("served", widths[1], 5, 8)):
            box = f'x="{left}" y="{y + top}" width="{width:.1f}" height="{height}"'
            parts.append(f'<rect class="{kind}" {box} rx="1.5"/>')
        if len(pair.served.values):
            parts.append(f'<text x="{left + max(widths) + 5:.1f}" y="{y + 13}">{shares[1][place]:.1%}</text>')
    return _svg(_LINE * len(shown) + 8, f"Shares of the values of {pair.name}: training and served", parts)


def _short(name: str) -> str:
    return escape(name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…") or "(empty)"


def _svg(height: float, described: str, parts: Sequence[str]) -> str:
    label = escape(described, quote=True)
    return f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
