"""A graph as SVG: from left to right where there is room, from top to bottom on a phone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from dovetail.render.graph import Graph, Layout, Node, layout

_WIDTH, _GAP, _BETWEEN = 172.0, 20.0, 38.0  # of a box; to the next one of its layer; between layers
_TITLE, _LINE, _PADDING = 21.0, 15.5, 7.0  # heights
_TITLE_LETTERS, _LINE_LETTERS = 23, 25  # that fit in a box
_LEAST_SCALE = 0.8  # smaller text is not read: then the graph scrolls
_EDGE = 2.0


def drawn(graph: Graph, described: str) -> str:
    """The graph in both directions; the style sheet shows the one that fits."""
    if not graph.nodes:
        return ""
    return f'<div class="graph">{_svg(graph, described, wide=True)}{_svg(graph, described, wide=False)}</div>'


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the layers are: their beginnings and depths along, and the border across."""

    starts: tuple[float, ...]
    depths: tuple[float, ...]
    border: float
    wide: bool

    @classmethod
    def of(cls, found: Layout, heights: Mapping[str, float], *, wide: bool) -> "_Frame":
        deepest = [
            max((heights[name] for name, at in found.nodes.items() if at.layer == number), default=0.0)
            for number in range(found.layers)
        ]
        depths = tuple(_WIDTH if wide else depth for depth in deepest)
        starts = tuple(_EDGE + sum(depths[:number]) + _BETWEEN * number for number in range(found.layers))
        return cls(starts, depths, found.extent[0] - _EDGE, wide)

    def begin(self, layer: int, height: float) -> float:
        """Where a box of the layer begins."""
        return self.starts[layer] + (0 if self.wide else (self.depths[layer] - height) / 2)

    def end(self, layer: int, height: float) -> float:
        """Where it ends."""
        return self.begin(layer, height) + (self.depths[layer] if self.wide else height)


def _svg(graph: Graph, described: str, *, wide: bool) -> str:
    heights = {node.id: _height(node) for node in graph.nodes}
    found = layout(graph, heights if wide else dict.fromkeys(heights, _WIDTH), _GAP)
    frame = _Frame.of(found, heights, wide=wide)
    long = frame.starts[-1] + frame.depths[-1] + _EDGE
    across = found.extent[1] - found.extent[0] + 2 * _EDGE
    width, height = (long, across) if wide else (across, long)
    kind = "wide" if wide else "tall"
    boxes = []
    for node in graph.nodes:
        place = found.nodes[node.id]
        along, middle = frame.begin(place.layer, heights[node.id]), place.across - frame.border
        x, y = (along, middle - heights[node.id] / 2) if wide else (middle - _WIDTH / 2, along)
        boxes.append(_box(node, x, y, heights[node.id]))
    return f"""<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(described)}"
style="width:min(100%,{width:.0f}px);min-width:{width * _LEAST_SCALE:.0f}px"><defs><marker id="tip-{kind}"
viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 .8 7.5 4 0 7.2z"/>
</marker></defs>{"".join(_lines(found, heights, frame))}{"".join(boxes)}</svg>"""


def _height(node: Node) -> float:
    return _TITLE + _LINE * len(node.lines) + 2 * _PADDING


def _box(node: Node, x: float, y: float, height: float) -> str:
    radius = min(height / 2, 18) if node.kind == "data" else 9
    told = f"<title>{escape(node.told)}</title>" if node.told else ""
    lines = "".join(
        f'<text class="line" x="{x + 11:.1f}" y="{y + _PADDING + _TITLE + 10 + _LINE * number:.1f}">'
        f"{escape(_short(line, _LINE_LETTERS))}</text>"
        for number, line in enumerate(node.lines)
    )
    return (
        f'<g class="{node.kind}">{told}<rect x="{x:.1f}" y="{y:.1f}" width="{_WIDTH:.0f}" height="{height:.1f}" '
        f'rx="{radius:.0f}"/><text class="title" x="{x + 11:.1f}" y="{y + _PADDING + 15:.1f}">'
        f"{escape(_short(node.title, _TITLE_LETTERS))}</text>{lines}</g>"
    )


def _lines(found: Layout, heights: Mapping[str, float], frame: _Frame) -> Iterator[str]:
    tip = f"tip-{'wide' if frame.wide else 'tall'}"
    for edge, (first, *passed, last) in found.lines:
        points = [(frame.end(first.layer, heights[edge.source]), first.across - frame.border)]  # along, across
        for place in passed:  # in a lane of its own
            start, across = frame.starts[place.layer], place.across - frame.border
            points += [(start, across), (start + frame.depths[place.layer], across)]
        points.append((frame.begin(last.layer, heights[edge.target]), last.across - frame.border))
        kind = f' class="{edge.kind}"' if edge.kind else ""
        yield f'<path{kind} d="{_path(points, wide=frame.wide)}" marker-end="url(#{tip})"/>'


def _path(points: list[tuple[float, float]], *, wide: bool) -> str:
    def at(along: float, across: float) -> str:
        return f"{along:.1f} {across:.1f}" if wide else f"{across:.1f} {along:.1f}"

    text = [f"M{at(*points[0])}"]
    for (along, across), (next_along, next_across) in pairwise(points):
        half = (along + next_along) / 2
        straight = abs(across - next_across) < 0.1  # noqa: PLR2004  what a screen shows
        text.append(
            f"L{at(next_along, next_across)}"
            if straight
            else f"C{at(half, across)} {at(half, next_across)} {at(next_along, next_across)}"
        )
    return "".join(text)


def _short(text: str, most: int) -> str:
    """The end of a path says more than its beginning; of anything else the beginning does."""
    if len(text) <= most:
        return text
    return f"…{text[1 - most :]}" if "/" in text else f"{text[: most - 1]}…"
