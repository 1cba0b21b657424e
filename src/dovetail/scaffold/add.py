"""Another data set or model for a project: its blocks in params.yaml and dvc.yaml, beside what stands there."""

import hashlib
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import UserError
from dovetail.repo.workspace import Workspace
from dovetail.scaffold.blocks import TAKEN, artifact_block, dataset_block, model_block, plain_name
from dovetail.scaffold.file_change import FileChange, text_of
from dovetail.scaffold.inferred import infer, suffix_of
from dovetail.scaffold.inferred_column import InferredColumn
from dovetail.scaffold.new import run
from dovetail.scaffold.yaml_section import add_entry
from dovetail.values.answer import Answer
from dovetail.values.documents import load_yaml

_PARAMS, _PIPELINE = "params.yaml", "dvc.yaml"
_RAW = "data/raw"
_DVC_ADD = (sys.executable, "-P", "-m", "dvc", "add", "--quiet")


@dataclass(frozen=True, slots=True)
class AddDataRequest:
    """A data set's name and its file; `target` is the column that is to be predicted. `write` carries it out."""

    name: str
    data: Path
    target: str | None = None
    write: bool = False


@dataclass(frozen=True, slots=True)
class AddModelRequest:
    """A model's name and its data set.

    Attributes:
        target: The column to predict; not needed where another model has the same data.
        estimator: An import path; None: one that is good without being tuned.
        write: Whether to carry it out.
    """

    name: str
    data: str
    target: str | None = None
    estimator: str | None = None
    write: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class AddAnswer(Answer):
    """What is to be added, or was.

    Attributes:
        copied: Where the data file goes and is given to `dvc add`; empty for one that is there, and for a model.
        columns: Of the data file, each with what a person should know of it.
        next_command: The command to type next.
    """

    name: str
    changes: tuple[FileChange, ...]
    next_command: str
    copied: str = ""
    columns: tuple[InferredColumn, ...] = ()
    written: bool = False

    def __repr__(self) -> str:
        return f"<AddAnswer {self.name}: {len(self.changes)} files {'written' if self.written else 'to change'}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail add-data --json` and `dovetail add-model --json`."""
        return {
            "name": self.name,
            "changes": [{"path": change.path, "diff": change.diff()} for change in self.changes],
            "copied": self.copied or None,
            "columns": [asdict(column) for column in self.columns],
            "written": self.written,
            "next": self.next_command,
        }


def add_data(workspace: Workspace, request: AddDataRequest) -> AddAnswer:
    """Write what is seen in a file into `datasets`, copy it to data/raw and give it to DVC; nothing if it is there.

    Raises:
        UserError: when the name is taken or none, the file cannot be read, or params.yaml cannot be added to.
        OutsideError: when DVC cannot do its part.
    """
    typed = f"dovetail add-data {{}} --data {shlex.quote(str(request.data))}"
    name, root = _checked(request.name, typed), workspace.root
    datasets = _section(workspace, "datasets")
    if not request.data.is_file():
        raise UserError(f"there is no file {request.data}", f"dovetail add-data {name} --data FILE")
    raw = _raw_of(workspace, name, request.data)
    next_command = f"dovetail add-model {name} --data {name} --target {shlex.quote(request.target or 'COLUMN')}"
    if name in datasets:
        if datasets[name].get("raw") == raw and _md5(root / raw) == _md5(request.data):
            return AddAnswer(name, (), next_command)
        raise UserError(
            f"{_PARAMS}: datasets.{name} already exists, of {datasets[name].get('raw')}",
            typed.format(f"{name}_2"),
        )
    if (root / raw).exists() and _md5(root / raw) != _md5(request.data):
        raise UserError(f"{raw} already exists with other content", f"dovetail add-data {name}_2 --data FILE")
    seen = infer(request.data, request.target)
    block = "\n".join(dataset_block(raw, request.target, seen))
    change = _added(root, _PARAMS, "datasets", name, block)
    made = {out.path for stage in workspace.pipeline.stages for out in stage.outs}
    is_kept = raw in made or raw in workspace.tree.tracked or bool(workspace.tree.in_git(raw))
    if request.write:
        if not (root / raw).exists():
            (root / raw).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(request.data, root / raw)
        if not is_kept:
            run(root, *_DVC_ADD, raw)
        change.write(root)
    return AddAnswer(name, (change,), next_command, "" if is_kept else raw, seen.columns, written=request.write)


def add_model(workspace: Workspace, request: AddModelRequest) -> AddAnswer:
    """Write a model's block into `models` and its entry into `artifacts`; nothing if it is there.

    Raises:
        UserError: when the name is taken or none, there is no such data set, its rows are not there, it has no such
            column, or a file cannot be added to.
    """
    typed = f"dovetail add-model {{}} --data {request.data}"
    name, root, models = _checked(request.name, typed), workspace.root, _section(workspace, "models")
    datasets, next_command = _section(workspace, "datasets"), f"dvc repro register@{name}"
    if request.data not in datasets:
        raise UserError(
            f"{_PARAMS} has no data set {request.data!r}; there are: {', '.join(datasets) or 'none'}",
            f"dovetail add-data {plain_name(request.data)} --data FILE",
        )
    if name in models:
        asked = {"data": request.data, "target": request.target, "estimator": request.estimator}
        there = {**models[name], "estimator": (models[name].get("train") or {}).get("estimator")}
        if all(value is None or there.get(key) == value for key, value in asked.items()):
            return AddAnswer(name, (), next_command)
        raise UserError(f"{_PARAMS}: models.{name} already exists, and is another model", typed.format(f"{name}_2"))
    if request.estimator and not re.fullmatch(r"\w+(\.\w+)+", request.estimator):
        raise UserError(
            f"{request.estimator!r} is not an import path", "write one such as sklearn.linear_model.LogisticRegression"
        )
    file = _rows_of(root, request.data, datasets[request.data])
    target = request.target or _target_of(models, request, file)
    seen = infer(file, target)
    block = "\n".join(model_block(request.data, target, seen, request.estimator))
    changes = [_added(root, _PARAMS, "models", name, block)]
    if name not in ((load_yaml(text_of(root / _PIPELINE)) or {}).get("artifacts") or {}):
        entry = "\n".join(artifact_block(name, target))
        changes.append(_added(root, _PIPELINE, "artifacts", name, entry))
    if request.write:
        for change in changes:
            change.write(root)
    warned = tuple(column for column in seen.columns if column.is_id or not column.dtype)
    return AddAnswer(name, tuple(changes), next_command, columns=warned, written=request.write)


def _checked(name: str, again: str) -> str:
    if name in TAKEN or (name != plain_name(name) and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name)):
        plain = plain_name(name)
        raise UserError(f"{name!r} cannot be a name: it becomes a part of stages, keys and files", again.format(plain))
    return name


def _section(workspace: Workspace, name: str) -> Mapping[str, Any]:
    found = load_yaml(text_of(workspace.root / _PARAMS))
    if not isinstance(found, Mapping) or name not in found or not (workspace.root / "src/stages").is_dir():
        raise UserError(
            f"{workspace.root} was not made by `dovetail new`: it lacks src/stages, or {_PARAMS} the section {name!r}",
            "dovetail new PROJECT --data FILE --target COLUMN (or, for a pipeline of your own: dovetail init)",
        )
    blocks = found[name] or {}
    return {str(key): block for key, block in blocks.items() if isinstance(block, Mapping)}


def _raw_of(workspace: Workspace, name: str, data: Path) -> str:
    """Where the file is, if that is below data/raw already and goes into a command as it is; else where it goes."""
    inside = data.resolve()
    if inside.is_relative_to((workspace.root / _RAW).resolve()):
        path = inside.relative_to(workspace.root.resolve()).as_posix()
        if not re.search(r"[^\w./+@%=:,-]", path):
            return path
    return f"{_RAW}/{name}{suffix_of(data)}"


def _rows_of(root: Path, name: str, dataset: Mapping[str, Any]) -> Path:
    """The cleaned rows, whose columns are what a model gets; before there are some, the raw ones."""
    raw = dataset.get("raw")
    for path in (f"data/clean/{name}.parquet", str(raw)):
        if (root / path).is_file():
            return root / path
        for part in sorted((root / path).rglob("*")):  # of a folder of parts the first: all have the same columns
            if part.is_file() and not part.name.startswith((".", "_")):
                return part
    next_command = f"dvc repro clean@{name}"
    if (root / f"{raw}.dvc").is_file():  # added, not made by a stage
        next_command = f"dvc checkout {raw}, or if only the remote has it: dvc pull {raw}"
    raise UserError(f"the rows of {name} are not there yet", next_command)


def _target_of(models: Mapping[str, Any], request: AddModelRequest, file: Path) -> str:
    known = {str(model.get("target")) for model in models.values() if model.get("data") == request.data}
    if len(known) == 1:
        return known.pop()
    names = ", ".join(column.name for column in infer(file).columns)
    raise UserError(
        f"which column of {request.data} is to be predicted? It has: {names}",
        f"dovetail add-model {request.name} --data {request.data} --target COLUMN",
    )


def _added(root: Path, path: str, section: str, name: str, block: str) -> FileChange:
    before = text_of(root / path)
    return FileChange(path, before, add_entry(before, section, name, block, path))


def _md5(file: Path) -> str:
    if not file.is_file():
        return ""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
