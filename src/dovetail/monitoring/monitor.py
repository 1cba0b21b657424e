"""`dovetail monitor`: what a version answered, compared with what it was trained and tested on; kept in MLflow."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dovetail.errors import MissingFile, StoreError, UnknownReference, UserError
from dovetail.monitoring.assessment import Looked, look
from dovetail.monitoring.baseline import Reference, reference
from dovetail.monitoring.page import page
from dovetail.monitoring.served_rows import Window
from dovetail.registration.resolve import TrackedModel, resolve
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import has_store, open_store, tracking_uri
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.tracking.store import Store
from dovetail.values.reference import parse
from dovetail.values.tag_keys import Monitoring

FOLDER = "monitoring"  # of the prediction log, below the root
PAGE = "monitor.html"  # in the run
_AGO = re.compile(r"(?P<number>\d{1,6})(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for."""

    ref: str
    since: str = "7d"
    min_rows: int = 100
    html: Path | None = None


def monitor(workspace: Workspace, wish: Wish, known: dict[str, Reference] | None = None) -> dict[str, Any]:
    """The answer of `dovetail monitor`; its numbers and its page are kept in MLflow, its verdict on the version.

    Args:
        workspace: Whose prediction log is read.
        wish: What is asked for.
        known: What earlier looks compared with; read anew where it lacks the version, and added.

    Raises:
        UserError: when the reference names no version, or `since` no time.
        OutsideError: when MLflow or the training data cannot be had.
    """
    known = {} if known is None else known
    now = datetime.now(UTC)
    since = moment(wish.since, now)
    if not has_store(workspace.store_root):
        raise StoreError(f"there is no MLflow store at {tracking_uri(workspace.store_root)}", "dovetail sync")
    with open_store(workspace.store_root) as store:
        subject = _version(workspace, store, wish.ref)
        observed = MonitoredVersion(subject.model, subject.version or 0, subject.lineage.artifact.md5)
        key = f"{observed.model}/{observed.version} {observed.md5}"
        if key not in known:
            known.clear()  # nobody looks at an older one again
            known[key] = reference(workspace, store, subject)
        with _log_of(workspace, subject.model) as folder:
            looked = look(known[key], folder, Window(since, now, subject.version), wish.min_rows)
        answer = _answer(known[key], looked, since, now)
        html = page(answer, looked.pairs)
        answer["run_id"] = store.observe(observed, _metrics(looked), now.timestamp())
        store.write_text(answer["run_id"], PAGE, html)
        if version := store.version(subject.model, observed.version):
            store.tag_version(version, Monitoring(looked.verdict, _iso(now), answer["run_id"]).tags())
    if wish.html:
        _write(wish.html, html)
        answer["page"] = str(wish.html)
    return answer


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


def _version(workspace: Workspace, store: Store, text: str) -> TrackedModel:
    models = frozenset(workspace.tree.declared.models) | frozenset(store.models())
    subject = resolve(workspace, store, parse(text, models))
    if subject.version is None:
        raise UnknownReference(
            f"{text} is a run without a version: nothing serves it", f"dovetail register {subject.model}"
        )
    return subject


@contextmanager
def _log_of(workspace: Workspace, model: str) -> Iterator[Path]:
    """The folder of the model's prediction log; what cannot be read of it is said."""
    import pyarrow as pa

    folder = workspace.store_root / FOLDER / model
    try:
        yield folder
    except (OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise MissingFile(
            f"the prediction log {folder} cannot be read: {why}", "delete the file that it names"
        ) from error


def _answer(known: Reference, looked: Looked, since: datetime, now: datetime) -> dict[str, Any]:
    trained = known.trained
    return {
        "model": known.subject.model,
        "version": known.subject.version,
        "since": _iso(since),
        "until": _iso(now),
        "rows": looked.rows,
        "sampled": looked.sampled,
        "labelled": looked.labelled,
        "verdict": looked.verdict,
        "columns": [asdict(column) for column in looked.columns],
        "prediction": asdict(looked.prediction) if looked.prediction else None,
        "metric": asdict(looked.metric) if looked.metric else None,
        "reference": {"path": trained.path, "md5": trained.md5, "rows": trained.rows},
        "notes": list(looked.notes),
        "run_id": None,
        "page": None,
    }


def _metrics(looked: Looked) -> dict[str, float]:
    """What MLflow plots over time."""
    found: dict[str, float | None] = {
        "rows": looked.rows,
        "labelled": looked.labelled,
        "drifted_columns": sum(column.drifted for column in looked.columns),
        "drift": float(looked.verdict == "drift"),
    }
    for column in looked.compared:
        for name in ("psi", "statistic", "p_corrected", "wasserstein", "unseen"):
            found[f"{name}/{column.name}"] = getattr(column, name)
        found[f"missing/{column.name}"] = column.missing.served if column.missing and column.p is not None else None
    if looked.metric and looked.metric.served:
        for name, value in asdict(looked.metric.served).items():
            found[f"metric/{looked.metric.name}" + ("" if name == "value" else f"_{name}")] = value
    return {name: float(value) for name, value in found.items() if value is not None}


def _write(path: Path, html: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {path} cannot be written: {error.strerror}", "--html with another path") from error


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
