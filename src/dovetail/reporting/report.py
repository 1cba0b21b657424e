"""`dovetail report [REF]`: all that `show`, `lineage`, `history` and `monitor` say of a version, with its plots."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from dovetail.errors import DovetailError, UnknownReference
from dovetail.promotion.history import HistoryAnswer, HistoryRequest, history
from dovetail.registration.lineage import ModelLineage
from dovetail.registration.show import ShowAnswer, ShowRequest, show
from dovetail.repo.dvc_files import is_in
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.reporting.kept_drift import KeptDrift, kept_drift
from dovetail.tracking.connection import Tracking
from dovetail.values.answer import Answer
from dovetail.values.finding import Finding
from dovetail.values.lineage import FileRef, Lineage

PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif",
            ".webp": "image/webp", ".svg": "image/svg+xml"}  # fmt: skip
_LARGEST = 4_000_000  # bytes of a picture
_MOST = 40  # pictures of a version


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What to report on: a reference to a model; None: each model that dvc.yaml declares."""

    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A plot of the version, read by its digest."""

    path: str
    md5: str
    kind: str
    content: bytes = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail report --json`: without the bytes."""
        return {"path": self.path, "md5": self.md5, "size": len(self.content)}


@dataclass(frozen=True, slots=True)
class ModelReport:
    """A version, or a run without one.

    Attributes:
        shown: What `show` says: metrics, gates, lineage.
        history: Every promotion of its model, not of this version alone.
        drift: What the last `monitor` of this version found; None where none was made.
        plots: Its pictures.
        notes: What is not in here, and why.
    """

    shown: ShowAnswer
    history: HistoryAnswer
    drift: KeptDrift | None
    plots: tuple[Picture, ...]
    notes: tuple[Finding, ...]

    def as_json(self) -> dict[str, Any]:
        """The entry in the answer of `dovetail report --json`: that of `show`, and more."""
        return {
            **self.shown.as_json(),
            "history": self.history.as_json()["events"],
            "drift": self.drift.as_json() if self.drift else None,
            "plots": [plot.as_json() for plot in self.plots],
            "notes": [note.as_json("what", "next") for note in self.notes],
        }


@dataclass(frozen=True, slots=True, repr=False)
class ReportAnswer(Answer):
    """The reports on one model or several; `problems` are the models that there is nothing to report of, and why."""

    made: str  # ISO 8601, UTC
    models: tuple[ModelReport, ...]
    problems: tuple[Finding, ...] = ()

    def __repr__(self) -> str:
        return f"<ReportAnswer {', '.join(repr(one.shown) for one in self.models)}>"

    @property
    def pictures(self) -> Mapping[str, tuple[str, bytes]]:
        """The kind and the bytes of each plot, by its digest."""
        return {plot.md5: (plot.kind, plot.content) for one in self.models for plot in one.plots}

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail report --json`."""
        return {
            "made": self.made,
            "models": [one.as_json() for one in self.models],
            "problems": [problem.as_json("what", "next") for problem in self.problems],
        }


def report(workspace: Workspace, tracking: Tracking, request: ReportRequest = ReportRequest()) -> ReportAnswer:
    """Put together what is known of a version, or of each model's production, else its staging.

    Plots come from DVC's cache, or from its remote. Nothing is written.

    Raises:
        UnknownReference: naming what there is; without `ref` where no model has a version.
        StoreError: when MLflow does not answer.
    """
    made = datetime.now(UTC).isoformat(timespec="seconds")
    if request.ref is not None:
        return ReportAnswer(made, (_of_model(workspace, tracking, request.ref),))
    found, problems = [], []
    for model in workspace.tree.declared.models:
        try:
            found.append(_of_model(workspace, tracking, model))
        except UnknownReference as error:
            problems.append(Finding("error", error.message, "", error.next_command))
    if not found:
        first = problems[0] if problems else Finding("error", "no models are declared", "", "dovetail init")
        raise UnknownReference(first.what, first.next)
    return ReportAnswer(made, tuple(found), tuple(problems))


def _of_model(workspace: Workspace, tracking: Tracking, ref: str) -> ModelReport:
    shown = show(workspace, tracking, ShowRequest(ref))
    made = shown.made
    notes: list[Finding] = []
    with tracking.reading() as store:
        drift = kept_drift(store, made.model, made.version) if made.version else None
    plots = tuple(_pictures(workspace, made, notes))
    try:
        events = history(workspace, HistoryRequest(made.model))
    except DovetailError:  # a model that dvc.yaml no longer declares and no tag names
        events = HistoryAnswer(made.model, ())
    return ModelReport(shown, events, drift, plots, tuple(notes))


def _pictures(workspace: Workspace, made: ModelLineage, notes: list[Finding]) -> Iterator[Picture]:
    """The pictures among what the stages reported; of what cannot be read or is too large there is a note."""
    commit = next(iter(made.commits), None)
    files = [file for file in _reported(workspace, made.lineage, commit, notes) if _kind(file)]
    if len(files) > _MOST:
        notes.append(Finding("warning", f"there are more than {_MOST} plots", "", "dvc plots show"))
    with TemporaryDirectory() as folder:
        for file in files[:_MOST]:
            try:
                content = workspace.storage.locate(file, commit, Path(folder)).read_bytes()
            except DovetailError as error:
                notes.append(Finding("warning", error.message, "", error.next_command))
                continue
            if len(content) > _LARGEST:
                what = f"{file.path} has {len(content) / 1e6:.1f} MB, too much for a page"
                notes.append(Finding("warning", what, "", "dvc plots show"))
                continue
            yield Picture(file.path, file.md5, _kind(file), content)


def _kind(file: FileRef) -> str:
    """The kind of picture that a browser takes the file for; empty: none."""
    return PICTURES.get(PurePosixPath(file.path).suffix.lower(), "")


def _reported(workspace: Workspace, lineage: Lineage, commit: Commit | None, notes: list[Finding]) -> Iterator[FileRef]:
    """The files that metrics and plots of dvc.yaml name, in a stage's output or beside it, or of which they are all."""
    for out in (out for stage in lineage.stages for out in stage.outs):
        if not (named := [path for path in lineage.reports if out.overlaps(path)]):
            continue
        try:
            files = _files(workspace, out, commit)
        except DovetailError as error:
            notes.append(Finding("warning", error.message, "", error.next_command))
            continue
        yield from (file for file in files if any(is_in(file.path, path) for path in named))
    yield from lineage.evidence


def _files(workspace: Workspace, out: FileRef, commit: Commit | None) -> list[FileRef]:
    if not out.is_folder:
        return [out]
    files = workspace.at(commit).listing(out) if commit else workspace.storage.files(out)
    return sorted(files, key=lambda file: file.path)
