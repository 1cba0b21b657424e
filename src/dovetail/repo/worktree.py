"""A clean copy of a commit in a git repository of its own, apart from the user's tree and, if asked, from all else."""

import hashlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic, sleep
from types import MappingProxyType
from urllib.parse import unquote, urlparse

from filelock import FileLock, Timeout

from dovetail.errors import OutsideError
from dovetail.repo import git_command
from dovetail.repo.dvc_variables import ENV_BASELINE, ENV_EXPERIMENT, ENV_ROOT, ENV_STAGE
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.system.processes import deferred, run

_TREE = "tree"
_REMOVAL_SECONDS = 2
# Folders below DVC's own temporary one, which git and DVC ignore.
REPRODUCE_FOLDER, RETRAIN_FOLDER = "reproduce", "retrain"
# They would lead a stage back to the user's repository, run, store or account.
_LEFT_OUT = frozenset(
    {
        *git_command.ELSEWHERE, ENV_ROOT, ENV_STAGE, ENV_EXPERIMENT, ENV_BASELINE, "DVC_STUDIO_TOKEN", "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_ID", "MLFLOW_REGISTRY_URI", "VIRTUAL_ENV", "PYTHONHOME",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Worktree:
    """A copy of a commit and what runs in it.

    Attributes:
        folder: Holds all of it; gone when it is done with.
        root: Where dvc.yaml lies.
        original: The root of the user's repository, whose code must not be run in place of the copy's.
        real_root: What DVC_ROOT says: whose MLflow store and receipts count.
        store: MLflow's tracking URI.
    """

    folder: Path
    root: Path
    original: Path
    real_root: Path
    store: str

    @property
    def repository(self) -> Path:
        """The copy's git repository, in which `root` may be a folder."""
        return self.folder / _TREE

    @property
    def log(self) -> Path:
        """What is printed where no stage is run."""
        return self.folder / "output.log"

    def log_of(self, stage: str) -> Path:
        """What a stage printed."""
        return self.folder / f"output-{hashlib.sha256(stage.encode()).hexdigest()[:16]}.log"

    def run(  # noqa: PLR0913, PLR0917
        self,
        stage: str,
        commands: Sequence[str],
        folder: str,
        python: Path,
        settings: Mapping[str, str | None] = MappingProxyType({}),
        stop: Event | None = None,
    ) -> int:
        """Run a stage's commands as DVC does, with the `python` given; returns the exit code of the last one run.

        `settings` are variables of the environment besides; None: not set. Once `stop` is set, it is ended.

        Raises:
            Stopped: it was.
        """
        asked = {**self._env(stage, python), **settings}
        env = {name: value for name, value in asked.items() if value is not None}
        for command in commands:
            if code := run(_shell(command), folder=self.root / folder, env=env, output=self.log_of(stage), stop=stop):
                return code
        return 0

    def commit(self, branch: str, message: str, files: Sequence[str], who: Mapping[str, str]) -> str:
        """Commit what changed of the files that git keeps, and `files`, on a new branch; returns the commit.

        Raises:
            OutsideError: when git does not take it.
        """
        _git(self.root, "switch", "--quiet", "--create", branch)
        _git(self.root, "add", "--update", ":/")
        _git(self.root, "add", "--force", "--", *files)
        _git(self.root, "-c", f"core.hooksPath={os.devnull}", "commit", "--quiet", "--message", message, **who)
        return _git(self.root, "rev-parse", "HEAD").strip()

    def _env(self, stage: str, python: Path) -> dict[str, str]:
        inherited = copy_environment(self.root, self.original)
        return {
            **inherited,
            "PATH": os.pathsep.join([str(python.parent), inherited.get("PATH", os.defpath)]),
            ENV_ROOT: str(self.real_root),
            ENV_STAGE: stage,
            "MLFLOW_TRACKING_URI": self.store,
        }


def copy_environment(root: Path, original: Path) -> dict[str, str]:
    """The environment of what runs in the copy `root` of the tree `original`: the copy's code, not the original's."""
    kept = {key: value for key, value in os.environ.items() if key not in _LEFT_OUT}
    outside = [p for p in kept.pop("PYTHONPATH", "").split(os.pathsep) if p and not _is_below(p, original)]
    code = [str(root / path) for path in own_code(original, sys.path, Path(sys.prefix))]
    return {**kept, **({"PYTHONPATH": os.pathsep.join([*code, *outside])} if code or outside else {})}


@contextmanager
def clean_worktree(workspace: Workspace, commit: Commit) -> Iterator[Worktree]:
    """Check `commit` out in a folder of its own, with a DVC cache and an MLflow store of its own.

    The folder is removed whatever happens; what an earlier one left behind that was killed is removed too. Nothing is
    written to the user's `.git`: a registered `git worktree` would stay in it after a kill.

    Raises:
        OutsideError: when git cannot check the files out.
    """
    with _checked_out(workspace, commit, workspace.scratch / REPRODUCE_FOLDER) as (folder, root):
        _use_own_cache(root, folder)
        yield Worktree(folder, root, workspace.root, root, f"sqlite:///{folder / 'mlflow.db'}")


@contextmanager
def sharing_worktree(workspace: Workspace, commit: Commit, store: str) -> Iterator[Worktree]:
    """The same, but what is made there goes to the user's DVC cache and to the MLflow store at `store`.

    Raises:
        OutsideError: when git cannot check the files out.
    """
    with _checked_out(workspace, commit, workspace.scratch / RETRAIN_FOLDER) as (folder, root):
        workspace.storage.share_cache(root, folder / "site")
        yield Worktree(folder, root, workspace.root, workspace.store_root, store)


@contextmanager
def _checked_out(workspace: Workspace, commit: Commit, place: Path) -> Iterator[tuple[Path, Path]]:
    """A folder below `place`, and the root of the DVC repository in it."""
    with held_folder(place) as folder:
        top = Path(workspace.git("rev-parse", "--show-toplevel"))
        _check_out(workspace, commit, folder / _TREE)
        yield folder, folder / _TREE / workspace.root.resolve().relative_to(top.resolve())


@contextmanager
def held_folder(place: Path) -> Iterator[Path]:
    """A new folder below `place`, removed whatever happens; so is what a killed process left there.

    Raises:
        OSError: when it cannot be made.
    """
    place.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place)
    folder = place / secrets.token_hex(4)
    with FileLock(_lock(folder)):  # taken before the folder is there, so that nobody takes it for a leftover
        try:
            folder.mkdir()
            yield folder
        finally:
            with deferred():
                _remove(folder)
                _lock(folder).unlink(missing_ok=True)


def own_code(root: Path, places: Sequence[str], environment: Path) -> list[str]:
    """Where this process finds code of the tree `root`, relative to it: by PYTHONPATH or an editable installation.

    In a copy of the tree the copy's code has to come first: an editable installation names the original by its path.
    """
    found = [p for p in places if _is_below(p, root) and not _is_below(p, environment)]
    for record in (file for place in places for file in Path(place).glob("*.dist-info/direct_url.json")):
        about = json.loads(record.read_text(encoding="utf-8"))
        source = unquote(urlparse(about.get("url", "")).path)
        if about.get("dir_info", {}).get("editable") and _is_below(source, root):
            found.append(str(Path(source, "src")) if Path(source, "src").is_dir() else source)
    return list(dict.fromkeys(Path(path).relative_to(root).as_posix() for path in found))


def _is_below(path: str, folder: Path) -> bool:
    return Path(path).is_absolute() and Path(path).is_relative_to(folder)


def _check_out(workspace: Workspace, commit: Commit, tree: Path) -> None:
    """A repository of its own that reads the user's objects where they are, with `commit` checked out."""
    _check_out_from(workspace.root, commit.sha, tree)
    _check_out_submodules(Path(workspace.git("rev-parse", "--show-toplevel")), tree)


def _check_out_from(original: Path, sha: str, tree: Path) -> None:
    objects = original / _git(original, "rev-parse", "--git-path", "objects").strip()
    _git(tree.parent, "init", "--quiet", "--template=", str(tree))
    (tree / ".git/objects/info").mkdir(parents=True, exist_ok=True)
    (tree / ".git/objects/info/alternates").write_text(f"{objects.resolve()}\n", encoding="utf-8")
    _git(tree, "-c", f"core.hooksPath={os.devnull}", "-c", "advice.detachedHead=false", "checkout", "--quiet",
         "--detach", sha)  # fmt: skip


def _check_out_submodules(original: Path, tree: Path) -> None:
    """Check out the submodules of a tree, at the commits that it names; those that nobody fetched stay empty."""
    for entry in _git(tree, "ls-files", "--stage", "-z").split("\0"):
        about, _, path = entry.partition("\t")
        if not about.startswith("160000 ") or not (original / path / ".git").exists():
            continue
        sha = about.split()[1]
        if not _git(original / path, "rev-list", "--no-walk", "--ignore-missing", sha):
            what = f"the submodule {path} has no commit {sha[:8]} here"
            raise OutsideError(what, f"git -C {shlex.quote(path)} fetch --all, then run the same command again")
        _check_out_from(original / path, sha, tree / path)
        _check_out_submodules(original / path, tree / path)


def _git(folder: Path, *args: str, **variables: str) -> str:
    env = {key: value for key, value in os.environ.items() if key not in _LEFT_OUT} | variables
    done = subprocess.run(["git", *args], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split())
        next_command = f"{git_command.look(said)}, then run the same command again"
        raise OutsideError(f"git {args[0]} failed in the clean copy {folder}: {said}", next_command)
    return done.stdout


def _use_own_cache(root: Path, folder: Path) -> None:
    """Keep DVC's cache and state of the copy outside its tree."""
    settings = f"[cache]\n    dir = {folder / 'cache'}\n[core]\n    site_cache_dir = {folder / 'site'}\n"
    (root / ".dvc" / "config.local").write_text(settings, encoding="utf-8")


def remove_leftovers(place: Path) -> None:
    """Remove what `held_folder` made below `place` for processes that were killed."""
    for folder in (entry for entry in place.iterdir() if entry.is_dir()):
        try:
            with FileLock(_lock(folder), timeout=0):  # the lock of a killed process is free
                _remove(folder)
                _lock(folder).unlink(missing_ok=True)
        except Timeout:
            continue


def _remove(folder: Path) -> None:
    """Remove it, although what was killed in it may still be about to write there."""
    end = monotonic() + _REMOVAL_SECONDS
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and monotonic() < end:
        sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _shell(command: str) -> list[str]:
    """The command line that DVC makes of it: the user's shell, without its start-up files."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    options = {"zsh": ["--no-rcs"], "bash": ["--noprofile", "--norc"], "fish": ["--no-config"]}
    return [shell, *options.get(Path(shell).name, []), "-c", command]
