"""A lineage for people: a tree on a terminal, a Mermaid diagram for pasting."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from dovetail.render.commits import shortened
from dovetail.render.short import SHORT


def tree(answer: dict[str, Any]) -> str:
    """An upward or a downward lineage as an indented text."""
    return "\n".join([*(_upward(answer) if "stages" in answer else _downward(answer)), *_scored_files(answer)])


def mermaid(answer: dict[str, Any]) -> str:
    """An upward or a downward lineage as a Mermaid flowchart, data on the left."""
    edges = _stage_edges(answer) if "stages" in answer else _version_edges(answer)
    return "\n".join(["flowchart LR", *(f"  {line}" for line in edges)])


def _upward(up: dict[str, Any]) -> Iterator[str]:
    if scored := up.get("scored"):
        yield f"answers to {_file(scored['input'])}, scored by"
    name = f"{up['model']}/{up['version']}" if up["version"] else f"{up['model']} (a run without a version)"
    yield " ".join([name, *(f"@{alias}" for alias in up["aliases"])])
    yield f"├─ run {up['run_id']}  fingerprint {up['fingerprint'][:SHORT]}"
    state = "verified" if up["artifact"]["verified"] else "NOT what the registry holds"
    yield f"├─ {_file(up['artifact'])}  {state}"
    if not up["commits"]:
        yield "├─ in no commit yet: git commit dvc.lock"
    yield from (f"├─ {line}" for line in shortened(up["commits"], _commit))
    available = {entry["md5"]: entry["available"] for entry in up["data"]}
    computing = up["environment"]["computing"]
    if computing:
        yield f"├─ computed on {_computed(computing)}"
    for stage in reversed(up["stages"]):
        yield f"├─ {stage['name']}  {'; '.join(line.strip() for line in stage['cmd'].splitlines() if line.strip())}"
        if own := computing.get(f"stage.{stage['name']}"):
            yield f"│    with {own.replace('variable.', '')}"
        for key, value in stage["params"].items():
            yield f"│    param {key} = {value}"
        for dep in stage["deps"]:
            where = f"  {_where(available[dep['md5']])}" if dep["md5"] in available else ""
            yield f"│    ← {_file(dep)}{where}"
        for out in stage["outs"]:
            yield f"│    → {_file(out)}"
    plain = {
        key: value for key, value in up["metrics"].items() if "." not in key
    }  # others are of other stages, or nested
    shown = [f"{key} {value:.4g}" for key, value in (plain or up["metrics"]).items()]
    yield f"└─ {', '.join(shown) or 'no metrics'}"


def _scored_files(answer: dict[str, Any]) -> Iterator[str]:
    files = answer.get("scored_files")
    if files is not None:
        yield f"scored files: {len(files)}"
        yield from (f"  {file}" for file in files)


def _commit(commit: dict[str, Any]) -> str:
    day = datetime.fromtimestamp(commit["time"], UTC).date()
    refs = f"  ({', '.join(commit['refs'])})" if commit["refs"] else ""
    return f"commit {commit['sha'][:SHORT]} {day} {commit['author']}: {commit['summary']}{refs}"


def _computed(facts: dict[str, str]) -> str:
    """`x86_64, 2 cores, BLAS SkylakeX on 2 threads, OpenMP on 2 threads, OMP_NUM_THREADS=2`, as far as it is known."""
    blas = " ".join(filter(None, ["BLAS", facts.get("blas.kernel")]))
    shown = [
        facts.get("machine"),
        f"{facts['cores']} cores" if "cores" in facts else None,
        f"{blas} on {facts['blas.threads']} threads" if "blas.threads" in facts else None,
        f"OpenMP on {facts['openmp.threads']} threads" if "openmp.threads" in facts else None,
        *(f"{key.partition('.')[2]}={value}" for key, value in facts.items() if key.startswith("variable.")),
    ]
    return ", ".join(filter(None, shown))


def _downward(down: dict[str, Any]) -> Iterator[str]:
    yield f"{down['path'] or 'data'}  {down['md5']}"
    yield f"├─ {len(down['runs'])} runs"
    for version in down["versions"]:
        yield " ".join([f"├─ {version['model']}/{version['version']}", *(f"@{alias}" for alias in version["aliases"])])
    yield f"└─ {len(down['versions'])} versions"


def _where(places: list[str]) -> str:
    if places == ["unknown"]:
        return "NOT in the cache, and the remote does not answer"
    return f"in {', '.join(places) or 'NO cache or remote'}"


def _file(ref: dict[str, Any]) -> str:
    return f"{ref['path']}  {ref['md5'][:SHORT]}"


def _stage_edges(up: dict[str, Any]) -> Iterator[str]:
    ids: dict[str, str] = {}

    def node(kind: str, label: str, shape: str) -> str:
        fresh = label not in ids
        ids.setdefault(label, f"{kind}{len(ids)}")
        return ids[label] + (shape.format(label) if fresh else "")

    code = {dep["path"] for stage in up["stages"] for dep in stage["deps"]} - {d["path"] for d in up["data"]}
    for stage in up["stages"]:
        for dep in stage["deps"]:
            if dep["path"] not in code or dep["path"] == up["artifact"]["path"]:
                yield f"{node('d', dep['path'], '[({})]')} --> {node('s', stage['name'], '[{}]')}"
        for out in stage["outs"]:
            yield f"{node('s', stage['name'], '[{}]')} --> {node('d', out['path'], '[({})]')}"
    version = " ".join([f"{up['model']}/{up['version']}", *(f"@{alias}" for alias in up["aliases"])])
    yield f"{node('d', up['artifact']['path'], '[({})]')} --> {node('v', version, '([{}])')}"


def _version_edges(down: dict[str, Any]) -> Iterator[str]:
    source = f"d0[({down['path'] or down['md5']})]"
    for index, version in enumerate(down["versions"]):
        name = " ".join([f"{version['model']}/{version['version']}", *(f"@{alias}" for alias in version["aliases"])])
        yield f"{source if index == 0 else 'd0'} --> v{index}([{name}])"
    if not down["versions"]:
        yield source
