"""Run every stage upstream of a model again, in a clean worktree without a cache, and compare what it makes."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Event

from dovetail.errors import DataUnavailable, DovetailError, MissingFile
from dovetail.repo.dvc_values import Stage
from dovetail.repo.revision import Revision
from dovetail.repo.tree import Tree
from dovetail.repo.workspace import Workspace, open_workspace
from dovetail.repo.worktree import Worktree, clean_worktree
from dovetail.reproduction import verdict
from dovetail.reproduction.by_value import Sameness
from dovetail.reproduction.explain import Question, Settings, by_settings
from dovetail.reproduction.fresh_environment import build_environment
from dovetail.reproduction.impossible import RebuildImpossible, made_by_nothing, missing, not_run_by_dvc_3
from dovetail.reproduction.recorded import RecordedModel
from dovetail.reproduction.run_stages import run_stages
from dovetail.reproduction.verdict import Cause, ChangedInput, Output, RebuildResult
from dovetail.values import computing, environment, stage_settings
from dovetail.values.environment import PINS, Environment
from dovetail.values.lineage import FileRef, Lineage, StageRecord, flatten

_LINES = 20  # of a failed stage's output


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """What to rebuild, so many stages at a time; `packages` is what it was made with, as far as that is recorded."""

    tree: Revision
    model: str
    lineage: Lineage
    packages: Environment | None
    fresh_env: bool
    value: str | None = None  # the recorded digest of what the model is
    workers: int = 1


def rebuild(workspace: Workspace, request: RebuildRequest, tell: Callable[[str], None]) -> RebuildResult:
    """Rebuild and compare. Nothing of the user's is written to, as long as no stage writes outside its tree by itself.

    Raises:
        RebuildImpossible: naming all that is missing, or the stage that failed.
        DataUnavailable: when bytes are not in the cache and the remote does not answer.
        BuildFailed: when no environment can be built from the lock file.
    """
    if request.tree.of_dvc_1:
        raise RebuildImpossible([not_run_by_dvc_3(request.tree.commit.sha, request.lineage, *request.tree.of_dvc_1)])
    with (
        clean_worktree(workspace, request.tree.commit) as place,
        open_workspace(place.root) as copy,
        workspace.storage.fetching_into(copy.storage),
    ):
        return _Rebuild(workspace, request, place, copy, tell).run()


@dataclass(frozen=True)
class _Rebuild:
    """One rebuild in one worktree; `copy` is that worktree as DVC sees it."""

    workspace: Workspace
    request: RebuildRequest
    place: Worktree
    copy: Workspace
    tell: Callable[[str], None]

    @cached_property
    def declared(self) -> Mapping[str, Stage]:
        return {stage.address: stage for stage in self.copy.pipeline.stages}

    @cached_property
    def frozen(self) -> tuple[str, ...]:
        return tuple(
            s.name for s in self.request.lineage.stages if s.name in self.declared and self.declared[s.name].frozen
        )

    @cached_property
    def stages(self) -> tuple[StageRecord, ...]:
        return tuple(stage for stage in self.request.lineage.stages if stage.name not in self.frozen)

    def run(self) -> RebuildResult:
        if frozen := made_by_nothing(self.request.lineage, self.frozen):
            raise RebuildImpossible([frozen])
        self._refuse_writing_outside()
        self._restore_sources()
        inputs = {stage.name: tuple(self._changed_inputs(stage)) for stage in self.stages}
        _, packages = self.environment
        for stage in self.stages:
            _remove(self.copy, stage)  # git may keep some of what it makes
        seconds = run_stages(self.stages, self._run, self.request.workers, self.tell)
        outputs = tuple(
            Output(stage.name, out.path, out.md5, self._digest(out.path)) for stage in self.stages for out in stage.outs
        )
        first = next((output for output in outputs if not output.identical), None)
        # To read a commit's metrics takes a quarter of a second; those in the same bytes are the same.
        expected, actual = map(self._metrics, (self.request.tree, self.copy.tree)) if first else ({}, {})
        recorded, root = self._recorded, self.copy.root
        model = recorded.compare_model(root, outputs) if first else Sameness(value=True)
        outputs = tuple(recorded.with_value(output, root, model) for output in outputs)
        return RebuildResult(
            verdict=verdict.verdict(outputs, model, expected, actual),
            outputs=outputs,
            first=self._within(first) if first else None,
            cause=self._cause(first, outputs, inputs[first.stage]) if first else None,
            inputs=tuple(found for changed in inputs.values() for found in changed),
            metrics=None if expected is None or actual is None else verdict.changed_metrics(expected, actual),
            packages=packages,
            seconds=seconds,
            frozen=self.frozen,
            settings=self.settings,
            unavailable=self._unavailable(first.stage) if first else "",
        )

    def _refuse_writing_outside(self) -> None:
        outside = [(stage, out) for stage in self.stages for out in stage.outs if Path(out.path).is_absolute()]
        if outside:
            why = "its stage would overwrite it, it is outside the repository"
            raise RebuildImpossible([missing(out.path, why, f"dvc freeze {stage.name}") for stage, out in outside])

    def _restore_sources(self) -> None:
        """Restore what no stage makes: git has checked out its part, the rest comes from the cache or the remote."""
        needed = list(self._from_dvc())
        if unavailable := self.workspace.remote.missing_everywhere(needed):
            why, next_command = (
                "in neither the commit nor the cache nor the remote",
                "dvc push, in the clone that made it",
            )
            raise RebuildImpossible([missing(f"{ref.path} (md5 {ref.md5})", why, next_command) for ref in unavailable])
        self.tell(f"restoring {len(needed)} files and folders of data")
        for ref in needed:
            try:
                self.workspace.storage.write_to(ref, self.copy.root / ref.path)
            except DataUnavailable as error:
                raise RebuildImpossible([missing(ref.path, error.message, error.next_command)]) from error

    @cached_property
    def _sources(self) -> tuple[FileRef, ...]:
        deps = {dep.path: dep for stage in self.stages for dep in stage.deps}
        return tuple(dep for dep in deps.values() if not any(stage.makes(dep.path) for stage in self.stages))

    def _from_dvc(self) -> Iterator[FileRef]:
        added = [entry.ref for entry in self.request.tree.tracked.values()]
        for dep in filter(_is_inside, self._sources):
            if self.request.tree.keeps(dep.path):  # a folder that git keeps may hold files that DVC keeps
                yield from (ref for ref in added if ref.path.startswith(f"{dep.path}/"))
            else:
                yield dep

    def _changed_inputs(self, stage: StageRecord) -> Iterator[ChangedInput]:
        """What the stage is about to read that differs from what dvc.lock records; restored data does not."""
        for dep in (dep for dep in stage.deps if dep in self._sources):
            if not _is_inside(dep) or self.request.tree.keeps(dep.path):
                tree = self.copy if (self.copy.root / dep.path).exists() else self.workspace
                if (actual := _md5(tree, dep)) != dep.md5:
                    yield ChangedInput(stage.name, dep.path, dep.md5, actual)
        if declared := self.declared.get(stage.name):
            recorded, here = dict(flatten(stage.params)), dict(flatten(self.copy.pipeline.params(declared)))
            for key in (key for key in recorded if here.get(key, recorded[key]) != recorded[key]):
                yield ChangedInput(stage.name, key, recorded[key], here[key])

    def _digest(self, out: str) -> str | None:
        """The digest of an output that was rebuilt, as the DVC that recorded it gives it."""
        refs = (ref for stage in self.stages for ref in stage.outs if ref.path == out)
        return _md5(self.copy, next(refs, FileRef(out, "")))

    @cached_property
    def environment(self) -> tuple[Path, Environment]:
        """The `python` that the stages run with, and its packages."""
        if not self.request.fresh_env:
            return Path(sys.executable), environment.current()
        self.tell(f"building an environment from {PINS}")
        return build_environment(self.place.folder / "environment", self.copy.root / PINS, self.place.log)

    @cached_property
    def settings(self) -> Settings:
        """The variables that let the stages compute as it was recorded, where this machine is another one."""
        packages = self.request.packages
        return computing.settings(packages.computing if packages else {}, computing.of_machine())

    def _run(self, stage: StageRecord, stop: Event | None = None, settings: Settings | None = None) -> float:
        """Run the stage as it is recorded; returns its seconds."""
        declared = self.declared.get(stage.name)
        same = declared and "\n".join(declared.commands) == stage.cmd
        commands = declared.commands if declared and same else tuple(stage.cmd.splitlines())
        python, packages = self.environment
        start = time.monotonic()
        code = self.place.run(
            stage.name,
            commands,
            declared.folder if declared else "",
            python,
            self.settings if settings is None else settings,
            stop,
        )
        if code:
            lines = self.place.log_of(stage.name).read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
            why = f"exit code {code} in a clean worktree: {last}"
            next_command = f"declare what it needs under deps of {stage.name} in dvc.yaml, or repair the environment"
            raise RebuildImpossible(
                [missing(f"stage {stage.name}", why, next_command)], "\n".join(lines[-_LINES:]), packages
            )
        return time.monotonic() - start

    @property
    def _recorded(self) -> RecordedModel:
        wanted = self.request
        return RecordedModel(wanted.tree, wanted.model, wanted.lineage, wanted.value, self.place.folder / "recorded")

    def _metrics(self, tree: Tree) -> dict[str, float] | None:
        made = replace(self.request.lineage, evidence=())  # what no stage makes is the same
        try:
            return tree.metrics(self.request.tree.model(self.request.model), made)
        except DovetailError:
            return None

    def _within(self, output: Output) -> Output:
        """The first file that differs in an output that is a folder; else the output."""
        expected = {
            f.path: f.md5 for f in self.workspace.storage.cached_files(FileRef(output.path, output.expected or ""))
        }
        if not expected or output.actual is None or not output.actual.endswith(".dir"):
            return output
        actual = {file.path: file.md5 for file in self.copy.storage.hash_files(output.path)}
        name = min(name for name in {*expected, *actual} if expected.get(name) != actual.get(name))
        return replace(output, path=name, expected=expected.get(name), actual=actual.get(name))

    def _cause(self, first: Output, outputs: Sequence[Output], inputs: Sequence[ChangedInput]) -> Cause:
        recorded, (_, packages) = self.request.packages, self.environment
        changed = None if recorded is None else environment.changes(recorded, packages)
        repeats = bool(inputs) or self._repeats(first.stage, outputs)
        found = self._by_settings(first) if repeats and not inputs and not changed else None
        return found or verdict.cause(
            first.stage, inputs=inputs, repeats=repeats, packages=changed, fresh_env=self.request.fresh_env
        )

    def _by_settings(self, first: Output) -> Cause | None:
        """Whether threads or a kernel make the difference; the stage is run under others to know."""
        facts = self.request.packages.computing if self.request.packages else {}
        recorded, here = stage_settings.of_stage(facts, first.stage), computing.of_machine()

        def make(settings: Settings) -> str | None:
            shown = " ".join(f"{name}={value}" for name, value in settings.items() if value)
            self.tell(f"running {first.stage} with {shown or 'the settings of this machine'}")
            return self._digest(first.path) if self._again(first.stage, settings) else None

        question = Question(first.stage, first.expected, first.actual, recorded, here, self.settings)
        return by_settings(question, make)

    def _unavailable(self, stage: str) -> str:
        facts = self.request.packages.computing if self.request.packages else {}
        recorded = stage_settings.of_stage(facts, stage)
        return computing.unavailable(recorded, computing.of_machine()) if recorded else ""

    def _repeats(self, name: str, outputs: Sequence[Output]) -> bool:
        """Whether the stage makes the same bytes when it runs once more."""
        self.tell(f"running {name} once more: does it make the same bytes twice?")
        if not self._again(name):
            return False
        return all(self._digest(o.path) == o.actual for o in outputs if o.stage == name)

    def _again(self, name: str, settings: Settings | None = None) -> bool:
        """Run the stage once more; whether it came to its end."""
        stage = next(stage for stage in self.stages if stage.name == name)
        _remove(self.copy, stage)
        try:
            self._run(stage, settings=settings)
        except RebuildImpossible:
            return False
        return True


def _is_inside(ref: FileRef) -> bool:
    """Whether the path is in the repository."""
    return not Path(ref.path).is_absolute() and not ref.path.startswith("../")


def _md5(tree: Workspace, ref: FileRef) -> str | None:
    """The digest of what lies at the path of `ref`, as the DVC that recorded `ref` gives it."""
    try:
        return tree.storage.hash(ref.path, by_dvc_2=ref.by_dvc_2).md5
    except MissingFile:
        return None


def _remove(tree: Workspace, stage: StageRecord) -> None:
    for out in stage.outs:
        file = tree.root / out.path
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
