"""`dovetail monitor`: what a version answered, compared with what it was trained and tested on; kept in MLflow."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dovetail.errors import MissingFile, StoreError, UnknownReference, UserError
from dovetail.monitoring.assessment import DRIFT, Assessment, assess
from dovetail.monitoring.baseline import Baseline, baseline
from dovetail.monitoring.drift import ColumnDrift
from dovetail.monitoring.page import page
from dovetail.monitoring.performance import MetricDrift
from dovetail.registration.resolve import TrackedModel, resolve
from dovetail.repo.workspace import Workspace
from dovetail.serving.log.location import log_folder
from dovetail.serving.log.served_rows import Window
from dovetail.tracking.connection import Tracking
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.tracking.store import Store
from dovetail.values.reference import parse
from dovetail.values.tag_keys import Monitoring

PAGE = "monitor.html"  # in the run
_AGO = re.compile(r"(?P<number>\d{1,6})(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class MonitorRequest:
    """What to compare: what `ref`, a model or version, answered `since` then.

    `since` is `7d`, `12h` or `30m` ago, or a time in ISO format. Columns with fewer than `min_rows` served rows get no
    verdict. `html` is a file that the page is written to, too.
    """

    ref: str
    since: str = "7d"
    min_rows: int = 100
    html: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """The training data that served rows were compared with: paths and digests, with commas between several."""

    path: str
    md5: str
    rows: int


@dataclass(frozen=True, slots=True, repr=False)
class MonitorAnswer:
    """What a version answered from `since` until `until` (ISO 8601, UTC), compared with its baseline.

    Attributes:
        rows: The rows that it answered; `sampled` of them were compared.
        labelled: Those whose label is known.
        verdict: `drift`, `stable`, or `silent` where too little was served to say.
        columns: The verdict on each input column; `prediction` and `metric` are None where there is no test set.
        notes: What could not be compared, and why.
        run_id: The run that has the numbers over time and the page.
        page: Where the page was written to, too.
    """

    model: str
    version: int
    since: str
    until: str
    rows: int
    sampled: int
    labelled: int
    verdict: str
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift | None
    metric: MetricDrift | None
    reference: TrainingFiles
    notes: tuple[str, ...]
    run_id: str | None = None
    page: str | None = None

    def __repr__(self) -> str:
        return f"<MonitorAnswer {self.model}/{self.version}: {self.verdict}, {self.rows} rows since {self.since}>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail monitor --json`."""
        return {
            "model": self.model,
            "version": self.version,
            "since": self.since,
            "until": self.until,
            "rows": self.rows,
            "sampled": self.sampled,
            "labelled": self.labelled,
            "verdict": self.verdict,
            "columns": [column.as_json() for column in self.columns],
            "prediction": self.prediction.as_json() if self.prediction else None,
            "metric": self.metric.as_json() if self.metric else None,
            "reference": asdict(self.reference),
            "notes": list(self.notes),
            "run_id": self.run_id,
            "page": self.page,
        }


def monitor(
    workspace: Workspace, tracking: Tracking, request: MonitorRequest, *, baselines: dict[str, Baseline] | None = None
) -> MonitorAnswer:
    """Compare what a version answered with what it was trained and tested on.

    The numbers and the page are kept in MLflow, the verdict is tagged on the version; where nothing was served in the
    time asked for, nothing is kept. `baselines` has what earlier
    calls compared with; the baseline is read where it lacks the version, and added.

    Raises:
        UserError: when the reference names no version, or `since` no time.
        MissingFile: when nothing that the model answered was ever logged.
        OutsideError: when MLflow or the training data is not available.
    """
    baselines = {} if baselines is None else baselines
    now = datetime.now(UTC)
    since = moment(request.since, now)
    if not tracking.exists:
        raise StoreError(f"there is no MLflow store at {tracking.uri}", "dovetail sync")
    with tracking.store() as store:
        subject, version = _version(workspace, store, request.ref)
        with _log_of(tracking.root, subject.model) as folder:
            if not folder.exists() or not any(folder.iterdir()):
                what = f"nothing that {subject.model} answered was ever logged: there is no prediction log in {folder}"
                raise MissingFile(what, f"dovetail serve {subject.model}")
        observed = MonitoredVersion(subject.model, version, subject.lineage.artifact.md5)
        key = f"{observed.model}/{version} {observed.md5}"
        if key not in baselines:
            baselines.clear()  # of another version: the alias moved on
            baselines[key] = baseline(workspace, store, subject)
        with _log_of(tracking.root, subject.model) as folder:
            found = assess(baselines[key], folder, Window(since, now, version), request.min_rows)
        answer = _answer(observed, baselines[key], found, since, now)
        html = page(answer.as_json(), found.pairs)
        run_id = _keep(store, observed, found, html, now) if found.rows else None
    if request.html:
        _write(request.html, html)
    return replace(answer, run_id=run_id, page=str(request.html) if request.html else None)


def _keep(store: Store, observed: MonitoredVersion, found: Assessment, html: str, now: datetime) -> str:
    """Keep numbers and page in the version's monitoring run, and tag the verdict on the version. Returns the run."""
    run_id = store.observe(observed, _metrics(found), now.timestamp())
    store.write_text(run_id, PAGE, html)
    if registered := store.version(observed.model, observed.version):
        store.tag_version(registered, Monitoring(found.verdict, _iso(now), run_id).tags())
    return run_id


def moment(text: str, now: datetime) -> datetime:
    """The time that is meant: `7d`, `12h` or `30m` ago, or a date or time in ISO format, UTC if it has no zone.

    Raises:
        UserError: when it is none.
    """
    if ago := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[ago["unit"]]: int(ago["number"])})
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(f"--since {text!r} is no time", "--since 7d, 12h, 2026-03-01 or 2026-03-01T12:00Z") from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _version(workspace: Workspace, store: Store, text: str) -> tuple[TrackedModel, int]:
    models = frozenset(workspace.tree.declared.models) | frozenset(store.models())
    subject = resolve(workspace, store, parse(text, models))
    if subject.version is None:
        raise UnknownReference(
            f"{text} is a run without a version: nothing serves it", f"dovetail register {subject.model}"
        )
    return subject, subject.version


@contextmanager
def _log_of(root: Path, model: str) -> Iterator[Path]:
    """The folder of the model's prediction log, for reading it: what cannot be read is translated.

    Raises:
        MissingFile: when a file cannot be read.
    """
    import pyarrow as pa

    folder = log_folder(root, model)
    try:
        yield folder
    except (OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise MissingFile(
            f"the prediction log {folder} cannot be read: {why}", "delete the file that it names"
        ) from error


def _answer(
    observed: MonitoredVersion, compared_with: Baseline, found: Assessment, since: datetime, now: datetime
) -> MonitorAnswer:
    trained = compared_with.trained
    return MonitorAnswer(
        model=observed.model,
        version=observed.version,
        since=_iso(since),
        until=_iso(now),
        rows=found.rows,
        sampled=found.sampled,
        labelled=found.labelled,
        verdict=found.verdict,
        columns=found.columns,
        prediction=found.prediction,
        metric=found.metric,
        reference=TrainingFiles(trained.path, trained.md5, trained.rows),
        notes=found.notes,
    )


def _metrics(found: Assessment) -> dict[str, float]:
    """What MLflow plots over time."""
    values: dict[str, float | None] = {
        "rows": found.rows,
        "labelled": found.labelled,
        "drifted_columns": sum(column.drifted for column in found.columns),
        "drift": float(found.verdict == DRIFT),
    }
    for column in found.compared:
        for name in ("psi", "statistic", "p_corrected", "wasserstein", "unseen"):
            values[f"{name}/{column.name}"] = getattr(column, name)
        values[f"missing/{column.name}"] = column.missing.served if column.missing and column.p is not None else None
    if found.metric and found.metric.served:
        for name, value in asdict(found.metric.served).items():
            values[f"metric/{found.metric.name}" + ("" if name == "value" else f"_{name}")] = value
    return {name: float(value) for name, value in values.items() if value is not None}


def _write(path: Path, html: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {path} cannot be written: {error.strerror}", "--html with another path") from error


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
