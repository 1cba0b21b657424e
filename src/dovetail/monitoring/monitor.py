"""`dovetail monitor`: what a version answered, compared with what it was trained and tested on; kept in MLflow."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dovetail.errors import DataUnavailable, MissingFile, StoreError, UnknownReference, UserError
from dovetail.monitoring.assessment import DRIFT, Assessment, assess
from dovetail.monitoring.baseline import Baseline, baseline
from dovetail.monitoring.column_pair import is_text
from dovetail.monitoring.drift import ColumnDrift
from dovetail.monitoring.html_page import page
from dovetail.monitoring.observed_rows import batch, logged
from dovetail.monitoring.performance import MetricDrift
from dovetail.registration.describe import update_description
from dovetail.registration.resolve import TrackedModel, resolve
from dovetail.repo.workspace import Workspace
from dovetail.serving.log import served_rows
from dovetail.serving.log.location import Place, S3Folder, log_folder
from dovetail.serving.log.object_store import error_text
from dovetail.serving.log.served_rows import BrokenFile, Window
from dovetail.system.page_file import write_page
from dovetail.tracking.connection import Tracking
from dovetail.tracking.monitoring_runs import DRIFTED, MonitoredVersion
from dovetail.tracking.store import Store
from dovetail.values import tag_keys
from dovetail.values.age import age
from dovetail.values.answer import Answer
from dovetail.values.reference import parse
from dovetail.values.tag_keys import Monitoring

PAGE, BATCH_PAGE = "monitor.html", "batch.html"  # in the run
BATCH = "batch/"  # before the metrics of batches
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 1, tzinfo=UTC)  # beyond them nothing was answered


@dataclass(frozen=True, slots=True)
class MonitorRequest:
    """What to compare: what `ref`, a model or version, answered `since` then.

    `since` is `7d`, `12h` or `30m` ago, or a time in ISO format. Columns with fewer than `min_rows` served rows get no
    verdict. `html` is a file that the page is written to, too. With `data` it is the rows of that folder or file that
    are compared, scored or not, in place of those that a server answered.
    """

    ref: str
    since: str = "7d"
    min_rows: int = 100
    html: Path | None = None
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainingFiles:
    """The training data that served rows were compared with: paths and digests, with commas between several."""

    path: str
    md5: str
    rows: int


@dataclass(frozen=True, slots=True, repr=False)
class MonitorAnswer(Answer):
    """What a version answered from `since` until `until` (ISO 8601, UTC), compared with its baseline.

    Attributes:
        rows: The rows that it answered; `sampled` of them were compared.
        labelled: Those whose label is known.
        verdict: `drift`, `stable`, or `silent` where too little was served to say.
        columns: The verdict on each input column; `prediction` and `metric` are None where there is no test set.
        notes: What could not be compared, and why.
        run_id: The run that has the numbers over time and the page.
        page: Where the page was written to, too.
        data: The folder or file whose rows were compared; None: those that a server answered.
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
    data: str | None = None

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
            "data": self.data,
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
        if request.data is None:
            _check_logged(tracking.root, subject.model)
        observed = MonitoredVersion(subject.model, version, subject.lineage.artifact.md5)
        key = f"{observed.model}/{version} {observed.md5}"
        if key not in baselines:
            baselines.clear()  # of another version: the alias moved on
            baselines[key] = baseline(workspace, store, subject)
        compared_with = baselines[key]
        inputs = list(compared_with.trained.table.columns)
        if request.data is None:
            with _log_of(tracking.root, subject.model) as folder:
                seen = logged(folder, Window(since, version=version), inputs)  # a server's clock may be ahead
        else:
            table = compared_with.trained.table
            texts = [name for name in inputs if is_text(table[name])]
            since, seen = now, batch(request.data, observed, inputs, texts)
        found = assess(compared_with, seen, request.min_rows)
        answer = _answer(observed, compared_with, found, (since, now), request.data)
        html = page(answer.as_json(), found.pairs)
        is_batch = request.data is not None
        run_id = _keep(store, observed, found, html, now, of_batch=is_batch) if found.rows else None
        if run_id:
            update_description(workspace, store, subject.model, version)
    if request.html:
        write_page(request.html, html)
    return replace(answer, run_id=run_id, page=str(request.html) if request.html else None)


def _keep(  # noqa: PLR0913
    store: Store, observed: MonitoredVersion, found: Assessment, html: str, now: datetime, *, of_batch: bool
) -> str:
    """Keep numbers and page in the version's monitoring run, and tag the verdict on the version. Returns the run.

    Those of batches go under names of their own, so that each is a line that can be followed.
    """
    prefix, page_name = (BATCH, BATCH_PAGE) if of_batch else ("", PAGE)
    metrics = {prefix + name: value for name, value in _metrics(found).items()}
    run_id = store.observe(observed, metrics, now.timestamp())
    store.write_text(run_id, page_name, html)
    if registered := store.version(observed.model, observed.version):
        store.tag_version(registered, Monitoring(found.verdict, _iso(now), run_id).tags())
    return run_id


def moment(text: str, now: datetime) -> datetime:
    """The time that is meant: `7d`, `12h` or `30m` ago, or a date or time in ISO format, UTC if it has no zone.

    Raises:
        UserError: when it is none.
    """
    if (ago := age(text)) is not None:
        return now - ago
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UserError(
            f"--since {text!r} is not a time", "--since 7d, 12h, 2026-03-01 or 2026-03-01T12:00Z"
        ) from error
    return min(max(time if time.tzinfo else time.replace(tzinfo=UTC), _FIRST), _LAST)


def _check_logged(root: Path, model: str) -> None:
    """Refuse a model that was never served with a log.

    Raises:
        MissingFile: when it was not, or the log cannot be read.
    """
    with _log_of(root, model) as folder:
        if not served_rows.is_there(folder):
            what = f"nothing that {model} answered was ever logged: there is no prediction log in {folder}"
            raise MissingFile(what, f"dovetail serve {model}")


def _version(workspace: Workspace, store: Store, text: str) -> tuple[TrackedModel, int]:
    models = frozenset(workspace.tree.declared.models) | frozenset(store.models())
    subject = resolve(workspace, store, parse(text, models))
    if subject.version is None:
        name = subject.run.tags.get(tag_keys.DVC_EXPERIMENT, "")
        next_command = f"dvc exp apply {shlex.quote(name)} && dovetail register {subject.model}"
        what = f"{text} is a run without a version: nothing serves it"
        raise UnknownReference(what, next_command if name else "dovetail sync --all")
    return subject, subject.version


@contextmanager
def _log_of(root: Path, model: str) -> Iterator[Place]:
    """The place of the model's prediction log, for reading it: what cannot be read is translated.

    Raises:
        MissingFile: when a file cannot be read.
        DataUnavailable: when S3 cannot.
    """
    import pyarrow as pa

    folder = log_folder(root, model)
    try:
        yield folder
    except (OSError, pa.ArrowException) as error:
        what = f"the prediction log {folder} cannot be read: {error_text(error)}"
        if isinstance(error, BrokenFile):
            raise MissingFile(what, error.next_command) from error
        if isinstance(folder, S3Folder):
            raise DataUnavailable(what, "run the same command again once S3 answers") from error
        raise MissingFile(what, f"ls -l {folder}") from error


def _answer(
    observed: MonitoredVersion,
    compared_with: Baseline,
    found: Assessment,
    times: tuple[datetime, ...],
    data: Path | None,
) -> MonitorAnswer:
    trained = compared_with.trained
    since, now = times
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
        data=str(data) if data else None,
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
        if column.drifted:
            values[DRIFTED + column.name] = 1.0 if column.psi is None else column.psi
        for name in ("psi", "statistic", "p_corrected", "wasserstein", "unseen"):
            values[f"{name}/{column.name}"] = getattr(column, name)
        values[f"missing/{column.name}"] = column.missing.served if column.missing and column.p is not None else None
    if found.metric and found.metric.served:
        for name, value in asdict(found.metric.served).items():
            values[f"metric/{found.metric.name}" + ("" if name == "value" else f"_{name}")] = value
    return {name: float(value) for name, value in values.items() if value is not None}


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
