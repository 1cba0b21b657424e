"""One stage run by DVC in a copy of the working tree; its outputs go to the cache that the copy is told to use."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import one_line
from dovetail.repo.run_cache import ignore_empty_entries
from dovetail.repo.stage_task import StageRun, StageTask

if TYPE_CHECKING:
    from dvc.repo import Repo


def get_ready() -> None:
    """Import DVC, which takes half a second, before it is needed."""
    import dvc.repo  # noqa: F401


def run_in_copy(root: Path, task: StageTask) -> StageRun:
    """Give the copy at `root` what the task says, and let DVC run the stage.

    Raises:
        Exception: of DVC's, or the operating system's, where the stage's command was not run.
    """
    from dvc.repo import Repo
    from dvc.utils.serialize import dump_yaml

    for path, content in task.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    for path, entries in task.lock.items():
        dump_yaml(str(root / path), {"schema": "2.0", "stages": dict(entries)})
    os.chdir(root)
    with Repo(str(root)) as repo:
        ignore_empty_entries(repo)
        if task.needs:
            if task.snapshot.pack:
                repo.fetch(list(task.needs))
            repo.checkout(list(task.needs), force=True)
        if other := [path for path, md5 in _deps(repo, task.address).items() if task.deps[path] != md5]:
            return StageRun(unusable=f"a clean copy of {other[0]} differs: git ignores part of it")
        run = run_here(repo, task.address, force=task.force)
        if run.entry and task.snapshot.pack:
            (stage,) = repo.stage.collect(task.address)
            for objects in outputs(repo, run.entry, stage.wdir):
                repo.cloud.push(objects)
    return run


def run_in_place(root: Path, address: str, force: bool) -> StageRun:  # noqa: FBT001  (arguments travel by position)
    """Let DVC run the stage in the user's own tree at `root`."""
    from dvc.repo import Repo

    os.chdir(root)
    with Repo(str(root), _wait_for_lock=True) as repo:  # others restore what is large meanwhile
        ignore_empty_entries(repo)
        return run_here(repo, address, force=force)


def run_here(repo: "Repo", address: str, *, force: bool) -> StageRun:
    """`dvc repro --single-item` in this process; a command that fails is an answer."""
    from dvc.exceptions import ReproductionError

    repo.scm_context.quiet = True
    logging.getLogger("dvc").setLevel(logging.ERROR)  # its answer says the rest
    since = time.time()
    try:
        repo.reproduce([address], single_item=True, force=force)
    except ReproductionError as error:
        return StageRun(failed=one_line(error.__cause__ or error))
    return StageRun(entry=_entry(repo, address), since=since)


def _deps(repo: "Repo", address: str) -> dict[str, str]:
    (stage,) = repo.stage.collect(address)
    stage.save_deps()
    return digests(stage)


def digests(stage: Any) -> dict[str, str]:
    """The digest of each file and folder that the stage reads, as DVC has just saved it; params are read elsewhere."""
    from dvc.dependency import ParamsDependency

    return {dep.def_path: dep.hash_info.value for dep in stage.deps if not isinstance(dep, ParamsDependency)}


def outputs(repo: "Repo", entry: Mapping[str, Any], wdir: str) -> list[Any]:
    """What DVC keeps of the outputs in an entry of dvc.lock, as it moves it: also of those that it does not cache."""
    from dvc.stage import PipelineStage, create_stage
    from dvc.stage.loader import StageLoader

    paths = [out["path"] for out in entry.get("outs", ())]
    made = create_stage(PipelineStage, repo=repo, path="dvc.yaml", cmd=entry["cmd"], wdir=wdir, outs=paths)
    StageLoader.fill_from_lock(made, dict(entry))
    return list(made.get_used_objs().values())


def take_outputs(repo: "Repo", stage: Any, entry: Mapping[str, Any], *, pull: bool) -> None:
    """Check out what an entry of dvc.lock says, in place of what `Stage.run` does, which digests it all anew.

    Raises:
        RunCacheNotFoundError: when DVC's cache lacks it, or an input is another one here.
    """
    from dvc.stage.loader import StageLoader

    StageLoader.fill_from_lock(stage, dict(entry))
    stage.cmd_changed = False
    for objects in outputs(repo, entry, stage.wdir) if pull else ():
        repo.cloud.pull(objects)
    stage.remove_outs(ignore_remove=False, force=False)
    repo.stage_cache.restore(stage)
    stage.ignore_outs()
    if pull:
        repo.stage_cache.save(stage)


def _entry(repo: "Repo", address: str) -> dict[str, Any]:
    """What dvc.lock records of the stage now; of a .dvc file, nothing."""
    from dvc.utils.serialize import load_yaml

    (stage,) = repo.stage.collect(address)
    if not getattr(stage, "name", None):
        return {}
    lock = load_yaml(str(Path(stage.path).with_name("dvc.lock")))
    entry: dict[str, Any] = lock["stages"][stage.name]
    return entry
