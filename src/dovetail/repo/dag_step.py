"""A stage of a plan, and what can be done with it."""

import json
import os
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.repo.dvc_files import SCHEMA, parse_lock
from dovetail.values.lineage import StageRecord

if TYPE_CHECKING:
    from dvc.stage import Stage


class StepAction(Enum):
    """What is to be done with a stage whose inputs are there."""

    UNCHANGED = "unchanged"
    RESTORE = "restore"  # DVC's run-cache has it
    HERE = "here"  # it must not run elsewhere
    AWAY = "away"


class Step:
    """A stage of the plan.

    Attributes:
        address: DVC's address of it, as typed at the root.
        name: Its name in its dvc.yaml; None of a .dvc file.
        place: Its number in the plan.
        upstream: The addresses of the steps that it waits for.
        resources: What its `meta: {resources: …}` asks for, as it is written.
    """

    def __init__(self, stage: "Stage", upstream: Iterable[str], place: int, *, force: bool) -> None:
        self.stage = stage
        self.place = place
        self.force = force
        self.address = address_of(stage)
        self.name = name_of(stage)
        self.upstream = tuple(upstream)
        self.resources: Any = self.meta.get("resources") or {}

    @property
    def ignores(self) -> set[Path]:
        """The .gitignore files in which DVC names its outputs."""
        return {Path(out.fspath).parent / ".gitignore" for out in self.stage.outs}

    @property
    def may_run_elsewhere(self) -> bool:
        """Whether the step is what its inputs make of it, and nothing else: what DVC's run-cache asks for, too."""
        stage = self.stage
        pure = self.name and stage.cmd and stage.deps and stage.outs and not (stage.frozen or stage.always_changed)
        local = all(dep.protocol == "local" and dep.def_path for dep in stage.deps)
        kept = all(
            out.protocol == "local" and out.is_in_repo and not out.persist and
            (out.use_cache or out.is_metric or out.is_plot)
            for out in stage.outs
        )  # fmt: skip
        return bool(pure and local and kept and self.meta.get("workers") is not False)

    def record(self, entry: Mapping[str, Any]) -> StageRecord:
        """What `entry` in its dvc.lock says of it."""
        root = Path(self.stage.repo.root_dir)
        folders = (Path(self.stage.path).parent.relative_to(root), Path(os.path.relpath(self.stage.wdir, root)))
        folder, wdir = (one.as_posix().removeprefix(".") for one in folders)
        lock = json.dumps({"schema": SCHEMA, "stages": {self.name: entry}}, default=str)
        return parse_lock(lock, folder, {self.address: wdir})[self.address]

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the user wrote under the stage's `meta`."""
        return self.stage.meta if isinstance(self.stage.meta, dict) else {}


def address_of(stage: "Stage") -> str:
    """What DVC calls it at the root: its own `addressing` is what it is called in the current folder."""
    path = Path(stage.path).relative_to(stage.repo.root_dir).as_posix()
    name = name_of(stage)
    return path if name is None else name if path == "dvc.yaml" else f"{path}:{name}"


def name_of(stage: "Stage") -> str | None:
    """Its name in a dvc.yaml; None of a .dvc file."""
    name: str | None = getattr(stage, "name", None)
    return name
