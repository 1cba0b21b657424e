"""Join DVC and MLflow from Python: `dovetail.open()`, then the verbs of the command line as methods.

    >>> import dovetail
    >>> repository = dovetail.open("path/to/repository")
    >>> repository.status()
    >>> repository.lineage("iris@production").data
    >>> repository.promote("iris", dry_run=True).passed

`serve`, `ui` and `demo` are commands alone, and a few names differ: docs/reference/python.md has the table. Nothing
heavy is imported until a verb is called.
"""

from dovetail.api import Repository, new_project, open_repository
from dovetail.errors import DovetailError

open = open_repository  # noqa: A001  (`dovetail.open`, as `gzip.open`; nothing in this file opens files)

new = new_project

__all__ = ["DovetailError", "Repository", "new", "open"]
