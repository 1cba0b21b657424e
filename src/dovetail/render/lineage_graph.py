"""A lineage as a graph: stages as boxes that list what they made, data that no stage made, the version at the end."""

from collections.abc import Iterator
from typing import Any

from dovetail.render.graph import Edge, Graph, Node
from dovetail.render.short import SHORT

_MOST = 4  # outs that a box lists
_MOST_VERSIONS = 40


def graph(answer: dict[str, Any]) -> Graph:
    """The graph of an upward or a downward lineage."""
    return _upward(answer) if "stages" in answer else _downward(answer)


def _upward(up: dict[str, Any]) -> Graph:
    data = {entry["path"]: entry for entry in up["data"]}
    stages = up["stages"]
    outs = [(out["path"], f"stage {stage['name']}") for stage in stages for out in stage["outs"]]
    artifact = up["artifact"]["path"]
    nodes: dict[str, Node] = {}
    edges: dict[tuple[str, str], Edge] = {}
    for stage in stages:
        name = f"stage {stage['name']}"
        for dep in stage["deps"]:
            makers = [maker for path, maker in outs if _overlap(path, dep["path"]) and maker != name]
            if not makers and dep["path"] in data:
                source = f"data {dep['path']}"
                nodes.setdefault(source, _source(data[dep["path"]]))
                makers = [source]
            for maker in makers:
                edges[maker, name] = Edge(maker, name)
        nodes[name] = _stage(stage)
    title = f"{up['model']}/{up['version']}" if up["version"] else f"{up['model']}, a run"
    lines = tuple(filter(None, [" ".join(f"@{alias}" for alias in up["aliases"]), up["artifact"]["md5"][:SHORT]]))
    last = Node("version", "version", title, lines, f"{artifact}\nmd5 {up['artifact']['md5']}")
    making = {maker for path, maker in outs if _overlap(path, artifact)}
    if not making:
        nodes["data " + artifact] = Node("data " + artifact, "data", artifact.rpartition("/")[2], (artifact,))
        making = {"data " + artifact}
    for maker in making:
        edges[maker, "version"] = Edge(maker, "version")
    for name in list(nodes):  # what was measured of the model goes with it
        if name.startswith("stage ") and name not in making and not any(edge.source == name for edge in edges.values()):
            edges[name, "version"] = Edge(name, "version", "evidence")
    return Graph((*_sources_first(nodes), last), tuple(edges.values()))


def _sources_first(nodes: dict[str, Node]) -> Iterator[Node]:
    yield from (node for node in nodes.values() if node.kind == "data")
    yield from (node for node in nodes.values() if node.kind != "data")


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _source(entry: dict[str, Any]) -> Node:
    where = "git" if "git" in entry["available"] else ", ".join(entry["available"]) or "NOWHERE"
    told = f"{entry['path']}\nmd5 {entry['md5']}\nin {where}" + (f"\n{entry['origin']}" if entry["origin"] else "")
    lines = (
        (entry["path"], f"{entry['md5'][:SHORT]} in {where}")
        if "/" in entry["path"]
        else (f"{entry['md5'][:SHORT]} in {where}",)
    )
    return Node(f"data {entry['path']}", "data", entry["path"].rpartition("/")[2], lines, told)


def _stage(stage: dict[str, Any]) -> Node:
    outs = [out["path"] for out in stage["outs"]]
    lines = outs[:_MOST] if len(outs) <= _MOST else [*outs[: _MOST - 1], f"and {len(outs) - _MOST + 1} more"]
    params = "".join(f"\n{key} = {value}" for key, value in stage["params"].items())
    told = stage["cmd"] + "".join(f"\n→ {out['path']}  {out['md5'][:SHORT]}" for out in stage["outs"]) + params
    return Node(f"stage {stage['name']}", "stage", stage["name"], tuple(lines), told)


def _downward(down: dict[str, Any]) -> Graph:
    path = down["path"] or "data"
    source = Node("data", "data", path.rpartition("/")[2], (path, down["md5"][:SHORT]), f"{path}\nmd5 {down['md5']}")
    shown = down["versions"][:_MOST_VERSIONS]
    versions = [
        Node(
            f"version {number}",
            "version",
            f"{version['model']}/{version['version']}",
            tuple(filter(None, [" ".join(f"@{alias}" for alias in version["aliases"])])),
            f"run {version['run_id']}",
        )
        for number, version in enumerate(shown)
    ]
    left = len(down["versions"]) - len(shown)
    if left:
        versions.append(Node("more", "stage", f"{left} more versions"))
    return Graph((source, *versions), tuple(Edge("data", version.id) for version in versions))
