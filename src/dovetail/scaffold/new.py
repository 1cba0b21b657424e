"""A new project from a data file: git, DVC, the stages, and a params.yaml that says what was seen in the data."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import OutsideError, UserError, one_line
from dovetail.scaffold import repository, template
from dovetail.scaffold.inferred import InferredColumn, InferredData, infer, suffix_of
from dovetail.values import environment
from dovetail.values.environment import PINS

_OURS = "dovetail-ml"  # installed with the project, not pinned by it
_SLACK = 0.01  # rows that may be rejected beyond those without a target


@dataclass(frozen=True, slots=True)
class NewRequest:
    """Where the project goes, a folder that is not there or empty; the data file; the column to predict; a name."""

    project: Path
    data: Path
    target: str
    name: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class NewAnswer:
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
        raise UserError(f"{project} is there, and not empty", f"dovetail new {shlex.quote(str(project))}-2 …")
    if not data.is_file():
        raise UserError(f"there is no file {data}", "dovetail new PROJECT --data FILE --target COLUMN")
    name = _name(request.name or data.name.partition(".")[0])
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
    _run(project, sys.executable, "-P", "-m", "dvc", "add", "--quiet", raw)
    _run(project, "git", "add", "--all")
    done = subprocess.run(
        ["git", "commit", "--quiet", "-m", f"New project: {name}"], cwd=project, capture_output=True, check=False
    )
    return done.returncode == 0


def _name(text: str) -> str:
    """A name that YAML, DVC and MLflow take for one: `Größe 2024` is `grosse_2024`, `2024` is `data_2024`."""
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_")
    return name if name[:1].isalpha() and name not in _WORDS else f"data_{name}".rstrip("_")


def _run(project: Path, *command: str) -> None:
    try:
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    except OSError as error:
        raise OutsideError(f"{command[0]} cannot be run: {error}", "install git, or put it on the PATH") from error
    if done.returncode:
        shown = "dvc" if command[0] == sys.executable else command[0]
        typed = f"{shown} {' '.join(part for part in command[1:] if part not in ('-P', '-m', 'dvc'))}"
        raise OutsideError(f"{typed} failed: {one_line(done.stderr)}", f"{shown} --version, then the same again")


def _files(name: str, raw: str, target: str, data: InferredData) -> Iterator[tuple[str, str]]:
    """The files that are the project's own, each with its text."""
    packages = environment.current().packages.items()
    yield "params.yaml", "\n".join(_params(name, raw, target, data)) + "\n"
    yield "dvc.yaml", f"{template.pipeline()}\n{_artifact(name, target)}"
    yield PINS, "".join(f"{package}=={version}\n" for package, version in packages if package != _OURS)
    yield (
        "README.md",
        f"# {name}\n\n`dvc repro` makes the model, `mlflow ui` shows it, `dovetail promote {name}` promotes it.\n",
    )


def _params(name: str, raw: str, target: str, data: InferredData) -> Iterator[str]:
    said = _q(target)
    yield "# yaml-language-server: $schema=params.schema.json"
    yield f"# What `dovetail new` saw in {raw}, {data.rows} rows: correct it. What else there is: params.schema.json"
    yield "sources: {files: {}, outside: {}}"
    yield ""
    yield "datasets:"
    yield f"  {name}:"
    yield f"    raw: {_q(raw)}"
    yield "    schema:"
    yield "      columns:"
    for column in data.columns:
        nullable = ", nullable: true" if column.nullable and column.name != target else ""
        comment = f"  # {column.warning}" if column.warning else ""
        yield f"        {_q(column.name)}: {{dtype: {column.dtype}{nullable}}}{comment}"
    settings = [f"max_rejected: {data.missing + _SLACK if data.missing else 0.0:.3g}"]
    settings += [f"separator: {json.dumps(data.separator)}"] if data.separator else []
    settings += [f"null_values: {json.dumps(list(data.null_words))}"] if data.null_words else []
    yield f"    clean: {{engine: polars, {', '.join(settings)}}}"
    yield "    deliver: []"
    yield ""
    yield "# The same bytes on every x86-64 machine since 2013; false: this machine's full speed."
    yield "reproducible: true"
    yield "model_format: joblib"
    yield ""
    yield "models:"
    yield f"  {name}:"
    yield f"    data: {name}"
    yield f"    target: {said}"
    dropped = [_q(column.name) for column in data.columns if column.is_id and column.name != target]
    drop = f", drop: [{', '.join(dropped)}]" if dropped else ""
    yield f"    split: {{test_size: 0.2, seed: 42, stratify: {'auto' if data.classes else 'false'}{drop}}}"
    yield "    train:"
    yield f"      estimator: {data.estimator}"
    yield "      params: {random_state: 42}"
    yield "      prepare: auto"
    yield "    gates: {}  # besides those of every model: better than the baseline, data and commit known, it serves"


def _artifact(name: str, target: str) -> str:
    meta = f'{{card: models/{name}.json, gates: "${{models.{name}.gates}}", retrain: {{label: {_q(target)}}}}}'
    return f"""# What a model is, as DVC means it.
artifacts:
  {name}:
    path: models/{name}.${{model_format}}
    type: model
    desc: Predicts {json.dumps(target)[1:-1]}.
    meta: {meta}
"""


def _q(text: str) -> str:
    """A string in YAML, quoted where it would be read as something else."""
    return (
        text if re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text.lower() not in _WORDS else json.dumps(text)
    )


_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
