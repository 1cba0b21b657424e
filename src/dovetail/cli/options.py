"""What commands share: options that several have, showing an answer."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from dovetail.serving.settings import ServeOptions

if TYPE_CHECKING:
    from dovetail.repo.workspace import Workspace
    from dovetail.tracking.connection import Tracking

JSON = "dovetail.json"  # in the context's meta: an error has to know it too


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001  (click's signature)
    ctx.meta[JSON] = value
    return value


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_note_json, help="Answer with one JSON document and nothing else."
)

yes_option = click.option("--yes", is_flag=True, help="Write it without asking.")
cluster_option = click.option(
    "--cluster", metavar="ADDRESS", help="A Dask scheduler (tcp://…), or a job queue (slurm:jobs=4,cores=2)."
)


def serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of `ServeOptions`, which knows its default and its help."""
    for option in reversed(fields(ServeOptions)):
        least, most = option.metadata["least"], option.metadata["most"]
        between = click.IntRange if isinstance(option.default, int) else click.FloatRange
        how: dict[str, Any] = {"help": option.metadata["help"], "default": option.default}
        if isinstance(option.default, bool):
            how["is_flag"] = True
        elif isinstance(option.default, tuple):
            how |= {"multiple": True, "metavar": "COLUMN"}
        elif option.metadata["among"]:
            how |= {"show_default": True, "type": click.Choice(option.metadata["among"]), "metavar": "FORMAT"}
        elif option.metadata["metavar"]:
            kind = click.Path(dir_okay=False) if option.metadata["metavar"] == "FILE" else str
            how |= {"type": kind, "metavar": option.metadata["metavar"]}
        else:
            how |= {"show_default": True, "type": str if least is None else between(least, most)}
        command = click.option("--" + option.name.replace("_", "-"), **how)(command)
    return command


@contextmanager
def opened() -> "Iterator[tuple[Workspace, Tracking]]":
    """The repository of the current folder, as git and DVC have it, and its MLflow store: what every verb is given."""
    from dovetail.repo.workspace import open_workspace
    from dovetail.tracking.connection import Tracking

    with open_workspace() as workspace:
        yield workspace, Tracking(workspace.store_root)


def document(content: Any, indent: int | None = None) -> str:
    """The JSON of an answer, with signs that the output's encoding lacks escaped."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return json.dumps(content, indent=indent, ensure_ascii=encoding != "utf8")


def show(content: Any, *, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print an answer: the JSON document, or what `text` makes of it."""
    if as_json:
        click.echo(document(content, indent=2))
        return
    # With --color always to Python's own stream: colorama, which DVC's dependencies put around it, takes colours out.
    click.echo(text(content), file=sys.__stdout__ if click.get_current_context().color else None)
