"""Commands that run stages or models."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli.completion import MODEL, REF, STAGE
from dovetail.cli.options import cluster_option, document, json_option, opened, serve_options, show
from dovetail.cli.progress import progress
from dovetail.serving.settings import ServeOptions

if TYPE_CHECKING:
    from dovetail.errors import DovetailError


@click.command()
@click.argument("ref", type=REF)
@click.option("--fresh-env", is_flag=True, help="Build the environment from the commit's requirements.lock first.")
@click.option(
    "--workers", type=click.IntRange(1), metavar="N", default=1, help="Run N stages side by side; default: 1."
)
@json_option
def reproduce(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Rebuild REF (a model, version, run, commit:model) in a clean worktree. Exit code 1: not reproduced."""
    from dovetail.render.reproduce import reproduced
    from dovetail.reproduction.reproduce import ReproduceRequest
    from dovetail.reproduction.reproduce import reproduce as library_call

    with opened() as (workspace, tracking), progress() as telling:
        answer = library_call(workspace, tracking, ReproduceRequest(**options), tell=telling)
    show(answer.as_json(), as_json=as_json, text=reproduced)
    sys.exit(0 if answer.reproduced else 1)


@click.command()
@click.argument("refs", metavar="REF...", nargs=-1, required=True, type=REF)
@serve_options
def serve(refs: tuple[str, ...], **options: Any) -> None:
    """Serve each REF (iris: its production, iris@staging, iris/3) and follow the alias when it moves.

    Several models are below /models/NAME/, each followed on its own. The protocol is that of `mlflow models serve`.
    DOVETAIL_SERVE_TOKENS names bearer tokens, with commas between them.
    """
    from dovetail.serving.serve import ServeRequest
    from dovetail.serving.serve import serve as library_call

    library_call(ServeRequest(refs, ServeOptions(**options)), lambda said: click.echo(said, err=True))


@click.command()
@click.argument("ref", type=REF)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="A folder of Parquet or CSV, or a file.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Output folder: one Parquet file per input file."
)
@click.option("--columns", multiple=True, metavar="COLUMN", help="An input column to keep; default: all.")
@click.option("--proba", is_flag=True, help="Add the probability of each class.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes on this machine; default: one a core.")
@cluster_option
@click.option("--trust", default="", metavar="FILE", help="Use only a version that this file vouches for.")
@json_option
def predict(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Score the files of a folder by REF (iris: its production, iris@staging, iris/3), part by part.

    Each part gets a Parquet file of its name, whole or not at all. Killed and started again, it goes on. Exit code 1: a
    part could not be scored; the others are.
    """
    from dovetail.cluster.predict import PredictRequest
    from dovetail.cluster.predict import predict as library_call
    from dovetail.render.predict import predicted

    with progress() as telling:
        answer = library_call(PredictRequest(**options), tell=telling.count)
    show(answer.as_json(), as_json=as_json, text=predicted)
    sys.exit(1 if answer.failed else 0)


@click.command()
@click.argument("model", type=MODEL)
@click.option("--with", "data", required=True, metavar="DATA", help="A file of labelled rows, or the word feedback.")
@click.option("--into", metavar="PATH", help="The raw table that gets the rows, where there are several.")
@click.option("--from", "base", default="HEAD", show_default=True, metavar="REV", help="The commit to begin with.")
@click.option(
    "--pause",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="Hours to wait after the last retraining; 0: none.",
)
@click.option("--dry-run", is_flag=True, help="Check the rows and change nothing.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Run N stages of the pipeline side by side.")
@json_option
def retrain(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Add labelled rows to the data of MODEL on a branch, run the pipeline, show the candidate's gates.

    DATA is a file (CSV, TSV, JSON lines, Parquet, Arrow, Feather, Excel or ODS), or `feedback`: what the prediction log
    holds with a label. Nothing is promoted, and the working tree stays as it is. Exit code 1: a gate refuses it, it is
    too early, nothing is new.
    """
    from dovetail.render.retrain import retrained
    from dovetail.retraining.retrain import RetrainRequest
    from dovetail.retraining.retrain import retrain as library_call

    with opened() as (workspace, tracking), progress() as telling:
        answer = library_call(workspace, tracking, RetrainRequest(**options), tell=telling)
    show(answer.as_json(), as_json=as_json, text=retrained)
    sys.exit(1 if answer.refused or answer.passed is False else 0)


@click.command()
@click.argument("ref", type=REF)
@click.option(
    "--since", default="7d", show_default=True, help="Start of the window: 7d, 12h or 30m ago, or an ISO time."
)
@click.option(
    "--min-rows",
    default=100,
    show_default=True,
    type=click.IntRange(2),
    help="Do not judge a column with fewer rows.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file, too.")
@click.option("--data", type=click.Path(path_type=Path), help="Check the rows of this folder or file instead.")
@click.option(
    "--watch", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Repeat every SECONDS until Ctrl-C."
)
@json_option
def monitor(watch: float | None, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Compare what REF (a model or version) answered with what it was trained and tested on. Exit code 1 on drift.

    With --data it is a batch that is compared, before or after `dovetail predict`.
    """
    from dovetail.monitoring.monitor import MonitorAnswer, MonitorRequest
    from dovetail.monitoring.monitor import monitor as library_call
    from dovetail.render import monitor as render

    request = MonitorRequest(**options)
    if watch is None:
        with opened() as (workspace, tracking):
            answer = library_call(workspace, tracking, request)
        show(answer.as_json(), as_json=as_json, text=render.monitored)
        sys.exit(1 if answer.verdict == "drift" else 0)
    from dovetail.monitoring.watch import WatchRequest
    from dovetail.monitoring.watch import watch as watch_call

    def tell(answer: MonitorAnswer) -> None:
        content = answer.as_json()
        click.echo(document(content) if as_json else render.line(content))

    def failed(error: "DovetailError") -> None:
        click.echo(f"dovetail: {error}", err=True)

    watch_call(opened, WatchRequest(request, watch), tell=tell, failed=failed)


@click.command()
@click.argument("targets", nargs=-1, type=STAGE)
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Run N stages side by side on this machine.")
@cluster_option
@click.option("-k", "--keep-going", is_flag=True, help="After a failure, go on with stages that do not depend on it.")
@click.option("-f", "--force", is_flag=True, help="Run stages even if nothing changed.")
@click.option("-s", "--single-item", is_flag=True, help="Only the targets, not what they depend on.")
@click.option("--dry", is_flag=True, help="Print what would run, and run nothing.")
@click.option("--experiments", is_flag=True, help="Run what dvc exp run --queue has queued, side by side.")
@json_option
def repro(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Reproduce the pipeline as `dvc repro` does, with stages side by side. Exit code 2: a stage failed."""
    from dovetail.cluster.repro import ReproRequest
    from dovetail.cluster.repro import repro as library_call
    from dovetail.render.repro import StageLines, summary
    from dovetail.repo.workspace import open_workspace

    with open_workspace() as workspace, StageLines(silent=as_json) as lines:
        request = ReproRequest(**options)
        answer = library_call(workspace, request, begun=lines.begun, ended=lines.ended, waiting=lines.waiting)
    show(answer.as_json(), as_json=as_json, text=summary)
    sys.exit(2 if answer.failed else 0)
