"""Commands that look and change nothing."""

import sys
from typing import Any

import click

from dovetail.cli.options import json_option, opened, show


@click.command()
@json_option
def status(as_json: bool) -> None:  # noqa: FBT001
    """Each model: workspace, staging, production, and where they disagree. Exit code 1 if they do."""
    from dovetail.registration.status import StatusRequest
    from dovetail.registration.status import status as library_call
    from dovetail.render.status import status as text

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, StatusRequest())
    show(answer.as_json(), as_json=as_json, text=text)
    sys.exit(0 if answer.in_sync else 1)


@click.command()
@click.argument("ref")
@click.option("--mermaid", is_flag=True, help="Answer with a Mermaid diagram, for pasting.")
@json_option
def lineage(ref: str, mermaid: bool, as_json: bool) -> None:  # noqa: FBT001
    """What made REF (a model, version, run, commit:model); for a data path or md5, what was made of it."""
    from dovetail.registration.lineage import LineageRequest
    from dovetail.registration.lineage import lineage as library_call
    from dovetail.render.lineage import mermaid as diagram
    from dovetail.render.lineage import tree

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, LineageRequest(ref))
    show(answer.as_json(), as_json=as_json, text=diagram if mermaid else tree)


@click.command()
@click.argument("a", required=False, metavar="[A]")
@click.argument("b", default="workspace", metavar="[B]")
@click.option("--markdown", is_flag=True, help="Answer with Markdown, for a comment on a pull request.")
@json_option
def diff(a: str | None, b: str, markdown: bool, as_json: bool) -> None:  # noqa: FBT001
    """What differs from A to B: data with its rows, params, code, metrics, packages.

    Each is a model (iris, iris@production, iris/3), a run (runs:/ID) or a revision, with or without a model (main,
    HEAD~1:iris): one of git's, an experiment's name, or `workspace`, which is what dvc.lock records of the files that
    lie there. Without A it is production, else staging; without B the workspace. Data with the same md5 is not read;
    data that changed is, and fetched for it where it is not in the cache.
    """
    from dovetail.compare.diff import DiffRequest
    from dovetail.compare.diff import diff as library_call
    from dovetail.render.diff import text
    from dovetail.render.diff_markdown import markdown as comment

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, DiffRequest(a, b))
    show(answer.as_json(), as_json=as_json, text=comment if markdown else text)


@click.command()
@click.argument("model")
@click.option("--alias", help="Only this alias; default: all.")
@click.option("--at", metavar="TIME", help="Only what was named then: a date or a time in ISO format.")
@json_option
def history(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Who let which alias of MODEL name which version, when and on what evidence; from git alone."""
    from dovetail.promotion.history import HistoryRequest
    from dovetail.promotion.history import history as library_call
    from dovetail.render.history import events
    from dovetail.repo.workspace import open_workspace  # not `opened`: MLflow's side is not needed, nor its imports

    with open_workspace() as workspace:
        answer = library_call(workspace, HistoryRequest(**options))
    show(answer.as_json(), as_json=as_json, text=events)
