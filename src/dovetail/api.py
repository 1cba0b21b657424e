"""The Python API: a repository, whose methods are the verbs of the command line, each imported when it is called.

It is longer than a file here should be because it is a list: every verb once, where editors and `help` look for it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dovetail.system.disk import disk_errors
from dovetail.values.answer import Answer, show_answers

if TYPE_CHECKING:
    from dovetail.cleanup.gc import GcAnswer
    from dovetail.cluster.predict import PredictAnswer
    from dovetail.cluster.repro import ReproAnswer
    from dovetail.compare.diff import DiffAnswer
    from dovetail.compare.diffs import DiffsAnswer
    from dovetail.doctor.doctor import DoctorAnswer
    from dovetail.doctor.trace_stage import TraceAnswer
    from dovetail.monitoring.monitor import MonitorAnswer
    from dovetail.promotion.history import HistoryAnswer
    from dovetail.promotion.promote import PromoteAnswer
    from dovetail.promotion.rollback import RollbackAnswer
    from dovetail.promotion.write_off import WriteOffAnswer
    from dovetail.registration.lineage import LineageAnswer
    from dovetail.registration.list_models import ListAnswer
    from dovetail.registration.register import RegisterAnswer
    from dovetail.registration.show import ShowAnswer
    from dovetail.registration.status import StatusAnswer
    from dovetail.registration.sync import SyncAnswer
    from dovetail.reporting.report import ReportAnswer
    from dovetail.reproduction.reproduce import ReproduceAnswer
    from dovetail.retraining.retrain import RetrainAnswer
    from dovetail.scaffold.add import AddAnswer
    from dovetail.scaffold.init import InitAnswer
    from dovetail.scaffold.new import NewAnswer

Answered = TypeVar("Answered")


def _silent(_: str) -> None:
    """Nobody is told what long work is at."""


def _html(answer: Answer) -> str | None:
    """What a notebook shows of an answer."""
    from dovetail.render.notebook import html

    return html(type(answer).__name__, answer.as_json(), getattr(answer, "pictures", {}))


class Repository:
    """A DVC repository and its MLflow store.

    Each method answers with a frozen dataclass; its `as_json()` is the document of the command's `--json`. Errors are
    `dovetail.DovetailError`s. Each call reads git, DVC and MLflow anew, so that it sees what others did meanwhile.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        """Find the repository that `path` (default: the current folder) lies in.

        Raises:
            NotARepository: when it lies in none.
        """
        from dovetail.repo.workspace import open_workspace
        from dovetail.tracking.connection import Tracking

        with disk_errors(Path(path or ".")), open_workspace(Path(path) if path else None) as workspace:
            self.root = workspace.root
            self._tracking = Tracking(workspace.store_root)
        show_answers(_html)

    def __repr__(self) -> str:
        return f"<dovetail.Repository {self.root}>"

    def _call(self, verb: Callable[..., Answered], request: object, **hooks: Callable[[str], None]) -> Answered:
        from dovetail.repo.workspace import open_workspace

        with disk_errors(self.root), open_workspace(self.root) as workspace:
            return verb(workspace, self._tracking, request, **hooks)

    def _call_without_tracking(self, verb: Callable[..., Answered], request: object) -> Answered:
        from dovetail.repo.workspace import open_workspace

        with disk_errors(self.root), open_workspace(self.root) as workspace:
            return verb(workspace, request)

    def init(self, model: str | None = None, path: str | None = None, *, yes: bool = False) -> "InitAnswer":
        """What the repository lacks for the model at `path` to be registered, written if `yes` is set."""
        from dovetail.scaffold.init import InitRequest, init

        return self._call(init, InitRequest(model, path, write=yes))

    def add_data(self, name: str, data: str | Path, target: str | None = None, *, yes: bool = False) -> "AddAnswer":
        """What the data file would add to params.yaml as the data set `name`, written if `yes` is set."""
        from dovetail.scaffold.add import AddDataRequest, add_data

        return self._call_without_tracking(add_data, AddDataRequest(name, Path(data), target, write=yes))

    def add_model(
        self, name: str, data: str, target: str | None = None, estimator: str | None = None, *, yes: bool = False
    ) -> "AddAnswer":
        """What a model of the data set `data` would add to params.yaml and dvc.yaml, written if `yes` is set."""
        from dovetail.scaffold.add import AddModelRequest, add_model

        return self._call_without_tracking(add_model, AddModelRequest(name, data, target, estimator, write=yes))

    def status(self, model: str | None = None) -> "StatusAnswer":
        """Where workspace, staging and production stand for each model (or one), and where they disagree."""
        from dovetail.registration.status import StatusRequest, status

        return self._call(status, StatusRequest(model))

    def list(self, model: str | None = None) -> "ListAnswer":
        """The models with versions and aliases; or one model's versions with metrics."""
        from dovetail.registration.list_models import ListRequest, list_models

        return self._call(list_models, ListRequest(model))

    def show(self, ref: str) -> "ShowAnswer":
        """One version or run: metrics, gates, aliases, promotions, what produced it."""
        from dovetail.registration.show import ShowRequest, show

        return self._call(show, ShowRequest(ref))

    def lineage(self, ref: str, scored: str | Path | None = None) -> "LineageAnswer":
        """What produced `ref` (a model, version, run, commit:model); for a data path or md5, what it led to.

        Of the files below the folder `scored` those are told that these versions wrote.
        """
        from dovetail.registration.lineage import LineageRequest, lineage

        return self._call(lineage, LineageRequest(ref, Path(scored) if scored else None))

    def diff(self, a: str | None = None, b: str = "workspace") -> "DiffAnswer | DiffsAnswer":
        """What differs from `a` (default: production, else staging) to `b`; of every model where neither names one."""
        from dovetail.compare.diff import DiffRequest
        from dovetail.compare.diffs import diff

        return self._call(diff, DiffRequest(a, b))

    def history(self, model: str, alias: str | None = None, at: str | None = None) -> "HistoryAnswer":
        """The promotions of the model: who pointed which alias at which version, when and why. Reads git only."""
        from dovetail.promotion.history import HistoryRequest, history

        return self._call_without_tracking(history, HistoryRequest(model, alias, at))

    def report(self, ref: str | None = None, *, html: str | Path | None = None) -> "ReportAnswer":
        """All that is known of `ref`, or of each model; `html` is a file that gets the page."""
        from dovetail.reporting.report import ReportRequest, report

        answer = self._call(report, ReportRequest(ref))
        if html:
            from dovetail.render.report import page
            from dovetail.system.page_file import write_page

            write_page(Path(html), page(answer.as_json(), answer.pictures))
        return answer

    def register(self, *models: str) -> "RegisterAnswer":
        """Show models of the workspace (default: all) in MLflow: run, version, `staging`."""
        from dovetail.registration.register import RegisterRequest, register

        return self._call(register, RegisterRequest(models))

    def promote(  # noqa: PLR0913  (the options of the command)
        self,
        model: str,
        version: int | None = None,
        *,
        to: str = "production",
        reason: str = "",
        force: bool = False,
        dry_run: bool = False,
        yes: bool = False,
        trust: str | Path | None = None,
    ) -> "PromoteAnswer":
        """Point the alias `to` at a version if its gates pass: a git tag first, then MLflow.

        An alias that no model has used is refused unless `yes` is set. The digests of what was promoted are written to
        the file `trust`, for servers without the repository.
        """
        from dovetail.promotion.promote import PromoteRequest, promote
        from dovetail.serving.trust_file import TrustRequest, write_trust

        request = PromoteRequest(model, version, to, reason, force=force, dry_run=dry_run, new_alias=yes)
        answer = self._call(promote, request)
        if trust and answer.promoted and not dry_run:
            self._call(write_trust, TrustRequest(model, to, Path(trust)))
        return answer

    def rollback(self, model: str, *, to: str = "production", reason: str = "") -> "RollbackAnswer":
        """Point the alias `to` back at its previous version, recorded as a git tag."""
        from dovetail.promotion.rollback import RollbackRequest, rollback

        return self._call(rollback, RollbackRequest(model, alias=to, reason=reason))

    def write_off(self, model: str, rev: str | None = None, *, reason: str) -> "WriteOffAnswer":
        """Withdraw what commit `rev` (default: production's) has of `model`, whose files are lost for good."""
        from dovetail.promotion.write_off import WriteOffRequest, write_off

        return self._call(write_off, WriteOffRequest(model, rev, reason))

    def sync(self, *, everything: bool = False, repair: bool = False) -> "SyncAnswer":
        """Make MLflow say what git and DVC say: restore missing runs, versions and aliases."""
        from dovetail.registration.sync import SyncRequest, sync

        return self._call(sync, SyncRequest(everything=everything, repair=repair))

    def doctor(self) -> "DoctorAnswer":
        """What is broken or risky, each with the command that repairs it."""
        from dovetail.doctor.doctor import DoctorRequest, doctor

        return self._call(doctor, DoctorRequest())

    def trace_stage(self, stage: str) -> "TraceAnswer":
        """Run the stage in a copy; what it uses and does not declare."""
        from dovetail.doctor.trace_stage import TraceRequest, trace

        return self._call_without_tracking(trace, TraceRequest(stage))

    def gc(
        self, *, force: bool = False, cloud: bool = False, remote: str | None = None, shared_cache: bool = False
    ) -> "GcAnswer":
        """Plan one clean-up of DVC's cache and MLflow's trash; `force` deletes what the plan shows."""
        from dovetail.cleanup.gc import GcRequest, gc

        request = GcRequest(force=force, cloud=cloud, remote=remote, shared_cache=shared_cache)
        return self._call(gc, request)

    def repro(  # noqa: PLR0913  (the options of the command)
        self,
        *targets: str,
        workers: int | None = None,
        cluster: str | None = None,
        keep_going: bool = False,
        force: bool = False,
        single_item: bool = False,
        dry: bool = False,
        experiments: bool = False,
    ) -> "ReproAnswer":
        """Make what `dvc repro` makes, on `workers` processes of this machine or the workers of a Dask cluster.

        With `experiments` that is what `dvc queue start` makes of the queued experiments.
        """
        from dovetail.cluster.repro import ReproRequest, repro

        request = ReproRequest(targets, workers, cluster, keep_going, force, single_item, dry, experiments)
        return self._call_without_tracking(repro, request)

    def predict(  # noqa: PLR0913  (the options of the command)
        self,
        ref: str,
        data: str | Path,
        out: str | Path,
        *,
        columns: Sequence[str] = (),
        proba: bool = False,
        workers: int | None = None,
        cluster: str | None = None,
        trust: str | Path = "",
    ) -> "PredictAnswer":
        """Score each part of `data` (a folder, or a file) by `ref`, into a Parquet file of its name below `out`."""
        from dovetail.cluster.predict import PredictRequest, predict

        asked = PredictRequest(ref, Path(data), Path(out), tuple(columns), proba, workers, cluster, str(trust))
        with disk_errors(self.root):
            return predict(asked, root=self.root)

    def reproduce(
        self, ref: str, *, fresh_env: bool = False, workers: int = 1, tell: Callable[[str], None] = _silent
    ) -> "ReproduceAnswer":
        """Rebuild `ref` (a model, version, run, commit:model) in a clean worktree, `workers` stages at a time."""
        from dovetail.reproduction.reproduce import ReproduceRequest, reproduce

        return self._call(reproduce, ReproduceRequest(ref, fresh_env=fresh_env, workers=workers), tell=tell)

    def retrain(  # noqa: PLR0913  (the options of the command)
        self,
        model: str,
        data: str,
        *,
        into: str | None = None,
        base: str = "HEAD",
        pause: float = 24.0,
        dry_run: bool = False,
        workers: int | None = None,
        tell: Callable[[str], None] = _silent,
    ) -> "RetrainAnswer":
        """Add labelled rows (a file, or `feedback`) to the data on a branch, run the pipeline, ask the gates.

        With `workers` so many stages of the pipeline run side by side.
        """
        from dovetail.retraining.retrain import RetrainRequest, retrain

        request = RetrainRequest(model, data, into=into, base=base, pause=pause, dry_run=dry_run, workers=workers)
        return self._call(retrain, request, tell=tell)

    def monitor(
        self,
        ref: str,
        *,
        since: str = "7d",
        min_rows: int = 100,
        html: str | Path | None = None,
        data: str | Path | None = None,
    ) -> "MonitorAnswer":
        """Compare what `ref` (a model or version) answered, or a batch, with what it was trained and tested on."""
        from dovetail.monitoring.monitor import MonitorRequest, monitor

        page, batch = (Path(path) if path else None for path in (html, data))
        return self._call(monitor, MonitorRequest(ref, since, min_rows, page, batch))


def open_repository(path: str | Path | None = None) -> Repository:
    """The repository that `path` (default: the current folder) lies in.

    Raises:
        NotARepository: when it lies in none.
    """
    return Repository(path)


def new_project(project: str | Path, data: str | Path, target: str, name: str | None = None) -> "NewAnswer":
    """Make a project in the folder `project` from a data file, whose column `target` is to be predicted.

    Raises:
        UserError: when the folder is not empty, or the data are no table with that column; nothing is written then.
        OutsideError: when git or DVC cannot do their part.
    """
    from dovetail.scaffold.new import NewRequest, new

    with disk_errors(Path(project)):
        return new(NewRequest(Path(project), Path(data), target, name))
