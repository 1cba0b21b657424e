"""Run a stage in a copy of the working tree and report which files of the repository it used without declaring them.

Three witnesses, since none sees everything: an audit hook in every Python process (with the line that opened the file),
the files' access times (reads of any language and of compiled readers, where the file system keeps them), and the tree
compared before and after (writes).
"""

import ast
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import source_from_cache
from pathlib import Path
from typing import Any

from dovetail.doctor import audit_hook
from dovetail.errors import MissingFile, UnknownStage
from dovetail.repo.dvc_values import Stage
from dovetail.repo.dvc_variables import ENV_EXPERIMENT, ENV_ROOT, ENV_STAGE
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import ENV_TRACKING_URI
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding
from dovetail.values.names import unknown

# Nobody's dependency: what git, DVC, Python and MLflow keep for themselves.
_FOLDERS = frozenset({".git", ".dvc", "__pycache__", "mlruns", ".venv", "site-packages"})
_NAMES = frozenset({"dvc.yaml", "dvc.lock", ".gitignore", ".dvcignore"})
_MANY = 3  # files of one folder: above it the folder is named


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """The stage to run, by its name in dvc.yaml."""

    stage: str


@dataclass
class FileUse:
    """Paths from the root, each with the places in the code that opened it, as far as that was seen."""

    read: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    by_dvc: set[str] = field(default_factory=set)
    pythons: int = 0
    access_times: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class TraceAnswer(Answer):
    """What one run of a stage used and does not declare, and what could not be seen."""

    stage: str
    problems: tuple[Finding, ...]
    unseen: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<TraceAnswer {self.stage}: {len(self.problems)} problems>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail doctor --trace STAGE --json`."""
        return {
            "stage": self.stage,
            "problems": [problem.as_json() for problem in self.problems],
            "unseen": list(self.unseen),
        }


def trace(workspace: Workspace, request: TraceRequest) -> TraceAnswer:
    """Run the stage in a copy; the workspace stays as it is, what the stage does elsewhere is done.

    Raises:
        UnknownStage: naming the stages that there are.
        MissingFile: when a declared dependency is not there.
    """
    name = request.stage
    step = _step(workspace, name)
    for dep in step.deps:
        if not (workspace.root / dep).exists():
            raise MissingFile(
                f"{dep}, which {name} declares, is not there", f"dvc repro {name}, or: dvc pull {workspace.typed(dep)}"
            )
    with tempfile.TemporaryDirectory(dir=workspace.scratch, prefix="trace-") as folder:
        copy = Path(folder, "tree")
        copied = _copy_tree(workspace, step, copy)
        failed = _run(step, copy, Path(folder), workspace.root)
        seen = _used(copy, workspace.root, copied, Path(folder, "log"))
    seen.read = {path: where for path, where in seen.read.items() if not _is_bare_package(workspace.root / path)}
    problems = [*failed, *_undeclared(step, seen, copied)]
    return TraceAnswer(name, tuple(problems), tuple(_unseen(seen)))


def _step(workspace: Workspace, name: str) -> Stage:
    """The stage by its name as it is typed in the current folder, or as at the root: a notebook may run anywhere."""
    stages = [step for step in workspace.pipeline.stages if step.commands]
    for step in stages:
        if name in (step.name, step.address):
            return step
    raise UnknownStage(unknown("dvc.yaml", "stage", name, [step.name for step in stages]), "dvc stage list")


def _copy_tree(workspace: Workspace, step: Stage, copy: Path) -> dict[str, tuple[int, int]]:
    """Copy what git and DVC know of the tree, but the stage's own outs; gives each file's time and size."""
    workspace.git("clone", "--quiet", "--shared", "--no-checkout", str(workspace.root), str(copy))
    known = workspace.git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    outs = [out.path for other in workspace.pipeline.stages if other is not step for out in other.outs]
    own = [out.path for out in step.outs]
    copied = {}
    for path in sorted({*filter(None, known), *_files(workspace.root, outs)}):
        source, target = workspace.root / path, copy / path
        if source.is_file() and not _covers(own, path):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            about = target.stat()
            os.utime(target, ns=(0, about.st_mtime_ns))  # older than its content: then the next reading is noted
            copied[path] = (about.st_mtime_ns, about.st_size)
    for path in own:  # as DVC does
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
    (copy / step.folder).mkdir(parents=True, exist_ok=True)
    return copied


def _files(root: Path, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        folder = root / path
        files = (file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else (folder,)
        yield from (file.relative_to(root).as_posix() for file in files)


def _run(step: Stage, copy: Path, folder: Path, root: Path) -> list[Finding]:
    """Run the stage's commands as DVC would; a failure is a problem."""
    hook = folder / "hook"
    hook.mkdir()
    shutil.copyfile(str(audit_hook.__file__), hook / "sitecustomize.py")
    env = {name: value for name, value in os.environ.items() if name != ENV_EXPERIMENT} | {
        ENV_ROOT: str(copy),
        ENV_STAGE: step.name,
        ENV_TRACKING_URI: f"sqlite:///{copy}/mlflow.db",  # runs of a rehearsal belong to no store
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")])),
        audit_hook.LOG: str(folder / "log"),
        audit_hook.ROOTS: os.pathsep.join(str(tree.resolve()) for tree in (copy, root)),
    }
    for command in step.commands:
        shell = [os.environ.get("SHELL") or "/bin/sh", "-c", command]
        done = subprocess.run(shell, cwd=copy / step.folder, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            return [
                Finding(
                    "error",
                    f"stage {step.name} fails in a copy of the tree (exit code {done.returncode})",
                    said[-1] if said else "it says nothing; it may need a file that git ignores and DVC does not keep",
                    f"dvc repro -f {step.name}, to see whether it runs where it stands",
                )
            ]
    return []


def _used(copy: Path, root: Path, copied: Mapping[str, tuple[int, int]], log: Path) -> FileUse:
    seen = FileUse(access_times=_has_access_times(copy))
    if seen.access_times:
        seen.read = {path: "" for path in copied if (copy / path).is_file() and (copy / path).stat().st_atime_ns}
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        kind, path, where = line.split(audit_hook.SEPARATOR)
        relative = _relative(path, copy, root)
        if kind == "python":
            seen.pythons += 1
        elif kind == "dvc":
            seen.by_dvc.add(relative)
        elif kind == "write":
            seen.written.setdefault(relative, _relative(where, copy, root))
        elif relative in copied or (root / relative).is_file():
            seen.read[relative] = seen.read.get(relative) or _relative(where, copy, root)
    after = {path: (copy / path).stat() for path in _files(copy, ["."])}
    changed = {path for path, about in after.items() if copied.get(path) != (about.st_mtime_ns, about.st_size)}
    seen.written = {path: seen.written.get(path, "") for path in changed | (copied.keys() - after.keys())}
    return seen


def _relative(path: str, copy: Path, root: Path) -> str:
    """A path of the copy, or of the tree itself where an install leads there, from the root; of bytecode its source."""
    for tree in (copy.resolve(), root.resolve()):
        if path.startswith(f"{tree}{os.sep}"):
            path = path.removeprefix(f"{tree}{os.sep}")
            break
    return source_from_cache(path) if path.endswith(".pyc") and "__pycache__" in path else path


def _has_access_times(folder: Path) -> bool:
    """Whether reading a file shows in its access time here: not where it is mounted with `noatime`."""
    probe = folder.parent / "probe"
    probe.write_bytes(b"x")
    os.utime(probe, (0, 0))
    probe.read_bytes()
    return probe.stat().st_atime_ns > 0


def _undeclared(step: Stage, seen: FileUse, copied: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    outs = [out.path for out in step.outs]
    written = {path: where for path, where in seen.written.items() if _counts(path) and not _covers(outs, path)}
    read = {
        path: where
        for path, where in seen.read.items()
        if _counts(path) and not _covers([*step.deps, *outs], path) and (path in copied or path not in seen.written)
    }
    only_by_dvc = {path for path in seen.by_dvc if not read.get(path)}
    stage = step.name.partition("@")[0]
    for path, where in _grouped({path: where for path, where in read.items() if path not in only_by_dvc}):
        yield Finding(
            "error",
            f"stage {step.name} reads {path}{where}, which it does not declare",
            "when it changes, `dvc repro` does not notice, and the result is no longer what its inputs say",
            f"in dvc.yaml, add {path} to the {_kind(path)} of {stage}, then: dvc repro {step.name}",
        )
    for path, where in _grouped(written):
        yield Finding(
            "warning",
            f"stage {step.name} writes {path}{where}, which it does not declare",
            "DVC neither keeps nor restores it, and a skipped stage does not write it",
            f"in dvc.yaml, add {path} to the outs of {stage}, then: dvc repro {step.name}; or write it elsewhere",
        )


def _kind(path: str) -> str:
    return "params (by key)" if Path(path).name == "params.yaml" else "deps"


def _grouped(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The paths and where they were opened, many of one folder as the folder."""
    folders: dict[str, list[str]] = {}
    for path in sorted(found):
        folders.setdefault(Path(path).parent.as_posix(), []).append(path)
    for folder, paths in folders.items():
        several = len(paths) > _MANY and folder != "."
        for path in paths[:1] if several else paths:
            yield (folder if several else path), f" ({found[path]})" if found[path] else ""


def _covers(declared: Iterable[str], path: str) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in declared)


def _counts(path: str) -> bool:
    parts = Path(path).parts
    name = parts[-1]
    housekeeping = name in _NAMES or name.startswith("mlflow.db") or name.endswith(".dvc")
    return not (Path(path).is_absolute() or housekeeping or _FOLDERS & set(parts))


def _is_bare_package(file: Path) -> bool:
    """Whether this is an `__init__.py` that does nothing, so that no result depends on it."""
    if file.name != "__init__.py" or not file.is_file():
        return False
    try:
        body = ast.parse(file.read_bytes()).body
    except SyntaxError:
        return False
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def _unseen(seen: FileUse) -> Iterator[str]:
    """What nothing here could have seen."""
    if not seen.access_times:
        yield "the file system keeps no access times: reads of compiled code and of other languages were not seen"
    if not seen.pythons:
        yield "no Python ran that heeds PYTHONPATH: where in the code a file was opened was not seen"
