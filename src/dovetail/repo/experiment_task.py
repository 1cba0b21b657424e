"""One queued experiment, run by DVC in a copy of its own; what it makes is in git and in DVC's cache then."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import one_line
from dovetail.repo.stage_task import StageRun


@dataclass(frozen=True, slots=True)
class ExperimentTask:
    """An experiment to run.

    Attributes:
        address: Its name.
        root: The repository's root.
        folder: Where the command was typed, relative to it: DVC takes the experiment's targets from there.
        message: The id of its message in DVC's queue.
        entry: What the queue says of it, as DVC writes it.
        copy_paths, text: What `dvc exp run --queue` was given: files to copy, the message of the commit.
    """

    address: str
    root: Path
    folder: Path
    message: str
    entry: Mapping[str, Any]
    copy_paths: tuple[str, ...] = ()
    text: str | None = None


def run_experiment(task: ExperimentTask, place: Path) -> StageRun:
    """Run the experiment in a copy below `place`, which is removed by who calls, and bring its commit home.

    Raises:
        Exception: of DVC's, or the operating system's, where the experiment was not begun.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.experiments.executor.base import ExecutorInfo
    from dvc.repo.experiments.executor.local import TempDirExecutor
    from dvc.repo.experiments.queue.base import BaseStashQueue, QueueEntry
    from dvc.repo.experiments.stash import ExpStashEntry
    from dvc_task.proc.process import ManagedProcess

    os.chdir(task.root / task.folder)
    entry = QueueEntry(**task.entry)
    stashed = ExpStashEntry(None, entry.head_rev or "", entry.baseline_rev, entry.branch, entry.name)
    with Repo(str(task.root)) as repo:
        queue = repo.experiments.celery_queue
        info = Path(queue.get_infofile_path(entry.stash_rev))
        log = info.with_suffix(".out")
        for file in (info, log):  # of an attempt that was killed
            file.unlink(missing_ok=True)
        executor = TempDirExecutor.from_stash_entry(repo, stashed, wdir=str(place), location="dvc-task")
        executor.init_git(repo, repo.scm, entry.stash_rev, stashed, str(info), branch=stashed.branch)
        executor.init_cache(repo, entry.stash_rev)
        executor.info.dump_json(str(info))
        command = [sys.executable, "-P", "-m", "dvc", "exp", "exec-run", "--infofile", str(info)]
        command += [word for path in task.copy_paths for word in ("--copy-paths", path)]
        command += ["--message", task.text] if task.text else []
        with ManagedProcess(command, wdir=str(info.parent), name=entry.stash_rev):
            pass
        found, failed = ExecutorInfo.load_json(str(info)), ""
        if found.result is None:
            failed = "its pipeline failed"
        else:
            try:
                BaseStashQueue.collect_git(repo.experiments, TempDirExecutor.from_info(found), found.result)
            except DvcException as error:
                failed = one_line(error)
        TempDirExecutor.from_info(found).cleanup(str(info))
    output = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    return StageRun(entry=None if failed else {}, failed=failed, output=output)
