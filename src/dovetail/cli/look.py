"""Commands that look: no model, tag or registry entry changes."""

import sys
from pathlib import Path
from typing import Any

import click

from dovetail.cli.completion import ALIAS, MODEL, REF, STAGE
from dovetail.cli.options import json_option, opened, show


@click.command("list")
@click.argument("model", required=False, type=MODEL)
@json_option
def list_models(model: str | None, as_json: bool) -> None:  # noqa: FBT001
    """List models with versions and aliases; with MODEL, list its versions with metrics."""
    from dovetail.registration.list_models import ListRequest
    from dovetail.registration.list_models import list_models as library_call
    from dovetail.render.list_models import models

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, ListRequest(model))
    show(answer.as_json(), as_json=as_json, text=models)


@click.command("show")
@click.argument("ref", type=REF)
@json_option
def show_version(ref: str, as_json: bool) -> None:  # noqa: FBT001
    """Show REF (a model, version, run, commit:model) on one screen: metrics, gates, promotions, what made it."""
    from dovetail.registration.show import ShowRequest
    from dovetail.registration.show import show as library_call
    from dovetail.render.show import version

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, ShowRequest(ref))
    show(answer.as_json(), as_json=as_json, text=version)


@click.command()
@click.argument("model", required=False, type=MODEL)
@json_option
def status(model: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show where workspace, staging and production stand for each model (or MODEL), and where they disagree.

    Exit code 1 if they disagree.
    """
    from dovetail.registration.status import StatusRequest
    from dovetail.registration.status import status as library_call
    from dovetail.render.status import status as text

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, StatusRequest(model))
    show(answer.as_json(), as_json=as_json, text=text)
    sys.exit(0 if answer.in_sync else 1)


@click.command()
@click.argument("ref", type=REF)
@click.option("--mermaid", is_flag=True, help="Answer with a Mermaid diagram, for pasting.")
@click.option(
    "--scored",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Also list the files in FOLDER that predict wrote by it.",
)
@json_option
def lineage(ref: str, mermaid: bool, scored: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Show what produced REF (a model, version, run, commit:model, scored file), or what a data path or md5 led to."""
    from dovetail.registration.lineage import LineageRequest
    from dovetail.registration.lineage import lineage as library_call
    from dovetail.render.lineage import mermaid as diagram
    from dovetail.render.lineage import tree

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, LineageRequest(ref, scored))
    show(answer.as_json(), as_json=as_json, text=diagram if mermaid else tree)


@click.command()
@click.argument("a", required=False, metavar="[A]", type=REF)
@click.argument("b", default="workspace", metavar="[B]", type=REF)
@click.option("--markdown", is_flag=True, help="Answer with Markdown, for a comment on a pull request.")
@json_option
def diff(a: str | None, b: str, markdown: bool, as_json: bool) -> None:  # noqa: FBT001
    """Show what differs from A to B: data with its rows, params, code, metrics, packages.

    Each is a model (iris, iris@production, iris/3), a run (runs:/ID) or a revision, with or without a model (main,
    HEAD~1:iris): one of git's, an experiment's name, or `workspace`, which is what dvc.lock records of the files that
    lie there. Without A it is production, else staging; without B the workspace; where neither names a model, each of
    them. Data with the same md5 is not read; data that changed is, and fetched for it where it is not in the cache.
    """
    from dovetail.compare.diff import DiffRequest
    from dovetail.compare.diffs import diff as library_call
    from dovetail.render.diff import text
    from dovetail.render.diff_markdown import markdown as comment
    from dovetail.render.diffs import each

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, DiffRequest(a, b))
    show(answer.as_json(), as_json=as_json, text=each(comment if markdown else text))


@click.command()
@click.argument("model", type=MODEL)
@click.option("--alias", type=ALIAS, help="Only this alias; default: all.")
@click.option("--at", metavar="TIME", help="Show what each alias named at this date or time (ISO).")
@json_option
def history(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """List the promotions of MODEL: who pointed which alias at which version, when and why. Reads git only."""
    from dovetail.promotion.history import HistoryRequest
    from dovetail.promotion.history import history as library_call
    from dovetail.render.history import events
    from dovetail.repo.workspace import open_workspace  # not `opened`: MLflow's side is not needed, nor its imports

    with open_workspace() as workspace:
        answer = library_call(workspace, HistoryRequest(**options))
    show(answer.as_json(), as_json=as_json, text=events)


@click.command()
@click.argument("ref", required=False, type=REF)
@click.option("--port", type=click.IntRange(1, 65535), help="Default: 5000, or the next that is free.")
@click.option("--no-browser", is_flag=True, help="Print the address without opening a browser.")
def ui(ref: str | None, port: int | None, no_browser: bool) -> None:  # noqa: FBT001
    """Open MLflow's pages of this repository's store, at REF (a model, version, run); Ctrl-C ends them.

    Where MLFLOW_TRACKING_URI names a tracking server, the page there is opened, and nothing is started.
    """
    from dovetail.registration.ui import UiRequest
    from dovetail.registration.ui import ui as library_call
    from dovetail.tracking.store_error import without_secrets

    def ready(address: str) -> None:
        click.echo(without_secrets(address))
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    with opened() as (workspace, tracking):
        library_call(workspace, tracking, UiRequest(ref, port), ready)


@click.command()
@click.argument("ref", required=False, type=REF)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="The file of the page; default: build/report.html."
)
@json_option
def report(ref: str | None, html: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Write one page on REF (a model, version, run), or on each model: metrics, gates, lineage, plots, drift, history.

    The page is one file that needs neither a network nor scripts. With --json it is written only with --html.
    """
    from dovetail.render.report import page, summary
    from dovetail.reporting.report import ReportRequest
    from dovetail.reporting.report import report as library_call
    from dovetail.system.page_file import write_page

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, ReportRequest(ref))
    content = answer.as_json()
    target = html or (None if as_json else Path("build/report.html"))
    if target:
        write_page(target, page(content, answer.pictures))
    show(content, as_json=as_json, text=summary)
    if target and not as_json:
        click.echo(f"{target.resolve().as_uri()}")


@click.command()
@click.option(
    "--trace", "stage", metavar="STAGE", type=STAGE, help="Run STAGE in a copy; list what it uses but does not declare."
)
@json_option
def doctor(stage: str | None, as_json: bool) -> None:  # noqa: FBT001
    """List what is broken or risky, each with the command that repairs it. Exit code 1 if something is."""
    from dovetail.doctor import doctor as library
    from dovetail.doctor import trace_stage
    from dovetail.render.doctor import doctor as text

    with opened() as (workspace, tracking):
        answer = (
            trace_stage.trace(workspace, trace_stage.TraceRequest(stage))
            if stage
            else library.doctor(workspace, tracking, library.DoctorRequest())
        )
    show(answer.as_json(), as_json=as_json, text=text)
    sys.exit(1 if answer.problems else 0)
