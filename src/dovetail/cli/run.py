"""Commands that run stages or models."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dovetail.cli.options import json_option, progress, show


@click.command()
@click.argument("ref")
@click.option("--fresh-env", is_flag=True, help="Build the environment from the commit's requirements.lock first.")
@json_option
def reproduce(ref: str, fresh_env: bool, as_json: bool) -> None:  # noqa: FBT001
    """Rebuild REF (a model, version, run, commit:model) in a clean worktree. Exit code 1: not reproduced."""
    from dovetail.render.reproduce import reproduced
    from dovetail.repo.workspace import open_workspace
    from dovetail.reproduction.reproduce import reproduce as library_call
    from dovetail.reproduction.verdict import REPRODUCED

    with open_workspace() as workspace:
        answer = library_call(workspace, ref, fresh_env=fresh_env, tell=progress)
    show(answer, as_json=as_json, text=reproduced)
    sys.exit(0 if answer["verdict"] in REPRODUCED else 1)


@click.command()
@click.argument("ref")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; elsewhere needs tokens.")
@click.option("--port", default=5001, type=click.IntRange(0, 65535), show_default=True, help="0 takes a free one.")
@click.option(
    "--poll",
    default=2.0,
    type=click.FloatRange(0.05),
    show_default=True,
    help="Seconds between two looks at the alias.",
)
@click.option(
    "--max-mb",
    default=16,
    type=click.IntRange(1),
    show_default=True,
    help="Largest body in MiB; more is answered with 413.",
)
@click.option(
    "--max-rows",
    default=100_000,
    type=click.IntRange(1),
    show_default=True,
    help="Most rows of a request; more is 422.",
)
@click.option(
    "--max-waiting",
    default=1_000,
    type=click.IntRange(1),
    show_default=True,
    help="Most requests that wait; more are 503.",
)
@click.option(
    "--timeout",
    default=30.0,
    type=click.FloatRange(0.05),
    show_default=True,
    help="Seconds for a request to arrive and be answered.",
)
@click.option("--no-log", is_flag=True, help="Keep nothing of what was served; else it goes to monitoring/MODEL/.")
@click.option("--leave-out", multiple=True, metavar="COLUMN", help="A column that the log does not keep.")
def serve(ref: str, leave_out: Sequence[str], **wish: Any) -> None:
    """Serve REF (iris: its production, iris@staging, iris/3) and follow the alias when it moves.

    The protocol is that of `mlflow models serve`. DOVETAIL_SERVE_TOKENS names bearer tokens, with commas between them.
    """
    from dovetail.serving.http.server import run
    from dovetail.serving.serve import settings

    run(settings(ref, leave_out=leave_out, **wish), lambda said: click.echo(said, err=True))


@click.command()
@click.argument("model")
@click.option("--with", "data", required=True, metavar="DATA", help="A file of labelled rows, or the word feedback.")
@click.option("--into", metavar="PATH", help="The raw table that gets the rows, where there are several.")
@click.option("--from", "base", default="HEAD", show_default=True, metavar="REV", help="The commit to begin with.")
@click.option(
    "--pause",
    type=click.FloatRange(0),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="To wait after the last one; 0: none.",
)
@click.option("--dry-run", is_flag=True, help="Check the rows and change nothing.")
@json_option
def retrain(as_json: bool, **wish: Any) -> None:  # noqa: FBT001
    """Add labelled rows to the data of MODEL on a branch, run the pipeline, show the candidate's gates.

    DATA is a file (CSV, Parquet, JSON lines), or `feedback`: what the prediction log holds with a label. Nothing is
    promoted, and the working tree stays as it is. Exit code 1: a gate refuses it, it is too early, nothing is new.
    """
    from dovetail.monitoring.served_rows import read
    from dovetail.render.retrain import retrained
    from dovetail.repo.workspace import open_workspace
    from dovetail.retraining.retrain import Request
    from dovetail.retraining.retrain import retrain as library_call

    with open_workspace() as workspace:
        answer = library_call(workspace, Request(**wish), read, progress)
    show(answer, as_json=as_json, text=retrained)
    sys.exit(1 if answer["refused"] or answer["passed"] is False else 0)


@click.command()
@click.argument("ref")
@click.option("--since", default="7d", show_default=True, help="From when on: 7d, 12h or 30m ago, or a time (ISO).")
@click.option("--min-rows", default=100, show_default=True, type=click.IntRange(2), help="Fewer rows tell nothing.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file, too.")
@click.option("--watch", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Look again and again.")
@json_option
def monitor(ref: str, watch: float | None, as_json: bool, **wish: Any) -> None:  # noqa: FBT001
    """Compare what REF (a model or version) answered with what it was trained and tested on. Exit code 1 on drift."""
    from dovetail.monitoring import monitor as library
    from dovetail.render import monitor as render
    from dovetail.repo.workspace import open_workspace

    asked = library.Wish(ref, **wish)
    with open_workspace() as workspace:
        if watch is None:
            answer = library.monitor(workspace, asked)
            show(answer, as_json=as_json, text=render.monitored)
            sys.exit(1 if answer["verdict"] == "drift" else 0)
        from dovetail.monitoring.watch import watch as library_call

        def told(answer: dict[str, Any]) -> None:
            click.echo(json.dumps(answer, ensure_ascii=False) if as_json else render.line(answer))

        library_call(workspace, asked, watch, told, lambda error: click.echo(f"dovetail: {error}", err=True))
