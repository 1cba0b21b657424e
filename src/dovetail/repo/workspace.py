"""A repository of git and DVC together: its trees, its history, and what DVC is asked through."""

import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dovetail.errors import Busy, MissingFile, UnknownReference, UserError
from dovetail.repo.dvc_files import OWN_RECORDS, model_names
from dovetail.repo.dvc_repo import DvcRepo, dvc_errors
from dovetail.repo.dvc_variables import ENV_ROOT
from dovetail.repo.git import Git
from dovetail.repo.git_values import Commit
from dovetail.repo.ledger import Ledger
from dovetail.repo.ledger_content import read_checked
from dovetail.repo.quoted_paths import typed
from dovetail.repo.tag_names import artifact_name
from dovetail.system.disk import refused
from dovetail.values.names import unknown
from dovetail.values.registered_name import registered_name

# What git alone can answer is to be answered without what asks DVC: its imports are half of a short command's time.
if TYPE_CHECKING:
    from dovetail.repo.dag import Dag
    from dovetail.repo.dvc_values import Model
    from dovetail.repo.experiment_queue import ExperimentQueue
    from dovetail.repo.pipeline import Pipeline
    from dovetail.repo.remote import Remote
    from dovetail.repo.revision import Revision
    from dovetail.repo.sources import Sources
    from dovetail.repo.storage import Storage
    from dovetail.repo.tree import Tree
    from dovetail.repo.working_tree import WorkingTree

WORKSPACE = "workspace"  # DVC's own word for the working tree where a revision is asked for


class Workspace:
    """A DVC repository.

    Attributes:
        root: The tree that holds dvc.yaml and the files.
        store_root: The real root: the same, but in a temporary experiment the repository that started it.
        git: Its history.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store_root = Path(os.environ.get(ENV_ROOT) or root)
        self._dvc = DvcRepo(root)
        self.git = Git(root)

    def close(self) -> None:
        """End what was opened."""
        self._dvc.close()
        self.git.close()

    @cached_property
    def storage(self) -> "Storage":
        """The bytes that DVC keeps."""
        from dovetail.repo.storage import Storage

        return Storage(self._dvc, self.git)

    @cached_property
    def pipeline(self) -> "Pipeline":
        """What dvc.yaml, dvc.lock and the .dvc files declare."""
        from dovetail.repo.pipeline import Pipeline

        return Pipeline(self._dvc, self.storage)

    @cached_property
    def remote(self) -> "Remote":
        """What DVC's remotes have."""
        from dovetail.repo.remote import Remote

        return Remote(self._dvc, self.git, self.storage)

    @cached_property
    def scratch(self) -> Path:
        """DVC's own temporary folder: git ignores it, and bytes of the cache can be linked there."""
        folder = self.root / ".dvc" / "tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise refused(error, ".dvc/tmp", f"ls -ld {self.typed('.dvc/tmp')}") from error
        return folder

    @cached_property
    def tree(self) -> "WorkingTree":
        """The files as they are in the working tree."""
        from dovetail.repo.working_tree import WorkingTree

        return WorkingTree(self._sources, self.root)

    def at(self, commit: Commit, experiment: str | None = None) -> "Revision":
        """The tree of a commit."""
        from dovetail.repo.revision import Revision

        if experiment is None and (head := self._head) and head.commit == commit:
            return head  # read once
        return Revision(self._sources, commit, experiment)

    @cached_property
    def _head(self) -> "Revision | None":
        from dovetail.repo.revision import Revision

        return Revision(self._sources, self.git.head, None) if self.git.head else None

    @cached_property
    def _sources(self) -> "Sources":
        from dovetail.repo.checked_out import CheckedOut
        from dovetail.repo.sources import Sources

        return Sources(
            self.git,
            self.pipeline,
            self.storage,
            CheckedOut(self.git),
            lambda: self.ledger,
            lambda: self._today,
            lambda: self._head,
        )

    @cached_property
    def _today(self) -> "Mapping[str, Model]":
        """What HEAD declares, and what the working tree declares besides: gates are those that were committed."""
        trees: tuple[Tree, ...] = (self.tree, self._head) if self._head else (self.tree,)
        found: dict[str, Model] = {}
        for tree in trees:
            with suppress(UserError):  # who asks for that tree itself is told
                found |= tree.declared.models
        return found

    def tree_of(self, rev: str) -> "Tree":
        """The tree that `rev` names, as DVC has it: `workspace`, a git revision, an experiment's name.

        Raises:
            UnknownReference: when it names none.
        """
        if rev == WORKSPACE:
            return self.tree
        if commit := self.git.head if rev == "HEAD" else self.git.commit(rev):
            return self.at(commit)
        experiments = self.git.experiments()
        if rev in experiments and (commit := self.git.commit(experiments[rev])):
            return self.at(commit, rev)
        raise self.unknown_revision(rev)

    def unknown_revision(self, rev: str) -> UnknownReference:
        """The error for a revision that git does not have."""
        known = [WORKSPACE, "HEAD", *self.git.experiments(), *self.git.names()]
        return UnknownReference(unknown("git", "revision", rev, known), "git log --oneline --all")

    @cached_property
    def ledger(self) -> Ledger:
        """The promotions in git's tags, as they were when they were first asked for."""
        return self.read_ledger()

    def read_ledger(self) -> Ledger:
        """The promotions in git's tags now, compared with what they promote."""
        return read_checked(self.git, self.bytes_at)

    def commits_with(self, md5: str, *, experiments: bool = True) -> list[Commit]:
        """The commits whose own dvc.lock or .dvc files name this digest, newest first."""
        return self.git.commits_with(md5, *OWN_RECORDS, experiments=experiments)

    def is_committed(self, md5: str) -> bool:
        """Whether a commit of a branch or tag names this digest so: mostly HEAD does, and history need not be read."""
        return self.git.head_has(md5, *OWN_RECORDS) or bool(self.commits_with(md5, experiments=False))

    def bytes_at(self, model: str, rev: str) -> str:
        """The md5 of the model that the dvc.lock of a commit records.

        Raises:
            UnknownModel, MissingFile: when the commit holds no such model.
        """
        commit = self.git.commit(rev)
        if commit is None:
            raise MissingFile(f"git has no commit {rev!r}", "git fetch --tags")
        tree = self.at(commit)
        return tree.artifact(tree.model(model)).md5

    def declares(self, model: str) -> bool:
        """Whether the root's dvc.yaml has this model, read without DVC; where it has not, DVC may know of it."""
        try:
            content = (self.root / "dvc.yaml").read_bytes()
        except OSError:
            return False
        return model in map(registered_name, model_names(content))

    def artifact_at(self, model: str, rev: str) -> str:
        """The name that tags of a commit have for a model: DVC looks for it where that commit declares it.

        A commit from before there was such an entry has the name that the working tree gives it.
        """
        commit = self.git.commit(rev)
        if commit and (declared := self._declared_in_root(model, commit)):
            return artifact_name(declared, self.git.prefix)
        trees: tuple[Tree, ...] = (self.at(commit), self.tree) if commit else (self.tree,)
        found = (tree.declared.models[model] for tree in trees if model in tree.declared.models)
        name, folder = next(((one.declared_name, one.folder) for one in found), (model, ""))
        return artifact_name(name, posixpath.join(self.git.prefix, folder).strip("/"))

    def _declared_in_root(self, model: str, commit: Commit) -> str | None:
        """The model's name in the dvc.yaml of the root, read without DVC; None where that has it not."""
        (file,) = self.git.objects([f"{commit.sha}:./dvc.yaml"])
        names = model_names(self.git.blob(file[1])) if file and file[0] == "blob" else []
        return next((name for name in names if registered_name(name) == model), None)

    def dag(self) -> "Dag":
        """The stages of the working tree, to be gone through."""
        from dovetail.repo.dag import Dag

        return Dag(self._dvc, self.git.head.sha if self.git.head else "")

    def experiment_queue(self) -> "ExperimentQueue":
        """The experiments that `dvc exp run --queue` has queued."""
        from dovetail.repo.experiment_queue import ExperimentQueue

        return ExperimentQueue(self._dvc)

    def typed(self, path: str | Path) -> str:
        """A path from the root, as it is to be typed in the current folder."""
        return typed(self.root, path)

    def relative(self, path: str) -> str:
        """`path`, as typed in the current folder or from the root, relative to the root."""
        typed = Path(os.path.normpath(Path.cwd() / path))
        inside = typed.is_relative_to(self.root) and typed.exists()
        return typed.relative_to(self.root).as_posix() if inside else Path(path).as_posix()

    @property
    def unfinished(self) -> list[Path]:
        """The folders of experiments that run, or were killed while they ran: what they made is in no commit yet."""
        runs = self.scratch / "exps"
        return sorted(mark.parent for mark in [*runs.glob("*/.dvc"), *runs.glob("standalone/*/.dvc")])

    @property
    def has_hardlink_lock(self) -> bool:
        """Whether DVC's lock is a file that a killed process leaves behind (`core.hardlink_lock`)."""
        return bool(self._dvc.opened.config["core"].get("hardlink_lock"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep DVC's other commands out.

        Raises:
            Busy: when one of them runs.
        """
        from dvc.lock import LockError

        lock = self._dvc.opened.lock
        try:
            lock.lock()
        except LockError as error:
            raise Busy(
                f"a dvc command is at work in {self.root}", "run the same command again when it has ended"
            ) from error
        try:
            yield
        finally:
            lock.unlock()


@contextmanager
def open_workspace(start: Path | None = None) -> Iterator[Workspace]:
    """The DVC repository that `start` (default: the current folder) lies in; DVC opens it when it is asked.

    Raises:
        NotARepository: when it lies in none.
        UserError: when dvc.yaml, params.yaml or a .dvc file cannot be read.
    """
    workspace = Workspace(Git.of_dvc(start).root)
    try:
        with dvc_errors():
            yield workspace
    finally:
        workspace.close()
