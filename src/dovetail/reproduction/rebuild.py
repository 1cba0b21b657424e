"""Run every stage upstream of a model again, in a clean worktree and without a cache, and see what comes out."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dovetail.errors import DataUnavailable, DovetailError, MissingFile
from dovetail.repo.dvc_values import Recipe
from dovetail.repo.tree import Snapshot
from dovetail.repo.trees import PINS, Revision
from dovetail.repo.workspace import Workspace, open_workspace
from dovetail.repo.worktree import Worktree, clean_worktree
from dovetail.reproduction import fresh_environment, verdict
from dovetail.reproduction.verdict import Cause, Output
from dovetail.values import environment
from dovetail.values.environment import Environment
from dovetail.values.lineage import FileRef, Lineage, StageRecord, flatten

_LINES = 20  # of a failed stage's output


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be rebuilt; `packages` is what it was made with, as far as that is recorded."""

    tree: Revision
    model: str
    lineage: Lineage
    packages: Environment | None
    fresh_env: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """Something without which a version cannot be rebuilt."""

    what: str
    why: str
    next: str


class Impossible(Exception):
    """A version cannot be rebuilt.

    Attributes:
        output: The last lines of the stage that failed.
        packages: What that stage ran with; None when nothing was run.
    """

    def __init__(self, missing: Sequence[Missing], output: str = "", packages: Environment | None = None) -> None:
        super().__init__("; ".join(f"{m.what}: {m.why}" for m in missing))
        self.missing = tuple(missing)
        self.output = output
        self.packages = packages


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What came out of it.

    Attributes:
        first: The first output that is another; in a folder, the first file.
        inputs: What the stages read that was not what dvc.lock records.
        metrics: Those that changed; None where the recorded ones are not to be had.
        packages: What it was rebuilt with.
        seconds: How long each stage took.
        frozen: The stages that DVC is told not to run: their recorded outputs were taken.
    """

    verdict: str
    outputs: tuple[Output, ...]
    first: Output | None
    cause: Cause | None
    inputs: tuple[Mapping[str, Any], ...]
    metrics: Sequence[Mapping[str, Any]] | None
    packages: Environment
    seconds: Mapping[str, float]
    frozen: tuple[str, ...]


def rebuild(workspace: Workspace, wanted: Wanted, tell: Callable[[str], None]) -> Rebuilt:
    """Rebuild and compare. Nothing of the user's is written to; stages must not reach outside their tree by themselves.

    Raises:
        Impossible: naming all that is missing, or the stage that failed.
        DataUnavailable: when bytes are not in the cache and the remote does not answer.
        BuildFailed: when no environment can be built from the lock file.
    """
    with (
        clean_worktree(workspace, wanted.tree.commit) as place,
        open_workspace(place.root) as copy,
        workspace.keeping_in(copy),
    ):
        return _Rebuild(workspace, wanted, place, copy, tell).run()


@dataclass(frozen=True)
class _Rebuild:
    """One rebuild in one worktree; `copy` is that worktree as DVC sees it."""

    workspace: Workspace
    wanted: Wanted
    place: Worktree
    copy: Workspace
    tell: Callable[[str], None]

    @cached_property
    def recipes(self) -> Mapping[str, Recipe]:
        return self.copy.recipes()

    @cached_property
    def frozen(self) -> tuple[str, ...]:
        return tuple(
            s.name for s in self.wanted.lineage.stages if s.name in self.recipes and self.recipes[s.name].frozen
        )

    @cached_property
    def stages(self) -> tuple[StageRecord, ...]:
        return tuple(stage for stage in self.wanted.lineage.stages if stage.name not in self.frozen)

    def run(self) -> Rebuilt:
        self._refuse_writing_outside()
        self._lay_sources()
        inputs = {stage.name: tuple(self._changed_inputs(stage)) for stage in self.stages}
        _, packages = self.environment
        for stage in self.stages:
            _remove(self.copy, stage)  # git may keep some of what it makes
        seconds = {}
        for number, stage in enumerate(self.stages, 1):
            self.tell(f"running {stage.name}, {number} of {len(self.stages)}")
            seconds[stage.name] = self._run(stage)
        outputs = tuple(
            Output(stage.name, out.path, out.md5, _md5(self.copy, out.path))
            for stage in self.stages
            for out in stage.outs
        )
        first = next((output for output in outputs if not output.identical), None)
        # To read a commit's metrics takes a quarter of a second; those in the same bytes are the same.
        expected, actual = map(self._metrics, (self.wanted.tree, self.copy.tree)) if first else ({}, {})
        return Rebuilt(
            verdict=verdict.verdict(outputs, expected, actual),
            outputs=outputs,
            first=self._within(first) if first else None,
            cause=self._cause(first, outputs, inputs[first.stage]) if first else None,
            inputs=tuple(found for changed in inputs.values() for found in changed),
            metrics=None if expected is None or actual is None else verdict.changed_metrics(expected, actual),
            packages=packages,
            seconds=seconds,
            frozen=self.frozen,
        )

    def _refuse_writing_outside(self) -> None:
        outside = [(stage, out) for stage in self.stages for out in stage.outs if Path(out.path).is_absolute()]
        if outside:
            why = "its stage would overwrite it, it lies outside the repository"
            raise Impossible([Missing(out.path, why, f"dvc freeze {stage.name}") for stage, out in outside])

    def _lay_sources(self) -> None:
        """Bring what no stage makes: git has laid out its part, the rest comes from the cache or the remote."""
        needed = list(self._from_dvc())
        if missing := self.workspace.unobtainable(needed):
            why = "in neither the commit nor the cache nor the remote"
            raise Impossible(
                [Missing(f"{ref.path} (md5 {ref.md5})", why, "dvc push, in the clone that made it") for ref in missing]
            )
        self.tell(f"laying out {len(needed)} files and folders of data")
        for ref in needed:
            try:
                self.workspace.lay(ref, self.copy.root / ref.path)
            except DataUnavailable as error:
                raise Impossible([Missing(ref.path, error.message, error.next_command)]) from error

    @cached_property
    def _sources(self) -> tuple[FileRef, ...]:
        deps = {dep.path: dep for stage in self.stages for dep in stage.deps}
        return tuple(dep for dep in deps.values() if not any(stage.makes(dep.path) for stage in self.stages))

    def _from_dvc(self) -> Iterator[FileRef]:
        added = [entry.ref for entry in self.wanted.tree.tracked.values()]
        for dep in filter(_is_inside, self._sources):
            if self.wanted.tree.keeps(dep.path):  # a folder that git keeps may hold files that DVC keeps
                yield from (ref for ref in added if ref.path.startswith(f"{dep.path}/"))
            else:
                yield dep

    def _changed_inputs(self, stage: StageRecord) -> Iterator[dict[str, Any]]:
        """What the stage is about to read that is not what dvc.lock records. What was laid by its digest is."""
        for dep in (dep for dep in stage.deps if dep in self._sources):
            if not _is_inside(dep) or self.wanted.tree.keeps(dep.path):
                tree = self.copy if (self.copy.root / dep.path).exists() else self.workspace
                if (actual := _md5(tree, dep.path)) != dep.md5:
                    yield {"stage": stage.name, "path": dep.path, "expected": dep.md5, "actual": actual}
        if recipe := self.recipes.get(stage.name):
            recorded, here = dict(flatten(stage.params)), dict(flatten(recipe.params))
            for key in (key for key in recorded if here.get(key, recorded[key]) != recorded[key]):
                yield {"stage": stage.name, "path": key, "expected": recorded[key], "actual": here[key]}

    @cached_property
    def environment(self) -> tuple[Path, Environment]:
        """The `python` that the stages run with, and its packages."""
        if not self.wanted.fresh_env:
            return Path(sys.executable), environment.current()
        self.tell(f"building an environment from {PINS}")
        return fresh_environment.build(self.place.folder / "environment", self.copy.root / PINS, self.place.log)

    def _run(self, stage: StageRecord) -> float:
        """Run the stage as it is recorded; returns its seconds."""
        recipe = self.recipes.get(stage.name)
        same = recipe and "\n".join(recipe.commands) == stage.cmd
        commands = recipe.commands if recipe and same else tuple(stage.cmd.splitlines())
        python, packages = self.environment
        start = time.monotonic()
        code = self.place.run(stage.name, commands, recipe.folder if recipe else "", python)
        if code:
            lines = self.place.log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
            why = f"exit code {code} in a clean worktree: {last}"
            following = f"declare what it needs under deps of {stage.name} in dvc.yaml, or mend the environment"
            raise Impossible([Missing(f"stage {stage.name}", why, following)], "\n".join(lines[-_LINES:]), packages)
        return time.monotonic() - start

    def _metrics(self, tree: Snapshot) -> dict[str, float] | None:
        made = replace(self.wanted.lineage, evidence=())  # what no stage makes is the same
        try:
            return tree.metrics(tree.model(self.wanted.model), made)
        except DovetailError:
            return None

    def _within(self, output: Output) -> Output:
        """The first file that is another in a folder that is."""
        expected = {f.path: f.md5 for f in self.workspace.known_files(FileRef(output.path, output.expected or ""))}
        if not expected or output.actual is None or not output.actual.endswith(".dir"):
            return output
        actual = {file.path: file.md5 for file in self.copy.listing(output.path)}
        name = min(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
        return replace(output, path=name, expected=expected.get(name), actual=actual.get(name))

    def _cause(self, first: Output, outputs: Sequence[Output], inputs: Sequence[Mapping[str, Any]]) -> Cause:
        recorded, (_, packages) = self.wanted.packages, self.environment
        return verdict.cause(
            first.stage,
            inputs=inputs,
            repeats=bool(inputs) or self._repeats(first.stage, outputs),
            packages=None if recorded is None else environment.changes(recorded, packages),
            fresh_env=self.wanted.fresh_env,
        )

    def _repeats(self, name: str, outputs: Sequence[Output]) -> bool:
        """Whether the stage, run once more, makes the same bytes again."""
        self.tell(f"running {name} once more: does it make the same bytes twice?")
        stage = next(stage for stage in self.stages if stage.name == name)
        _remove(self.copy, stage)
        try:
            self._run(stage)
        except Impossible:
            return False
        return all(_md5(self.copy, o.path) == o.actual for o in outputs if o.stage == name)


def _is_inside(ref: FileRef) -> bool:
    """Whether the path lies in the repository."""
    return not Path(ref.path).is_absolute() and not ref.path.startswith("../")


def _md5(tree: Workspace, path: str) -> str | None:
    try:
        return tree.hash(path).md5
    except MissingFile:
        return None


def _remove(tree: Workspace, stage: StageRecord) -> None:
    for out in stage.outs:
        file = tree.root / out.path
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
