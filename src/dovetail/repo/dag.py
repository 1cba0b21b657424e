"""A repository's DAG as DVC plans it: what must run, what may run elsewhere, and how that comes back."""

import logging
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.repo import git_command
from dovetail.repo.dag_step import Step, StepAction, address_of, name_of
from dovetail.repo.dvc_repo import DvcRepo
from dovetail.repo.plan_order import PlanOrder
from dovetail.repo.rwlock import clear_rwlock
from dovetail.repo.single_stage import digests, take_outputs
from dovetail.repo.snapshot import Snapshot
from dovetail.repo.stage_task import StageTask
from dovetail.repo.unfinished import Unfinished, read_unfinished, repair, text_of

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

_SENT = 64 * 2**20  # bytes of outputs that DVC does not cache; a stage that reads more runs here


class Dag:
    """The steps of a repository's working tree, asked and changed from one thread.

    Attributes:
        steps: In the order in which `dvc repro` goes through them, once `plan` was called.
        busy_here: Whether a step runs in the workspace: DVC holds its lock while it digests what that has made.
    """

    def __init__(self, dvc: DvcRepo, head: str) -> None:
        """`head` is git's commit: what a killed run recorded counts while it is the same."""
        self._dvc = dvc
        self.steps: list[Step] = []
        self.busy_here = False
        self._has_saved_state = False
        self._unwritten: set[str] = set()
        self._pushed: set[str | None] = set()
        self._note = Unfinished(head)
        self._order = PlanOrder((), self._note)

    @property
    def _repo(self) -> "Repo":
        return self._dvc.opened

    def plan(self, targets: Sequence[str], *, single_item: bool, force: bool) -> None:
        """Find the steps.

        Raises:
            UserError: when DVC refuses a target or a file.
        """

        def note(stage: "Stage", upstream: "Sequence[Stage]", *, force: bool, **_: Any) -> None:
            self.steps.append(Step(stage, map(address_of, upstream), len(self.steps), force=force))

        with self._dvc.locked(lambda: not self.busy_here):
            clear_rwlock(self._repo)
            self._note = read_unfinished(self._noted, self._note.head)
            repair(self._repo, self._note)
        # DVC takes targets, and the dvc.yaml that it takes without one, from the current folder.
        inside = Path.cwd().resolve().is_relative_to(self._dvc.root.resolve())
        with nullcontext() if inside else chdir(self._dvc.root), self._dvc.asked():
            self._repo.reproduce(list(targets) or None, single_item=single_item, force=force, repro_fn=note)
            self._order = PlanOrder(self.steps, self._note)

    def clear_locks(self) -> None:
        """Clear the list of paths at work after the process has died that ran a step in the workspace."""
        with self._dvc.locked(lambda: not self.busy_here):
            clear_rwlock(self._repo)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While steps are done: DVC says nothing of them, and tells git at the end what it is to keep, if it is so set.

        Raises:
            UserError: in place of DVC's own errors.
        """
        context, told = self._repo.scm_context, logging.getLogger("dvc")
        context.quiet, level = True, told.level
        told.setLevel(logging.ERROR)
        try:
            with chdir(self._dvc.root), context():  # DVC makes paths of the current folder
                yield
        finally:
            told.setLevel(level)

    def next_action(self, step: Step) -> StepAction:
        """What is to be done with a step whose upstream steps are done.

        Raises:
            UserError: when DVC refuses what it reads.
        """
        from dvc.stage.cache import RunCacheNotFoundError

        stage = step.stage
        with self._dvc.locked(lambda: not self.busy_here):
            if not step.force and not stage.changed():
                return StepAction.UNCHANGED
            if not step.may_run_elsewhere:
                return StepAction.HERE
            if stage.changed_stage() or not stage.deps_cached():
                for out in stage.outs:  # what dvc.lock has was made of something else
                    out.hash_info = type(out.hash_info)()
            stage.save_deps()
            if not step.force:
                try:
                    self._repo.stage_cache.restore(stage, dry=True)
                except RunCacheNotFoundError:
                    pass
                else:
                    return StepAction.RESTORE
            return StepAction.AWAY if self._can_be_sent(step) else StepAction.HERE

    def would_run(self) -> list[str]:
        """The addresses of the steps that are changed, or wait for one that is; nothing is run or written."""
        found: list[str] = []
        with self._dvc.locked(lambda: not self.busy_here):
            for step in self.steps:
                if step.force or step.stage.changed() or any(name in found for name in step.upstream):
                    found.append(step.address)
        return found

    def restore(self, step: Step, entry: Mapping[str, Any] | None = None, *, pull: bool = False) -> bool:
        """Check out what the run-cache has of the step, or what `entry` says that it made; False where it cannot be.

        With `pull` the bytes are brought from the remote.

        Raises:
            UserError: when DVC refuses what it reads.
        """
        from dvc.stage.cache import RunCacheNotFoundError

        stage = step.stage
        with self._dvc.locked(lambda: not self.busy_here):
            if not self._has_saved_state:  # before the first line in a .gitignore
                self._save_state()
            try:
                if entry is None:
                    stage.run()  # which finds it there
                else:
                    take_outputs(self._repo, stage, entry, pull=pull)
            except RunCacheNotFoundError:
                return False
            self._order.order_ignored(step.ignores)
        self._unwritten.add(step.address)
        return True

    def done_here(self, step: Step, entry: Mapping[str, Any]) -> None:
        """Note what DVC made of the step in another process, in this working tree."""
        from dvc.stage.loader import StageLoader

        with self._dvc.locked(lambda: not self.busy_here):
            if entry:  # a .dvc file says for itself what it is now
                StageLoader.fill_from_lock(step.stage, dict(entry))
            self._order.order_ignored(step.ignores)

    def task(self, step: Step, snapshot: Snapshot) -> StageTask:
        """The step for a worker; `next_action` has just said that it runs on a worker."""
        from dvc.stage.serialize import to_lockfile

        lock: dict[str, dict[str, Any]] = {}
        files: dict[str, bytes] = {}
        needs: list[str] = []
        for out, read in self._outs_read(step):
            producer, path = out.stage, self._path(out.stage.path)
            if not out.use_cache:
                files.update(self._contents(out))
                continue
            needs.append(read)
            if snapshot.pack:
                self._push(out)
            if name_of(producer):
                lock.setdefault(str(Path(path).with_suffix(".lock")), {}).update(to_lockfile(producer))
            else:
                files[path] = Path(producer.path).read_bytes()
        own = str(Path(self._path(step.stage.path)).with_suffix(".lock"))
        entries, wanted = {own: {}, **lock}, tuple(dict.fromkeys(needs))
        return StageTask(step.address, snapshot, entries, files, wanted, digests(step.stage), step.force)

    def _push(self, out: "Output") -> None:
        if out.hash_info.value not in self._pushed:
            with self._dvc.locked(lambda: not self.busy_here):
                for database, objects in out.get_used_objs().items():
                    self._repo.cloud.push(objects, odb=database)
            self._pushed.add(out.hash_info.value)

    def write_lock(self) -> None:
        """Write what steps made to dvc.lock; DVC, which reads and writes the whole file, is given many at once.

        Raises:
            UserError: when it cannot be written.
        """
        files: dict[str, list[Stage]] = {}
        for step in self.steps:
            if step.address in self._unwritten:
                files.setdefault(step.stage.path, []).append(step.stage)
        with self._dvc.locked(lambda: not self.busy_here):
            self._save_state()
            for stages in files.values():
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
            if files:
                self._save_state()
        self._unwritten.clear()

    def _save_state(self) -> None:
        """Note the files as they are, for a run after this one if it is killed."""
        self._has_saved_state = True
        self._note.whole = {str(lock): text_of(lock) for lock in self._order.locks}
        self._note.write(self._noted)

    @property
    def _noted(self) -> Path:
        return self._dvc.root / ".dvc" / "tmp" / "repro.unfinished"

    def finish(self, *, goes_on: bool) -> None:
        """Write what is left to be written to dvc.lock, and let it stand there in the order of the plan.

        Where the plan `goes_on` with the next run, after a failure at which `dvc repro` would have stopped, what has
        ended beside it is no reason for the rest to stand behind it.

        Raises:
            UserError: when it cannot be written.
        """
        self.write_lock()
        with self._dvc.locked(lambda: not self.busy_here):
            self._order.order_lock()
            self._order.order_ignored()
            if not goes_on:
                self._noted.unlink(missing_ok=True)

    @cached_property
    def _known(self) -> frozenset[str]:
        """The files that git keeps, or would add, and their folders; of submodules copies have none."""
        asked = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", ".")
        listed = git_command.run_bytes(self._dvc.root, asked, {})
        entries = os.fsdecode(git_command.run_bytes(self._dvc.root, ("ls-files", "-z", "--stage", "."), {})).split("\0")
        submodules = {entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")}
        files = [Path(name) for name in os.fsdecode(listed).split("\0") if name not in submodules]
        return frozenset(path.as_posix() for file in files for path in (file, *file.parents))

    def _can_be_sent(self, step: Step) -> bool:
        """Whether a copy can have all that the step reads."""
        outs = self._outs_read(step)
        if sum(out.meta.size or 0 for out, _ in outs if not out.use_cache) > _SENT:
            return False
        made = [Path(read) for _, read in outs]
        paths = (self._path(dep.fs_path) for dep in step.stage.deps)
        return all(path in self._known or any(read.is_relative_to(path) for read in made) for path in paths)

    def _outs_read(self, step: Step) -> list[tuple["Output", str]]:
        """The outputs of other stages, and .dvc files, that the step reads, each with the path to check out."""
        outs, paths = self._outs
        found = []
        for dep in step.stage.deps:
            read = self._path(dep.fs_path)
            above = (path.as_posix() for path in (Path(read), *Path(read).parents))
            found += [(outs[path], read) for path in above if path in outs]
            below = f"{read}/"
            for path in paths[bisect_left(paths, below) :]:
                if not path.startswith(below):
                    break
                found.append((outs[path], path))
        return found

    @cached_property
    def _outs(self) -> tuple[dict[str, "Output"], list[str]]:
        """Every output of the repository by its path, of the very stages that the steps hold; and the paths, sorted."""
        held = {step.address: step.stage for step in self.steps}
        stages = (held.get(address_of(stage), stage) for stage in self._repo.index.stages)
        outs = {self._path(out.fs_path): out for stage in stages for out in stage.outs}
        return outs, sorted(outs)

    def _path(self, path: str) -> str:
        return Path(os.path.relpath(path, self._dvc.root)).as_posix()

    def _contents(self, out: "Output") -> dict[str, bytes]:
        place = Path(out.fs_path)
        files = [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
        return {self._path(str(file)): file.read_bytes() for file in files}
