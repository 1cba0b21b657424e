"""The pipeline of a DVC repository: what dvc.yaml, dvc.lock and the .dvc files declare, asked of DVC."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import UserError, one_line
from dovetail.repo import dvc_yaml
from dovetail.repo.dvc_repo import DvcRepo, of_dvc
from dovetail.repo.dvc_values import Declared, Stage
from dovetail.repo.storage import Storage
from dovetail.repo.unknown_inputs import unknown_inputs
from dovetail.values.finding import Finding
from dovetail.values.lineage import StageRecord

if TYPE_CHECKING:
    from dvc.config import Config
    from dvc.repo import Repo


class Pipeline:
    """The stages, models, metrics and plots that DVC reads, in the working tree or at a revision."""

    def __init__(self, dvc: DvcRepo, storage: Storage) -> None:
        self._dvc = dvc
        self._storage = storage
        self._declared: dict[Any, Declared] = {}

    def declared(self, index_key: Any = None, rev: str | None = None) -> Declared:
        """What dvc.yaml declares in the working tree or at `rev`, asked of DVC once for each `index_key`.

        Raises:
            UserError: when it cannot be read.
        """
        if index_key not in self._declared:
            self._declared[index_key] = self._asked(rev)
        return self._declared[index_key]

    def has_asked(self, index_key: Any) -> bool:
        """Whether `declared` knows the answer."""
        return index_key in self._declared

    def take_over(self, index_key: Any) -> None:
        """Let what the working tree declares be the answer for `index_key`."""
        self._declared[index_key] = self.declared()

    def _asked(self, rev: str | None) -> Declared:
        repo = self._dvc.opened
        if rev is None:
            if (self._dvc.root / "dvc.yaml").is_dir():  # DVC takes it for no file, and goes on without
                raise UserError("dvc.yaml cannot be read: Is a directory", "git status dvc.yaml")
            with self._dvc.asked():
                declared = dvc_yaml.declared(repo)
                _ = self._files  # as long as DVC has its index: to ask for a commit's drops it
                return declared
        today = repo.config
        try:
            with repo.switch(rev):
                _configure(repo, today)
                return dvc_yaml.declared(repo)
        except Exception as error:
            if not of_dvc(error):
                raise
            # DVC, which raises anything for a file that it did not expect, names none of that commit's.
            raise UserError(
                f"DVC refuses commit {rev[:8]}: {one_line(error)}", f"git show {rev[:8]}:dvc.yaml"
            ) from error

    @cached_property
    def stages(self) -> list[Stage]:
        """Every stage and .dvc file of the working tree.

        Raises:
            UserError: when one cannot be read.
        """
        with self._dvc.asked():
            return dvc_yaml.stages(self._dvc.opened)

    def unknown_inputs(self) -> list[tuple[str, Finding]]:
        """What stages read and nobody has, each with the stage's address.

        Raises:
            UserError: when a dvc.yaml or params file cannot be read.
        """
        with self._dvc.asked():
            return list(unknown_inputs(self._dvc.opened))

    def params(self, stage: Stage) -> dict[str, Any]:
        """The values of the stage's params as they are in the params files now.

        Raises:
            UserError: when one cannot be read.
        """
        with self._dvc.asked():
            return dvc_yaml.params(self._dvc.opened, stage)

    def running(self, name: str, folder: Path) -> StageRecord | None:
        """The stage that DVC runs as `name` in `folder`: its inputs, as dvc.lock will record them."""
        with self._dvc.asked():
            return dvc_yaml.running(self._dvc.opened, name, folder, self._storage.hash)

    def lock_files(self) -> list[Path]:
        """The dvc.lock beside each dvc.yaml of the working tree that has one.

        Raises:
            UserError: when a dvc.yaml cannot be read.
        """
        folders = sorted({file.parent for file in self._files})
        return [folder / "dvc.lock" for folder in folders if (folder / "dvc.lock").is_file()]

    def dvc_files(self) -> list[Path]:
        """The .dvc files of the working tree.

        Raises:
            UserError: when a dvc.yaml cannot be read.
        """
        return sorted(file for file in self._files if file.suffix == ".dvc")

    @cached_property
    def _files(self) -> frozenset[Path]:
        """Each dvc.yaml and .dvc file of the working tree that has a stage."""
        with self._dvc.asked():
            return frozenset(Path(stage.path) for stage in self._dvc.opened.index.stages)


def _configure(repo: "Repo", today: "Config") -> None:
    """Let today's configuration stand for a commit's with which the local one, of passwords and the like, has no sense.

    `dvc remote modify --local` adds to a remote that commits from before it do not have.
    """
    from dvc.config import ConfigError

    try:
        _ = repo.config
    except ConfigError:
        repo.config = today
