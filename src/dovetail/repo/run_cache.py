"""DVC's run-cache, where a killed process has left an entry's folder empty."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo


def ignore_empty_entries(repo: "Repo") -> None:
    """Let the repository's run-cache take a folder without an entry for none; the stage that is run then fills it.

    DVC makes the folder first, the entry then. Between the two it may be killed, and fails on the stage ever after.
    """
    cache: Any = repo.stage_cache
    load = cache._load  # noqa: SLF001  (nothing public is asked before it)

    def found(stage: Any) -> Any:
        try:
            return load(stage)
        except TypeError:  # the path of the newest of no entries
            return None

    cache._load = found  # noqa: SLF001
