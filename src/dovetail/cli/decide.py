"""Commands that decide what MLflow's registry names."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dovetail.cli.completion import ALIAS, MODEL, VERSION
from dovetail.cli.options import json_option, opened, show
from dovetail.cli.progress import progress

if TYPE_CHECKING:
    from dovetail.gates.gate_verdict import Verdict


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

    Refused while the files are still available.
    """
    from dovetail.promotion.write_off import WriteOffRequest
    from dovetail.promotion.write_off import write_off as library_call
    from dovetail.render.promote import written_off

    with opened() as (workspace, tracking):
        answer = library_call(workspace, tracking, WriteOffRequest(**options))
    show(answer.as_json(), as_json=as_json, text=written_off)
