"""Where the boxes and the lines of a directed graph are drawn: in layers, few crossings, lines around boxes. Pure.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981: layers by
longest path, a place in the layer for each line that passes it, order by the mean of the neighbours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 12
_LANE = 14.0  # pixels that a line takes where it passes a layer


@dataclass(frozen=True, slots=True)
class Node:
    """A box: its title, lines of small text below, what is told where the pointer rests."""

    id: str
    kind: str
    title: str
    lines: tuple[str, ...] = ()
    told: str = ""


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from one box to another."""

    source: str
    target: str
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Boxes and lines; a line that would close a circle, or names no box, is left out."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A box with its place along the layers and across them, both of its middle, in units of the caller's sizes."""

    layer: int
    across: float


@dataclass(frozen=True, slots=True)
class Layout:
    """The place of each box; the places that each line goes through, its ends included."""

    nodes: Mapping[str, Placed]
    lines: Sequence[tuple[Edge, tuple[Placed, ...]]]
    layers: int
    extent: tuple[float, float]  # the least and the greatest border across


def layout(graph: Graph, sizes: Mapping[str, float], gap: float) -> Layout:
    """Place the graph.

    Args:
        graph: What is drawn.
        sizes: What each box takes across the layers.
        gap: What is left between two boxes of a layer.
    """
    edges = _forward(graph)
    layer = _layers(graph, edges)
    width = dict(sizes)
    layers: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in graph.nodes:
        layers[layer[node.id]].append(node.id)
    chains: list[tuple[Edge, list[str]]] = []
    for number, edge in enumerate(edges):
        chain = [edge.source]
        for passed in range(layer[edge.source] + 1, layer[edge.target]):
            lane = f"\0{number}.{passed}"
            layer[lane], width[lane] = passed, _LANE
            layers[passed].append(lane)
            chain.append(lane)
        chains.append((edge, [*chain, edge.target]))
    near: dict[str, list[str]] = {name: [] for names in layers for name in names}
    for _, chain in chains:
        for one, other in pairwise(chain):
            near[one].append(other)
            near[other].append(one)
    across = _ordered(layers, near, width, gap)
    placed = {name: Placed(layer[name], across[name]) for name in across}
    borders = [(across[name] - width[name] / 2, across[name] + width[name] / 2) for name in across] or [(0.0, 0.0)]
    return Layout(
        {node.id: placed[node.id] for node in graph.nodes},
        [(edge, tuple(placed[name] for name in chain)) for edge, chain in chains],
        len(layers),
        (min(low for low, _ in borders), max(high for _, high in borders)),
    )


def _forward(graph: Graph) -> list[Edge]:
    """The lines from a box to a later one: boxes come sources first, and what leads back would close a circle."""
    place = {node.id: number for number, node in enumerate(graph.nodes)}
    return [e for e in graph.edges if e.source in place and e.target in place and place[e.source] < place[e.target]]


def _layers(graph: Graph, forward: list[Edge]) -> dict[str, int]:
    """The layer of each box: after all that leads to it, and where nothing does, right before what it leads to."""
    names = [node.id for node in graph.nodes]
    layer = dict.fromkeys(names, 0)
    for name in names:
        layer[name] = max((layer[edge.source] + 1 for edge in forward if edge.target == name), default=0)
    fed = {edge.target for edge in forward}
    for name in names:
        following = [layer[edge.target] for edge in forward if edge.source == name]
        if name not in fed and following:
            layer[name] = min(following) - 1
    return layer


def _ordered(
    layers: list[list[str]], near: Mapping[str, list[str]], width: Mapping[str, float], gap: float
) -> dict[str, float]:
    """The middle of each box across the layers, which are put in order."""
    across: dict[str, float] = {}
    for names in layers:
        _spread(names, dict.fromkeys(names, 0.0), across, width, gap)
    layer_of = {name: number for number, names in enumerate(layers) for name in names}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for number in range(len(layers)) if down else range(len(layers) - 1, -1, -1):
            names = layers[number]
            wanted = {}
            for name in names:
                sides = [other for other in near[name] if (layer_of[other] < number) == down]
                seen = sides if sweep < _SWEEPS - 2 else near[name]
                wanted[name] = _mean((across[other] for other in seen), across[name])
            names.sort(key=wanted.__getitem__)
            _spread(names, wanted, across, width, gap)
    return across


def _spread(
    names: Sequence[str], wanted: Mapping[str, float], across: dict[str, float], width: Mapping[str, float], gap: float
) -> None:
    """Place the boxes of a layer as near as possible to where they are wanted, in this order, none over another."""
    groups: list[tuple[list[str], list[float]]] = []  # boxes that touch, with where each wants the first to be
    for name in names:
        groups.append(([name], [wanted[name]]))
        while len(groups) > 1:
            (before, starts), (after, others) = groups[-2:]
            length = sum(_step(*pair, width, gap) for pair in pairwise([*before, after[0]]))
            if _mean(starts, 0.0) + length <= _mean(others, 0.0):
                break
            groups[-2:] = [(before + after, starts + [start - length for start in others])]
    for members, starts in groups:
        at = _mean(starts, 0.0)
        for place, name in enumerate(members):
            across[name] = at
            if place + 1 < len(members):
                at += _step(name, members[place + 1], width, gap)


def _step(one: str, other: str, width: Mapping[str, float], gap: float) -> float:
    return (width[one] + width[other]) / 2 + gap


def _mean(values: Iterable[float], otherwise: float) -> float:
    found = list(values)
    return sum(found) / len(found) if found else otherwise
