"""Commands that begin: a project of its own, a repository that is adopted, what either gets besides."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli.options import json_option, opened, show, yes_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from dovetail.scaffold.add import AddAnswer


@click.command()
@click.argument("model", required=False)
@click.option("--path", metavar="FILE", help="The model's file or folder; default: the one output that looks like one.")
@yes_option
@json_option
def init(model: str | None, path: str | None, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Adopt this repository: show what dvc.yaml and .gitignore lack for MODEL to be registered, ask, write it.

    If the folder is not yet a git and DVC repository, init offers to create one. Exit code 1 if something is missing
    and was not written.
    """
    from dovetail.render.init import proposal, written
    from dovetail.scaffold.init import InitRequest
    from dovetail.scaffold.init import init as library_call

    _made_a_repository(yes=yes, may_ask=not as_json and sys.stdin.isatty())
    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, InitRequest(model, path, write=yes))
        show(answer.as_json(), as_json=as_json, text=proposal)
        if answer.changes and not yes and not as_json and sys.stdin.isatty() and click.confirm("Write this?"):
            answer = library_call(workspace, tracking, InitRequest(model, path, write=True))
            click.echo(written(answer.as_json()))
    if answer.changes and not answer.written and not as_json:
        click.echo("nothing is written; next: run the same command again with --yes", err=True)
    sys.exit(1 if answer.changes and not answer.written else 0)


def _made_a_repository(*, yes: bool, may_ask: bool) -> None:
    """Run `git init` and `dvc init` where they are missing and are wanted."""
    from dovetail.errors import NotARepository
    from dovetail.scaffold import repository

    root, commands = repository.missing()
    if not commands:
        return
    typed = " && ".join(" ".join(command) for command in commands)
    if not yes and not (may_ask and click.confirm(f"{root} is not a git and DVC repository. Run: {typed}?")):
        raise NotARepository(f"{root} is not a git and DVC repository", f"dovetail init --yes (or: {typed})")
    repository.make(root, commands)
    click.echo(f"done in {root}: {typed}", err=True)


@click.command()
@click.argument("project", type=click.Path(path_type=Path))
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV, TSV, JSON lines (these also as .gz), Parquet, Arrow, Feather, Excel or ODS.",
)
@click.option("--target", required=True, metavar="COLUMN", help="What is to be predicted.")
@click.option("--name", help="Name of the data set and the model; default: the file's name.")
@json_option
def new(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Make a project of its own from a data file: git, DVC, stages, a schema to correct. Then: dvc repro."""
    from dovetail.render.new import made
    from dovetail.scaffold.new import NewRequest
    from dovetail.scaffold.new import new as library_call

    show(library_call(NewRequest(**options)).as_json(), as_json=as_json, text=made)


@click.command("add-data")
@click.argument("name")
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="FILE", help="As for `dovetail new`.")
@click.option("--target", metavar="COLUMN", help="What is to be predicted: rows without it may be rejected.")
@yes_option
@json_option
def add_data(yes: bool, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Add a data file to this project as NAME: its block in params.yaml, with the schema that it seems to have.

    The file goes to data/raw and to `dvc add`. Exit code 1 if something is missing and was not written.
    """
    from dovetail.scaffold.add import AddDataRequest
    from dovetail.scaffold.add import add_data as library_call

    with opened() as (workspace, _):
        _add(lambda write: library_call(workspace, AddDataRequest(**options, write=write)), yes=yes, as_json=as_json)


@click.command("add-model")
@click.argument("name")
@click.option("--data", required=True, metavar="DATASET", help="A data set of params.yaml.")
@click.option("--target", metavar="COLUMN", help="What is to be predicted; default: that of other models of DATASET.")
@click.option("--estimator", metavar="PATH", help="Its import path; default: one that is good without being tuned.")
@yes_option
@json_option
def add_model(yes: bool, as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Add a model of a data set to this project as NAME: its blocks in params.yaml and dvc.yaml. Then: dvc repro.

    Exit code 1 if something is missing and was not written.
    """
    from dovetail.scaffold.add import AddModelRequest
    from dovetail.scaffold.add import add_model as library_call

    with opened() as (workspace, _):
        _add(lambda write: library_call(workspace, AddModelRequest(**options, write=write)), yes=yes, as_json=as_json)


def _add(call: "Callable[[bool], AddAnswer]", *, yes: bool, as_json: bool) -> None:
    """Show what would be added, ask, write it."""
    from dovetail.render.add import addition

    answer = call(yes)
    if answer.changes and not yes and not as_json and sys.stdin.isatty():
        show(answer.as_json(), as_json=False, text=addition)
        if click.confirm("Write this?"):
            answer = call(True)  # noqa: FBT003
    show(answer.as_json(), as_json=as_json, text=addition)
    if answer.changes and not answer.written and not as_json:
        click.echo("nothing is written; next: run the same command again with --yes", err=True)
    sys.exit(1 if answer.changes and not answer.written else 0)


@click.command()
@click.option(
    "--into",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where the project goes; default: a new temporary folder.",
)
@json_option
def demo(folder: Path | None, as_json: bool) -> None:  # noqa: FBT001
    """Play the tour in two minutes, with commentary: a project made, trained, promoted, served, watched, explained."""
    from dovetail.scaffold.demo import DemoRequest
    from dovetail.scaffold.demo import demo as library_call

    answer = library_call(DemoRequest(folder), tell=(lambda _: None) if as_json else click.echo)
    if as_json:
        show(answer.as_json(), as_json=True, text=str)
