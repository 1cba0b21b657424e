"""Commands that repair and clean up."""

import sys
from typing import Any

import click

from dovetail.cli.options import json_option, opened, show
from dovetail.cli.progress import progress


@click.command()
@click.option(
    "--all", "everything", is_flag=True, help="Walk all branches, tags and experiments, not only HEAD's history."
)
@click.option("--repair", is_flag=True, help="Read each version's model file too, and repair broken versions.")
@json_option
def sync(everything: bool, repair: bool, as_json: bool) -> None:  # noqa: FBT001
    """Make MLflow say what git and DVC say: restore missing runs, versions and aliases."""
    from dovetail.registration.sync import SyncRequest
    from dovetail.registration.sync import sync as library_call
    from dovetail.render.sync import synced

    with opened() as (workspace, tracking), progress() as telling:
        telling("asking git, DVC and MLflow what there is")
        answer = library_call(workspace, tracking, SyncRequest(everything, repair), progress=telling.count)
    show(answer.as_json(), as_json=as_json, text=synced)
    sys.exit(1 if answer.problems else 0)


@click.command("gc")
@click.option("--force", is_flag=True, help="Delete what the plan shows.")
@click.option("--cloud", is_flag=True, help="Look at DVC's default remote too.")
@click.option("--remote", metavar="NAME", help="Look at this remote of DVC too.")
@click.option(
    "--shared-cache",
    is_flag=True,
    help="Also clean a cache outside this repository; asserts that no other repository uses it.",
)
@json_option
def clean_up(as_json: bool, **options: Any) -> None:  # noqa: FBT001
    """Plan one clean-up of DVC's cache and MLflow's trash: what no branch, tag, experiment, version or alias needs."""
    from dovetail.cleanup.gc import GcRequest
    from dovetail.cleanup.gc import gc as library_call
    from dovetail.render.gc import gc as text

    with opened() as (workspace, tracking), progress() as telling:
        answer = library_call(workspace, tracking, GcRequest(**options), tell=telling)
    show(answer.as_json(), as_json=as_json, text=text)
