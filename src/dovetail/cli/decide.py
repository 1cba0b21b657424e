"""Commands that decide what MLflow's registry names."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli.completion import ALIAS, MODEL, VERSION
from dovetail.cli.options import json_option, opened, show
from dovetail.cli.progress import progress

if TYPE_CHECKING:
    from dovetail.gates.gate_verdict import Verdict
    from dovetail.scaffold.add import AddAnswer


@click.command()
@click.argument("model", required=False)
@click.option("--path", metavar="FILE", help="The model's file or folder; default: the one output that looks like one.")
@click.option("--yes", is_flag=True, help="Write it without asking.")
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
@click.option("--yes", is_flag=True, help="Write it without asking.")
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
@click.option("--yes", is_flag=True, help="Write it without asking.")
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


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...", type=MODEL)
@json_option
def register(models: Sequence[str], as_json: bool) -> None:  # noqa: FBT001
    """Show models of the workspace (default: all) in MLflow: run, version, `staging`."""
    from dovetail.registration.register import RegisterRequest
    from dovetail.registration.register import register as library_call
    from dovetail.render.register import registrations

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, RegisterRequest(tuple(models)))
    show(answer.as_json(), as_json=as_json, text=registrations)


@click.command()
@click.argument("model", type=MODEL)
@click.option(
    "--version",
    type=int,
    shell_complete=VERSION.shell_complete,
    help="The version; default: that of the workspace's model, else @staging.",
)
@click.option("--to", "alias", default="production", show_default=True, type=ALIAS, help="The alias to move.")
@click.option("--reason", default="", help="Why; kept in the tag.")
@click.option("--force", is_flag=True, help="Promote although gates fail; needs --reason and is recorded.")
@click.option("--dry-run", is_flag=True, help="Run the gates and change nothing.")
@click.option("--yes", "new_alias", is_flag=True, help="Create an alias that no model has used, without asking.")
@click.option(
    "--trust",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the digests of what was promoted to this file, for `dovetail serve --trust`.",
)
@json_option
def promote(as_json: bool, trust: Path | None, **options: Any) -> None:  # noqa: FBT001
    """Point an alias at a version of MODEL if its gates pass: a git tag first, then MLflow. Exit code 1 otherwise."""
    from dovetail.errors import UnknownAlias
    from dovetail.promotion.promote import PromoteRequest
    from dovetail.promotion.promote import promote as library_call
    from dovetail.render.promote import promotion
    from dovetail.serving.trust_file import TrustRequest, write_trust

    with opened() as (workspace, tracking), progress() as telling:

        def decided(verdict: "Verdict") -> None:
            telling.passing(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.name}")

        try:
            answer = library_call(workspace, tracking, PromoteRequest(**options), decided=decided)
        except UnknownAlias as error:
            if as_json or not sys.stdin.isatty() or not click.confirm(f"{error.message}. Take the new one?"):
                raise
            options["new_alias"] = True
            answer = library_call(workspace, tracking, PromoteRequest(**options), decided=decided)
        if trust and answer.promoted and not answer.dry_run:
            write_trust(workspace, tracking, TrustRequest(answer.model, answer.alias, trust))
    show(answer.as_json(), as_json=as_json, text=promotion)
    sys.exit(0 if answer.promoted or (answer.dry_run and answer.passed) else 1)


@click.command()
@click.argument("model", type=MODEL)
@click.option("--to", "alias", default="production", show_default=True, type=ALIAS, help="The alias to move back.")
@click.option("--reason", default="", help="Why; kept in the tag.")
@json_option
def rollback(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Point an alias of MODEL back at its previous version, recorded as a git tag."""
    from dovetail.promotion.rollback import RollbackRequest
    from dovetail.promotion.rollback import rollback as library_call
    from dovetail.render.promote import moved

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, RollbackRequest(**options))
    show(answer.as_json(), as_json=as_json, text=moved)


@click.command("write-off")
@click.argument("model", type=MODEL)
@click.argument("rev", required=False)
@click.option("--reason", default="", help="Why; kept in the tags. Required.")
@json_option
def write_off(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Withdraw the promotions and versions of MODEL at commit REV (default: production's), whose files are lost.

    Refused while the files can still be had.
    """
    from dovetail.promotion.write_off import WriteOffRequest
    from dovetail.promotion.write_off import write_off as library_call
    from dovetail.render.promote import written_off

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, WriteOffRequest(**options))
    show(answer.as_json(), as_json=as_json, text=written_off)
