"""Why nothing needs an object any more: what named it last, or that nothing ever did."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dovetail.cleanup.references import digests, named
from dovetail.cleanup.survey import Survey
from dovetail.repo.git_values import Commit
from dovetail.repo.objects import Objects
from dovetail.repo.workspace import Workspace
from dovetail.tracking.trash import MODEL, RUN, TrashItem

_TRASH = {
    RUN: "the run is in MLflow's trash, and no version was made of it",
    MODEL: "the logged model is in MLflow's trash, and no version names it",
}
_DAY = 86_400  # seconds
_HALF_WRITTEN = "a process that was killed more than a day ago left it half written"
_UPLOAD = "the upload was broken off more than a day ago, and no version names it"


@dataclass(frozen=True, slots=True)
class Unreferenced:
    """Something that nothing needs, and how that is known."""

    what: str
    md5: str | None
    size: int
    why: str
    where: str

    def as_json(self) -> dict[str, Any]:
        """The entry as `--json` gives it."""
        return {"what": self.what, "md5": self.md5, "size": self.size, "why": self.why, "where": self.where}


@dataclass(frozen=True, slots=True)
class _LastSeen:
    """Where a digest was seen last; without a commit: in DVC's run-cache."""

    path: str | None
    commit: Commit | None


def of_trash(item: TrashItem) -> Unreferenced:
    """The bytes of a run or a logged model that was deleted in MLflow."""
    why = _TRASH.get(item.kind, _UPLOAD)
    return Unreferenced(f"{item.kind} {item.id} of {item.experiment}", item.md5, item.size, why, "mlflow")


def of_leftovers(place: Objects) -> list[Unreferenced]:
    """What killed processes left half written in a place; what is younger than a day may still be written."""
    sizes = place.leftovers(time.time() - _DAY)
    return [Unreferenced(path, None, size, _HALF_WRITTEN, place.name) for path, size in sorted(sizes.items())]


def of_objects(workspace: Workspace, found: Survey) -> dict[Objects, list[Unreferenced]]:
    """The objects of each place that nothing needs, by path."""
    needed = frozenset().union(*found.needed.values())
    unneeded = {place: sizes.keys() - needed for place, sizes in found.sizes.items()}
    wanted = frozenset().union(*unneeded.values())
    traces = _in_history(found, wanted)
    traces = _in_run_cache(workspace, wanted - traces.keys()) | traces
    for place, gone in unneeded.items():
        traces = _in_folders(place, gone, traces) | traces
    return {
        place: sorted(
            (_unreferenced(place, md5, found.sizes[place][md5], traces.get(md5), found.kept) for md5 in gone),
            key=lambda row: (row.what, row.md5 or ""),
        )
        for place, gone in unneeded.items()
    }


def _in_history(found: Survey, wanted: frozenset[str]) -> dict[str, _LastSeen]:
    """The newest commit that wrote a DVC file which names it."""
    traces: dict[str, _LastSeen] = {}
    for commit, files in found.written:
        for path, blob in files.items():
            if new := (found.reader.blob(blob) & wanted) - traces.keys():
                refs = named(found.reader.text(blob), path.rpartition("/")[0])
                paths = {ref.md5: ref.path for ref in refs}
                traces |= {md5: _LastSeen(paths.get(md5), commit) for md5 in new}
    return traces


def _in_run_cache(workspace: Workspace, wanted: frozenset[str]) -> dict[str, _LastSeen]:
    """What a stage once made: the run-cache remembers what was never committed."""
    texts = (text for text in workspace.storage.run_cache() if digests(text) & wanted) if wanted else ()
    return {ref.md5: _LastSeen(ref.path, None) for text in texts for ref in named(text, "") if ref.md5 in wanted}


def _in_folders(place: Objects, gone: Iterable[str], traces: Mapping[str, _LastSeen]) -> dict[str, _LastSeen]:
    """The files of a folder are named by its listing alone."""
    inner: dict[str, _LastSeen] = {}
    for folder in (md5 for md5 in gone if md5.endswith(".dir")):
        trace = traces.get(folder, _LastSeen(None, None))
        for path, md5 in (place.listing(folder) or {}).items():
            inner[md5] = _LastSeen(f"{trace.path or '…'}/{path}", trace.commit)
    return inner


def _unreferenced(place: Objects, md5: str, size: int, trace: _LastSeen | None, kept: set[str]) -> Unreferenced:
    what = (trace and trace.path) or f"an object of the {place.name}"
    if trace is None or trace.commit is None:
        return Unreferenced(
            what, md5, size, "no branch, tag, experiment or version names it, nor does any commit", place.name
        )
    commit = trace.commit
    last = f"commit {commit.sha[:8]} of {datetime.fromtimestamp(commit.time, UTC).date()} named it last"
    end = "no model was made of it" if commit.sha in kept else "no branch, tag or experiment holds that any more"
    return Unreferenced(what, md5, size, f"{last}, and {end}", place.name)
