"""What a worker does with a task: a clean copy of the working tree, the stage run in it, what came of it."""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
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
from dovetail.values.environment import deciding

COPIES, SITE, JOBS = "repro", "repro-site", "repro-jobs"  # below DVC's own temporary folder, which git and DVC ignore
UNSEEN = "it does not see the repository's folder"
_WATCH_SECONDS = 0.5
_IDLE_SECONDS = 60  # a worker may live for weeks, and its process is as large as DVC
_SMALLEST = 2**20  # bytes: with fewer left on its disk nothing that failed here says anything of the stage
_THREADS = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}

_of_thread = threading.local()


def run_task(
    task: StageTask | ExperimentTask, packages: Mapping[str, str], name: str, wanted: Callable[[], bool]
) -> StageRun:
    """Run the task's stage, or experiment, as the worker `name`; the thread that calls keeps a process for it.

    Where one of `packages` has another version here, it is not run: what it made would be something else. Once it is no
    longer `wanted`, because who asked for it is gone, the process is ended.
    """
    begun = monotonic()
    try:
        if other := _other_packages(packages):
            return StageRun(unusable=other, worker=name)
        with held_folder(_place(task)) as folder, _watched(wanted) as process:
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


def _other_packages(packages: Mapping[str, str]) -> str:
    """Which packages have another version here; one that is not here is missed by the script that needs it."""
    here = deciding()
    other = [f"{name} {here[name]}, not {said}" for name, said in packages.items() if here.get(name, said) != said]
    return f"it has {', '.join(other)}: install the same there" if other else ""


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
    env = _with_own_threads(copy_environment(root, snapshot.root))
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
    run = process.ask(run_experiment, task, folder, env=_with_own_threads(os.environ), log=log)
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return replace(run, output=said + run.output)


def _with_own_threads(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without the one thread that Dask's nanny gives its workers: a stage is none of Dask's tasks."""
    import psutil

    nanny = multiprocessing.parent_process()
    try:
        given = psutil.Process(nanny.pid).environ() if nanny and nanny.pid else env
    except psutil.Error:
        given = env
    return {name: value for name, value in env.items() if not (name in _THREADS and value == "1" and name not in given)}


@contextmanager
def _watched(wanted: Callable[[], bool]) -> Iterator[StageProcess]:
    """The thread's process, ended when what it runs is no longer wanted, or when it has nothing to do for a while."""
    process, done = process_of_thread(), threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            if not wanted():
                process.kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield process
    finally:
        done.set()
        watcher.join()  # it must not end what the process runs next
        process.rest(_IDLE_SECONDS)


def process_of_thread() -> StageProcess:
    """The process in which this thread runs stages, started anew where it has ended."""
    process: StageProcess | None = getattr(_of_thread, "process", None)
    if process is None or not process.wake():
        if process in _all:
            _all.remove(process)
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
