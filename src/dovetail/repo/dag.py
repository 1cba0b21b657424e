"""A repository's DAG as DVC plans it: what must run, what may run elsewhere, and how that comes back."""

import logging
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from dovetail.errors import Busy
from dovetail.repo import git_command
from dovetail.repo.dag_step import Course, Step, address_of, name_of
from dovetail.repo.dvc_repo import DvcRepo, remove_broken_rwlock
from dovetail.repo.plan_order import PlanOrder
from dovetail.repo.single_stage import digests, take_outputs
from dovetail.repo.snapshot import Snapshot
from dovetail.repo.stage_task import StageTask

if TYPE_CHECKING:
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

_LOCK_SECONDS = 60
_SENT = 64 * 2**20  # bytes of outputs that DVC does not cache; a stage that reads more runs here


class Dag:
    """The steps of a repository's working tree, asked and changed from one thread.

    Attributes:
        steps: In the order in which `dvc repro` goes through them, once `plan` was called.
    """

    def __init__(self, dvc: DvcRepo) -> None:
        self._dvc = dvc
        self.steps: list[Step] = []
        self._unwritten: set[str] = set()
        self._pushed: set[str | None] = set()
        self._order = PlanOrder(())

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

        with self._locked():
            remove_broken_rwlock(self._dvc.root)
        # DVC takes targets, and the dvc.yaml that it takes without one, from the current folder.
        inside = Path.cwd().resolve().is_relative_to(self._dvc.root.resolve())
        with nullcontext() if inside else chdir(self._dvc.root), self._dvc.asked():
            self._repo.reproduce(list(targets) or None, single_item=single_item, force=force, repro_fn=note)
            self._order = PlanOrder(self.steps)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Ask DVC, while no other DVC command is at work here; those that run a stage let others in meanwhile.

        Raises:
            UserError: in place of DVC's own errors.
            Busy: when another command holds DVC's lock for a minute.
        """
        from dvc.lock import LockError

        lock, end = self._repo.lock, monotonic() + _LOCK_SECONDS
        while True:
            try:
                lock.lock()
                break
            except LockError as error:
                if monotonic() > end:
                    what = f"another dvc command has held {self._dvc.root}/.dvc/tmp/lock for {_LOCK_SECONDS} s"
                    raise Busy(what, "the same again, when it has ended") from error
        try:
            with self._dvc.asked():
                yield
        finally:
            lock.unlock()

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

    def course(self, step: Step) -> Course:
        """What is to be done with a step whose upstream steps are done.

        Raises:
            UserError: when DVC refuses what it reads.
        """
        from dvc.stage.cache import RunCacheNotFoundError

        stage = step.stage
        with self._locked():
            if not step.force and not stage.changed():
                return Course.UNCHANGED
            if not self._may_run_elsewhere(step):
                return Course.HERE
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
                    return Course.RESTORE
            return Course.AWAY if self._can_be_sent(step) else Course.HERE

    def would_run(self) -> list[str]:
        """The addresses of the steps that are changed, or wait for one that is; nothing is run or written."""
        found: list[str] = []
        with self._locked():
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
        with self._locked():
            try:
                if entry is None:
                    stage.run()  # which finds it there
                else:
                    take_outputs(self._repo, stage, entry, pull=pull)
            except RunCacheNotFoundError:
                return False
            self._order.order_ignored(step)
        self._unwritten.add(step.address)
        return True

    def done_here(self, step: Step, entry: Mapping[str, Any]) -> None:
        """Note what DVC made of the step in another process, in this working tree."""
        from dvc.stage.loader import StageLoader

        with self._locked():
            if entry:  # a .dvc file says for itself what it is now
                StageLoader.fill_from_lock(step.stage, dict(entry))
            self._order.order_ignored(step)

    def task(self, step: Step, snapshot: Snapshot) -> StageTask:
        """The step for a worker; `course` has just said that it runs away."""
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
        return StageTask(
            step.address,
            snapshot,
            {own: {}, **lock},
            files,
            tuple(dict.fromkeys(needs)),
            digests(step.stage),
            step.force,
        )

    def _push(self, out: "Output") -> None:
        if out.hash_info.value not in self._pushed:
            with self._locked():
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
        with self._locked():
            for stages in files.values():
                stages[0].dvcfile.dump_stages(stages, update_pipeline=False)
        self._unwritten.clear()

    def finish(self) -> None:
        """Write what is left to be written to dvc.lock, and let it stand there in the order of the plan.

        Raises:
            UserError: when it cannot be written.
        """
        self.write_lock()
        with self._locked():
            self._order.order_lock()

    @cached_property
    def _known(self) -> frozenset[str]:
        """The files that git keeps, or would add, and their folders."""
        asked = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", ".")
        listed = git_command.plumb(self._dvc.root, asked, {})
        files = [Path(name) for name in os.fsdecode(listed).split("\0")]
        return frozenset(path.as_posix() for file in files for path in (file, *file.parents))

    def _may_run_elsewhere(self, step: Step) -> bool:
        """Whether the step is what its inputs make of it, and nothing else: what DVC's run-cache asks for, too."""
        stage = step.stage
        pure = step.name and stage.cmd and stage.deps and stage.outs and not (stage.frozen or stage.always_changed)
        local = all(dep.protocol == "local" and dep.def_path for dep in stage.deps)
        kept = all(
            out.protocol == "local" and out.is_in_repo and not out.persist and
            (out.use_cache or out.is_metric or out.is_plot)
            for out in stage.outs
        )  # fmt: skip
        return bool(pure and local and kept and step.meta.get("workers") is not False)

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
