"""The experiments of `dvc exp run --queue`: taken out as DVC's own workers do, and put back by what happens to them.

DVC keeps an experiment in two places: a message of its queue, and a commit in a stash of its own. Its workers drop the
commit when they begin, so what they had when they were killed is lost. Here it is dropped when the experiment has
ended: one that is marked as begun and still has it is one that a killed run had.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.repo.dvc_repo import DvcRepo
from dovetail.repo.experiment_task import ExperimentTask
from dovetail.repo.rwlock import clear_rwlock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dvc.repo.experiments.queue.base import QueueEntry


class ExperimentQueue:
    """DVC's queue of a repository, changed from one thread."""

    def __init__(self, dvc: DvcRepo) -> None:
        self._dvc = dvc
        self._files: dict[str, str] = {}  # of the messages of those that were taken

    @property
    def _queue(self) -> Any:
        return self._dvc.opened.experiments.celery_queue

    def waiting(self) -> list[str]:
        """The names of the experiments that are to be run; nothing is changed.

        Raises:
            UserError: in place of DVC's own errors.
        """
        with self._dvc.asked():
            entries = [entry for _, entry in self._begun() if not self._has_ended(entry)]
            return [_name(entry) for entry in (*entries, *self._queue.iter_queued())]

    def begun(self) -> list[ExperimentTask]:
        """The experiments that a killed run had begun; those that it had only to tell DVC of are settled.

        Raises:
            UserError: in place of DVC's own errors.
        """
        with self._dvc.asked():
            clear_rwlock(self._dvc.opened, "exps")
            found = []
            for message, entry in list(self._begun()):
                if self._has_ended(entry):
                    self._settle(message.headers["id"], entry.stash_rev)
                else:
                    found.append(self._task(message, entry))
            return found

    def take(self) -> ExperimentTask | None:
        """The next one, marked as begun, so that DVC's own workers leave it alone; None when there is none.

        Raises:
            UserError: in place of DVC's own errors.
        """
        with self._dvc.asked():
            app = self._queue.celery
            for message, entry in self._queue._iter_queued():  # noqa: SLF001  (the entry alone does not say its file)
                file = Path(app._queued_msg_path_cache[message.delivery_tag])  # noqa: SLF001  (as above)
                with suppress(FileNotFoundError):  # one of DVC's workers was first
                    taken = file.rename(self._folder("processed_folder") / file.name)
                    self._files[message.headers["id"]] = str(taken)
                    return self._task(message, entry)
        return None

    def give_back(self, task: ExperimentTask) -> None:
        """Queue it again: it was begun, and has not ended."""
        file = Path(self._files.pop(task.message))
        with suppress(FileNotFoundError):
            file.rename(self._folder("data_folder_in") / file.name)

    def done(self, task: ExperimentTask, *, failed: bool) -> None:
        """Let DVC know that an experiment has ended, as its own workers would.

        Raises:
            UserError: in place of DVC's own errors.
        """
        from dvc.repo.experiments.queue.base import QueueEntry

        with self._dvc.asked():
            if failed:
                self._queue.stash_failed(QueueEntry(**task.entry))
            self._settle(task.message, task.entry["stash_rev"])

    def _folder(self, name: str) -> Path:
        return Path(self._queue.celery.conf.broker_transport_options[name])

    def _begun(self) -> "Iterator[tuple[Any, QueueEntry]]":
        """What is marked as begun, and was by a run of ours that did not come to its end."""
        kept = set(self._queue.stash.stash_revs)
        files = self._queue.celery._processed_msg_path_cache  # noqa: SLF001  (as above)
        for message, entry in self._queue._iter_processed():  # noqa: SLF001  (as above)
            if entry.stash_rev in kept:
                self._files[message.headers["id"]] = files[message.delivery_tag]
                yield message, entry

    def _has_ended(self, entry: "QueueEntry") -> bool:
        """Whether what the experiment has made is in git, and only DVC does not know it yet."""
        from dvc.repo.experiments.executor.base import ExecutorInfo

        try:
            info = ExecutorInfo.load_json(self._queue.get_infofile_path(entry.stash_rev))
        except (OSError, ValueError):
            return False
        return bool(info.result_hash and info.result_ref and self._queue.scm.get_ref(info.result_ref))

    def _settle(self, message: str, stash_rev: str) -> None:
        self._queue.celery.backend.store_result(message, None, "SUCCESS")  # a failed one, too: that its info says
        if entry := self._queue.stash.stash_revs.get(stash_rev):
            self._queue.stash.remove_revs([entry])

    def _task(self, message: Any, entry: "QueueEntry") -> ExperimentTask:
        _, settings, _ = message.decode()
        return ExperimentTask(
            _name(entry),
            self._dvc.root,
            Path(os.path.relpath(Path.cwd(), self._dvc.root)) if self._is_inside() else Path(),
            message.headers["id"],
            entry.asdict(),
            tuple(settings.get("copy_paths") or ()),
            settings.get("message"),
        )

    def _is_inside(self) -> bool:
        return Path.cwd().resolve().is_relative_to(self._dvc.root.resolve())


def _name(entry: "QueueEntry") -> str:
    return str(entry.name or entry.stash_rev[:7])
