"""What a worker does with a task: a clean copy of the working tree, the stage run in it, what came of it."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

from dovetail.cluster.stage_process import Died, StageProcess
from dovetail.errors import DovetailError, one_line
from dovetail.repo.dvc_variables import ENV_ROOT
from dovetail.repo.experiment_task import ExperimentTask, run_experiment
from dovetail.repo.single_stage import run_in_copy
from dovetail.repo.snapshot import check_out
from dovetail.repo.stage_task import StageRun, StageTask
from dovetail.repo.worktree import copy_environment, held_folder
from dovetail.system.disk import says_full

COPIES, SITE, JOBS = "repro", "repro-site", "repro-jobs"  # below DVC's own temporary folder, which git and DVC ignore
UNSEEN = "it does not see the repository's folder"
_WATCH_SECONDS = 0.5
_SMALLEST = 2**20  # bytes: with fewer left on its disk nothing that failed here says anything of the stage

_of_thread = threading.local()


def run_task(task: StageTask | ExperimentTask, name: str, wanted: Callable[[], bool]) -> StageRun:
    """Run the task's stage, or experiment, as the worker `name`; the thread that calls keeps a process for it.

    Once it is no longer `wanted`, because who asked for it is gone, the process is ended.
    """
    begun = monotonic()
    try:
        process, place = process_of_thread(), _place(task)
        with held_folder(place) as folder, _watched(process, wanted):
            # The process that is watched runs it: ended while files are checked out, it begins nothing.
            if isinstance(task, StageTask):
                run = _run_stage(task, folder, process)
            else:
                run = _run_experiment(task, folder, process)
            if run.failed and (says_full(run.output) or shutil.disk_usage(folder).free < _SMALLEST):
                run = StageRun(unusable=f"its disk is full: {folder.parent}")
    except Died as error:
        run = StageRun(unusable=str(error), died=True)
    except _Unseen:
        run = StageRun(unusable=UNSEEN)
    except (DovetailError, OSError) as error:
        run = StageRun(unusable=one_line(error))
    return replace(run, worker=name, seconds=monotonic() - begun)


class _Unseen(Exception):
    """This machine does not see the repository's folder, and was not given what is in it."""


def _place(task: StageTask | ExperimentTask) -> Path:
    """The folder for copies."""
    if isinstance(task, ExperimentTask):
        if not (task.root / ".dvc").is_dir():
            raise _Unseen
        return task.root / ".dvc" / "tmp" / COPIES
    if task.snapshot.pack:
        return Path.cwd() / "dovetail-work" / COPIES
    if not task.snapshot.is_seen:
        raise _Unseen
    return task.snapshot.root / ".dvc" / "tmp" / COPIES


def _run_stage(task: StageTask, folder: Path, process: StageProcess) -> StageRun:
    snapshot, log = task.snapshot, folder / "output.log"
    if snapshot.pack:
        snapshot = replace(snapshot, settings=_own_cache(folder.parent.parent))
    root = check_out(snapshot, folder / "tree")
    env = copy_environment(root, snapshot.root)
    if not snapshot.pack:
        env[ENV_ROOT] = os.environ.get(ENV_ROOT, str(snapshot.root))
    try:
        run = process.ask(run_in_copy, root, task, env=env, log=log)
    except Died as error:
        run = StageRun(unusable=str(error), died=True)
    output = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return replace(run, output=output)


def _run_experiment(task: ExperimentTask, folder: Path, process: StageProcess) -> StageRun:
    log = folder / "output.log"
    run = process.ask(run_experiment, task, folder, env=dict(os.environ), log=log)
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return replace(run, output=said + run.output)


@contextmanager
def _watched(process: StageProcess, wanted: Callable[[], bool]) -> Iterator[None]:
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            if not wanted():
                process.kill()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def process_of_thread() -> StageProcess:
    """The process in which this thread runs stages, started anew where it has died."""
    process: StageProcess | None = getattr(_of_thread, "process", None)
    if process is None or not process.is_alive:
        process = _of_thread.process = StageProcess()
        _all.append(process)
    return process


_all: list[StageProcess] = []


def end_processes() -> None:
    """End the processes of all threads."""
    while _all:
        _all.pop().close()


def _own_cache(place: Path) -> str:
    """The configuration of a copy on a machine that shares nothing with the user's: a cache that stays for the next."""
    return f"[cache]\n    dir = {place / 'cache'}\n[core]\n    site_cache_dir = {place / 'site'}\n"
