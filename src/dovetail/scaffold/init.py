"""Make a DVC repository one that Dovetail registers models of: what is missing is proposed, and written if asked."""

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from dovetail.errors import UserError
from dovetail.models.reader import format_of
from dovetail.registration import probe
from dovetail.repo.dvc_values import RECEIPTS, Out
from dovetail.repo.tree import MODEL_SUFFIXES
from dovetail.repo.workspace import Workspace
from dovetail.scaffold.yaml_section import add_entry, add_lines
from dovetail.tracking.connection import Tracking
from dovetail.values.documents import load_yaml

_IGNORED = ["/mlflow.db*", "/mlruns/"]
_MOST_NAMES = 50


@dataclass(frozen=True, slots=True)
class InitRequest:
    """Which model to adopt, by a name and the path of its file; what is not given is found. `write` carries it out."""

    model: str | None = None
    path: str | None = None
    write: bool = False


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file, relative to the root, as it is and as it is to be."""

    path: str
    before: str
    after: str

    def diff(self) -> str:
        """The change as `diff -u` shows it."""
        shown = (text.encode(errors="surrogateescape").decode(errors="replace") for text in (self.before, self.after))
        before, after = (text.splitlines() for text in shown)
        return "\n".join(unified_diff(before, after, f"a/{self.path}", f"b/{self.path}", lineterm=""))


@dataclass(frozen=True, slots=True, repr=False)
class InitAnswer:
    """What was missing. `allow` holds the names outside of the table that the model's pickle names."""

    model: str
    path: str
    changes: tuple[FileChange, ...]
    allow: tuple[str, ...]
    written: bool
    problem: str = ""  # why the model cannot be registered as it is

    def __repr__(self) -> str:
        return f"<InitAnswer {self.model}: {len(self.changes)} files {'written' if self.written else 'to change'}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail init --json`."""
        return {
            "model": self.model,
            "path": self.path,
            "changes": [{"path": change.path, "diff": change.diff()} for change in self.changes],
            "allow": list(self.allow),
            "written": self.written,
            "problem": self.problem or None,
        }


def init(workspace: Workspace, tracking: Tracking, request: InitRequest = InitRequest()) -> InitAnswer:  # noqa: ARG001  (the shape of every verb)
    """Find what is missing for `dovetail register` to show a model: its entry, its stage, what git ignores.

    Raises:
        UserError: when no model or more than one is found, or dvc.yaml cannot be added to.
    """
    name, path = _chosen(workspace, request)
    file = workspace.root / path
    allow, problem = _asked(file, name, workspace) if file.exists() else ((), "")
    changes = tuple(change for change in _changes(workspace, name, path, allow) if change.before != change.after)
    if request.write:
        for change in changes:
            _write(workspace.root / change.path, change.after)
    return InitAnswer(name, path, changes, allow, written=request.write and bool(changes), problem=problem)


def _chosen(workspace: Workspace, request: InitRequest) -> tuple[str, str]:
    declared = workspace.tree.declared.models
    if request.model and request.model in declared and request.path in (None, declared[request.model].path):
        return request.model, declared[request.model].path
    if request.path:
        path = workspace.relative(request.path)
        return request.model or _name(path), path
    if request.model is None and len(declared) == 1:
        ((name, model),) = declared.items()
        return name, model.path
    found = sorted(_models(workspace))
    if len(found) != 1:
        there = (
            f"several files may be models: {', '.join(found)}" if found else "no output of a stage looks like a model"
        )
        example = found[0] if found else "PATH"
        raise UserError(there, f"dovetail init {request.model or _name(example)} --path {example}")
    return request.model or _name(found[0]), found[0]


def _models(workspace: Workspace) -> Iterator[str]:
    """The outputs, of stages and of `dvc add`, that are models by their name or their content."""
    reports = workspace.tree.declared.metrics | workspace.tree.declared.plots
    for out in (out for stage in workspace.pipeline.stages for out in stage.outs):
        if out.path not in reports and _is_model(workspace.root / out.path, out):
            yield out.path


def _is_model(file: Path, out: Out) -> bool:
    if Path(out.path).suffix in MODEL_SUFFIXES:
        return True
    if file.is_dir():
        return (file / "MLmodel").is_file() or any(inner.suffix in MODEL_SUFFIXES for inner in file.iterdir())
    return file.is_file() and format_of(file) is not None


def _name(path: str) -> str:
    return re.sub(r"[^\w-]+", "-", Path(path).stem).strip("-") or "model"


def _asked(file: Path, name: str, workspace: Workspace) -> tuple[tuple[str, ...], str]:
    """The names that have to be allowed for the model to be read, and why it cannot be, if it cannot."""
    if file.is_dir():
        declared = workspace.tree.declared.models
        if name not in declared:
            return (), ""
        file = workspace.root / workspace.tree.artifact(declared[name]).path
    allow: list[str] = []
    while len(allow) < _MOST_NAMES:
        refused, problem = probe.refusal(file, tuple(allow))
        if not refused or refused in allow:
            return tuple(allow), problem
        allow.append(refused)
    return tuple(allow), "it names too many things that the table of names does not allow"


def _changes(workspace: Workspace, name: str, path: str, allow: tuple[str, ...]) -> Iterator[FileChange]:
    stage = next((stage for stage in workspace.pipeline.stages for out in stage.outs if out.path == path), None)
    in_yaml = stage is not None and ":" in stage.address
    dvc_yaml = stage.address.rpartition(":")[0] if stage and in_yaml else "dvc.yaml"
    folder = posixpath.dirname(dvc_yaml)
    before = text = _text(workspace.root / dvc_yaml)
    known = load_yaml(text) or {}
    if name not in (known.get("artifacts") or {}) and name not in workspace.tree.declared.models:
        entry = f"path: {_quoted(posixpath.relpath(path, folder or '.'))}\ntype: model"
        if allow:
            entry += f"\nmeta: {{gates: {{pickle: {{allow: [{', '.join(allow)}]}}}}}}"
        text = add_entry(text, "artifacts", name, entry, dvc_yaml)
    receipt = f"{RECEIPTS}/{name}.json"
    if not any(out.path == receipt for stage in workspace.pipeline.stages for out in stage.outs):
        stages = known.get("stages") or {}
        called = next(one for one in ("register", f"register-{name}", f"dovetail-{name}") if one not in stages)
        deps = [path, *_reports(workspace, path)]
        shown = ", ".join(_quoted(posixpath.relpath(dep, folder or ".")) for dep in deps)
        out = posixpath.relpath(receipt, folder or ".")
        entry = f"cmd: dovetail register {name}\ndeps: [{shown}]\nouts:\n  - {_quoted(out)}: {{cache: false}}"
        text = add_entry(text, "stages", called, entry, dvc_yaml)
    yield FileChange(dvc_yaml, before, text)
    ignored = _text(workspace.root / ".gitignore")
    yield FileChange(".gitignore", ignored, add_lines(ignored, _IGNORED))


def _reports(workspace: Workspace, path: str) -> list[str]:
    """The metrics and plots of the stages that make the model or read it."""
    declared = workspace.tree.declared
    near = [
        stage
        for stage in workspace.pipeline.stages
        if path in stage.deps or any(out.path == path for out in stage.outs)
    ]
    outs = {out.path for stage in near for out in stage.outs}
    return sorted(outs & (declared.metrics | declared.plots))


def _quoted(value: str) -> str:
    """A path as YAML takes it in a flow sequence: quoted where it holds more than names usually do."""
    return value if re.fullmatch(r"[\w./-]+", value, re.ASCII) else json.dumps(value, ensure_ascii=False)


def _text(file: Path) -> str:
    """The file's text with plain line ends; bytes that are not UTF-8 come back as they were."""
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""


def _write(file: Path, text: str) -> None:
    """Write the text with the line ends that the file has."""
    ends = "\r\n" if file.is_file() and b"\r\n" in file.read_bytes() else "\n"
    with file.open("w", encoding="utf-8", errors="surrogateescape", newline=ends) as written:
        written.write(text)
