"""Make a DVC repository one that Dovetail registers models of: what is missing is proposed, and written if asked."""

import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError, UserError
from dovetail.models import mlflow_folder
from dovetail.models.reader import format_of
from dovetail.models.unsupported import SUFFIXES as UNSUPPORTED_SUFFIXES
from dovetail.registration import probe, script_uris
from dovetail.repo.dvc_files import is_in
from dovetail.repo.dvc_values import Model, Out
from dovetail.repo.saved_model import SUFFIXES as MODEL_SUFFIXES
from dovetail.repo.workspace import Workspace
from dovetail.scaffold.file_change import FileChange, text_of
from dovetail.scaffold.yaml_section import add_entry, add_lines
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.documents import load_yaml
from dovetail.values.finding import Finding
from dovetail.values.registered_name import ALLOWED, can_be_registered, possible, registered_name

_IGNORED = ["/mlflow.db*", "/mlruns/"]
_MOST_NAMES = 50
# What scripts call the file of any model: in a registry that others use, too, it says nothing.
_ANY_MODEL = re.compile(
    r"(best|final|finali[sz]ed|trained)?[_-]?"
    r"(model|models|estimator|classifier|clf|regressor|reg|predictor|pipeline|pipe)([_-]?(best|final))?",
    re.IGNORECASE,
)
_ESTIMATOR = "write an estimator of fewer classes there"


@dataclass(frozen=True, slots=True)
class InitRequest:
    """Which model to adopt, by a name and the path of its file; what is not given is found. `write` carries it out."""

    model: str | None = None
    path: str | None = None
    write: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class InitAnswer(Answer):
    """What was missing.

    Attributes:
        allow: The names outside of the table that the model's pickle names.
        findings: What `init` leaves to the user: a remote's plugin, scripts that set a tracking URI.
    """

    model: str
    path: str
    changes: tuple[FileChange, ...]
    allow: tuple[str, ...]
    written: bool
    findings: tuple[Finding, ...] = ()

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
            "findings": [finding.as_json() for finding in self.findings],
        }


def init(workspace: Workspace, tracking: Tracking, request: InitRequest = InitRequest()) -> InitAnswer:
    """Find what is missing for `dovetail register` to show a model: its entry, its stage, what git ignores.

    Raises:
        UserError: when no model or more than one is found, it cannot be registered, or dvc.yaml cannot be added to.
    """
    name, path = _chosen(workspace, request)
    if not can_be_registered(name):
        what = f"{name!r} is not a valid model name: {ALLOWED}"
        raise UserError(what, f"dovetail init {possible(name)} --path {shlex.quote(path)}")
    looked = _looked(workspace, name, path)
    if looked.problem:
        raise UserError(f"{path} cannot be registered as it is: {looked.problem}", looked.next_command)
    changes = tuple(change for change in _changes(workspace, name, path, looked.allow) if change.before != change.after)
    if request.write:
        for change in changes:
            change.write(workspace.root)
    findings = tuple(_left_to_the_user(workspace, tracking))
    return InitAnswer(name, path, changes, looked.allow, written=request.write and bool(changes), findings=findings)


def _chosen(workspace: Workspace, request: InitRequest) -> tuple[str, str]:
    declared = workspace.tree.declared.models
    asked = declared.get(registered_name(request.model)) if request.model else None
    if asked and request.path in (None, asked.path):
        return asked.declared_name, asked.path
    if request.path:
        path = workspace.relative(request.path)
        return request.model or _name(path, workspace.root), path
    if request.model is None and len(declared) == 1:
        (model,) = declared.values()
        return model.declared_name, model.path
    candidates = sorted(set(_models(workspace)))
    looks = (
        {path: _looked(workspace, _name(path, workspace.root), path) for path in candidates}
        if len(candidates) > 1
        else {}
    )
    found = [path for path in candidates if path not in looks or not looks[path].problem]
    found = [path for path in found if Path(path).suffix not in UNSUPPORTED_SUFFIXES] or found
    if len(found) == 1:
        return request.model or _name(found[0], workspace.root), found[0]
    if looks and not found:
        reasons = "; ".join(f"{path}: {look.problem}" for path, look in looks.items())
        raise UserError(f"no output of a stage can be registered: {reasons}", looks[candidates[0]].next_command)
    there = f"several files may be models: {', '.join(found)}" if found else "no output of a stage looks like a model"
    name, example = (_name(found[0], workspace.root), workspace.typed(found[0])) if found else ("NAME", "PATH")
    raise UserError(there, f"dovetail init {request.model or name} --path {example}")


def _models(workspace: Workspace) -> Iterator[str]:
    """The outputs, of stages and of `dvc add`, that are models by their name or their content."""
    reports = workspace.tree.declared.metrics | workspace.tree.declared.plots
    for out in (out for stage in workspace.pipeline.stages for out in stage.outs):
        if out.path not in reports and _is_model(workspace.root / out.path, out):
            yield out.path


def _is_model(file: Path, out: Out) -> bool:
    suffixes = (*MODEL_SUFFIXES, *UNSUPPORTED_SUFFIXES)  # those are refused by what they are, not as unknown
    if Path(out.path).suffix in suffixes:
        return True
    if file.is_dir():
        return (file / mlflow_folder.MLMODEL).is_file() or any(inner.suffix in suffixes for inner in file.iterdir())
    return file.is_file() and format_of(file) is not None


def _name(path: str, root: Path) -> str:
    """What a model is called: as its file, or as the repository's folder where files of any model are called so."""
    stem = Path(path).stem
    names = [root.name, stem] if _ANY_MODEL.fullmatch(stem) else [stem]
    found = (possible(re.sub(r"[^\w-]+", "-", name, flags=re.ASCII)) for name in names)
    return next((name for name in found if name != possible("")), possible(""))


@dataclass(frozen=True, slots=True)
class _ModelCheck:
    """What reading a model told: the names that have to be allowed, or why it cannot be registered and what then."""

    allow: tuple[str, ...] = ()
    problem: str = ""
    next_command: str = ""


def _looked(workspace: Workspace, name: str, path: str) -> _ModelCheck:
    """Read the model, if it lies there: what is to be trained or pulled first, `register` looks at then."""
    file = workspace.root / path
    if not file.exists():
        return _ModelCheck()
    if file.is_dir():
        try:
            file = workspace.root / workspace.tree.artifact(Model(name, path)).path
        except DovetailError as error:
            return _ModelCheck(problem=error.message, next_command=error.next_command)
    allow: list[str] = []
    while len(allow) < _MOST_NAMES:
        refused = probe.refusal(file, tuple(allow))
        if not refused.name or refused.name in allow:
            return _ModelCheck(tuple(allow), refused.why, refused.next_command)
        allow.append(refused.name)
    return _ModelCheck(
        problem="it names too many things that the table of names does not allow", next_command=_ESTIMATOR
    )


def _left_to_the_user(workspace: Workspace, tracking: Tracking) -> Iterator[Finding]:
    """What `init` finds and does not change: the environment, and the user's own code."""
    yield from workspace.remote.missing_plugins()
    scripts = {dep for stage in workspace.pipeline.stages for dep in stage.deps}
    commands = [(stage.name, command) for stage in workspace.pipeline.stages for command in stage.commands]
    yield from script_uris.findings(script_uris.Scripts(workspace.root), scripts, tracking.uri, commands)


def _changes(workspace: Workspace, name: str, path: str, allow: tuple[str, ...]) -> Iterator[FileChange]:
    stage = next((stage for stage in workspace.pipeline.stages for out in stage.outs if out.path == path), None)
    in_yaml = stage is not None and ":" in stage.address
    dvc_yaml = stage.address.rpartition(":")[0] if stage and in_yaml else "dvc.yaml"
    folder = posixpath.dirname(dvc_yaml)
    before = text = text_of(workspace.root / dvc_yaml)
    known = load_yaml(text) or {}
    registered = registered_name(name)
    if name not in (known.get("artifacts") or {}) and registered not in workspace.tree.declared.models:
        entry = f"path: {_quoted(posixpath.relpath(path, folder or '.'))}\ntype: model"
        if allow:
            entry += f"\nmeta: {{gates: {{pickle: {{allow: [{', '.join(allow)}]}}}}}}"
        text = add_entry(text, "artifacts", name, entry, dvc_yaml)
    receipt = Model(registered, path).receipt
    if not any(out.path == receipt for stage in workspace.pipeline.stages for out in stage.outs):
        stages = known.get("stages") or {}
        named = registered.replace(".", "-")  # as DVC takes it in the name of a stage
        called = next(one for one in ("register", f"register-{named}", f"dovetail-{named}") if one not in stages)
        deps = [path, *_reports(workspace, path)]
        shown = ", ".join(_quoted(posixpath.relpath(dep, folder or ".")) for dep in deps)
        out = posixpath.relpath(receipt, folder or ".")
        entry = f"cmd: dovetail register {name}\ndeps: [{shown}]\nouts:\n  - {_quoted(out)}: {{cache: false}}"
        text = add_entry(text, "stages", called, entry, dvc_yaml)
    yield FileChange(dvc_yaml, before, text)
    ignored = text_of(workspace.root / ".gitignore")
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
    return sorted(one for one in declared.metrics | declared.plots if any(is_in(one, out) for out in outs))


def _quoted(value: str) -> str:
    """A path as YAML takes it in a flow sequence: quoted where it holds more than names usually do."""
    return value if re.fullmatch(r"[\w./-]+", value, re.ASCII) else json.dumps(value, ensure_ascii=False)
