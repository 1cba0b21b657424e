"""A new project from a data file: git, DVC, the stages, and a params.yaml that says what was seen in the data."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import OutsideError, UserError, one_line
from dovetail.scaffold import repository, template
from dovetail.scaffold.blocks import artifact_block, dataset_block, model_block, plain_name
from dovetail.scaffold.inferred import InferredData, infer, suffix_of
from dovetail.scaffold.inferred_column import InferredColumn
from dovetail.values import environment
from dovetail.values.answer import Answer
from dovetail.values.environment import PINS

_OURS = "dovetail-ml"  # installed with the project, not pinned by it
_ARTIFACTS = "# What a model is, as DVC means it.\nartifacts:\n"


@dataclass(frozen=True, slots=True)
class NewRequest:
    """Where the project goes, a folder that is not there or empty; the data file; the column to predict; a name."""

    project: Path
    data: Path
    target: str
    name: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class NewAnswer(Answer):
    """What was made.

    Attributes:
        project: Its folder.
        model: The name of the data set and of the model.
        committed: Whether git took a first commit: it refuses one of nobody.
    """

    project: str
    model: str
    estimator: str
    rows: int
    columns: tuple[InferredColumn, ...]
    committed: bool

    def __repr__(self) -> str:
        return f"<NewAnswer {self.project}: {self.model}, {self.rows} rows, {len(self.columns)} columns>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail new --json`."""
        return {**asdict(self), "columns": [asdict(column) for column in self.columns]}


def new(request: NewRequest) -> NewAnswer:
    """Make the project; `dvc repro` in it trains and registers a first model.

    Raises:
        UserError: when the folder is not empty, or the data are no table with that column; nothing is written then.
        OutsideError: when git or DVC cannot do their part.
    """
    project, data = request.project, request.data
    if project.exists() and (not project.is_dir() or any(project.iterdir())):
        raise UserError(f"{project} already exists and is not empty", f"dovetail new {shlex.quote(str(project))}-2 …")
    if not data.is_file():
        raise UserError(f"there is no file {data}", "dovetail new PROJECT --data FILE --target COLUMN")
    name = plain_name(request.name or data.name.partition(".")[0])
    inferred = infer(data, request.target)
    project.mkdir(parents=True, exist_ok=True)
    try:
        committed = _make(project, name, request, inferred)
    except BaseException:  # nothing half-written: the same again would find a folder that is not empty
        shutil.rmtree(project, ignore_errors=True)
        raise
    return NewAnswer(str(project), name, inferred.estimator, inferred.rows, inferred.columns, committed)


def _make(project: Path, name: str, request: NewRequest, inferred: InferredData) -> bool:
    """Write the project; whether git took a first commit."""
    data = request.data
    template.copy_to(project)
    raw = f"data/raw/{name}{suffix_of(data)}"  # its own name may hold blanks, which a command would take apart
    (project / raw).parent.mkdir(parents=True)
    shutil.copyfile(data, project / raw)
    for path, text in _files(name, raw, request.target, inferred):
        (project / path).write_text(text, encoding="utf-8")
    repository.make(project, (repository.GIT, repository.DVC))
    run(project, sys.executable, "-P", "-m", "dvc", "add", "--quiet", raw)
    run(project, "git", "add", "--all")
    done = subprocess.run(
        ["git", "commit", "--quiet", "-m", f"New project: {name}"], cwd=project, capture_output=True, check=False
    )
    return done.returncode == 0


def run(project: Path, *command: str) -> None:
    """Run a command of git or DVC in the project.

    Raises:
        OutsideError: when it fails.
    """
    try:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    except OSError as error:
        raise OutsideError(f"{command[0]} cannot be run: {error}", "install git, or put it on the PATH") from error
    if done.returncode:
        shown = "dvc" if command[0] == sys.executable else command[0]
        typed = f"{shown} {' '.join(part for part in command[1:] if part not in ('-P', '-m', 'dvc'))}"
        raise OutsideError(
            f"{typed} failed: {one_line(done.stderr)}", f"{shown} --version, then run the same command again"
        )


def _files(name: str, raw: str, target: str, data: InferredData) -> Iterator[tuple[str, str]]:
    """The files that are the project's own, each with its text."""
    packages = environment.current().packages.items()
    yield "params.yaml", "\n".join(_params(name, raw, target, data)) + "\n"
    yield "dvc.yaml", f"{template.pipeline()}\n{_ARTIFACTS}{_block(name, artifact_block(name, target))}"
    yield PINS, "".join(f"{package}=={version}\n" for package, version in packages if package != _OURS)
    yield (
        "README.md",
        f"# {name}\n\n`dvc repro` makes the model, `dovetail ui` shows it, `dovetail promote {name}` promotes it.\n",
    )


def _params(name: str, raw: str, target: str, data: InferredData) -> Iterator[str]:
    yield "# yaml-language-server: $schema=params.schema.json"
    yield f"# What `dovetail new` saw in {raw}, {data.rows} rows: correct it. What else there is: params.schema.json"
    yield "sources: {files: {}, outside: {}}"
    yield ""
    yield "datasets:"
    yield _block(name, dataset_block(raw, target, data))
    yield "# The same bytes on every x86-64 machine since 2013; false: this machine's full speed."
    yield "reproducible: true"
    yield "model_format: joblib"
    yield ""
    yield "models:"
    yield _block(name, model_block(name, target, data)).rstrip()


def _block(name: str, lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in (f"  {name}:", *(f"    {line}" for line in lines)))
