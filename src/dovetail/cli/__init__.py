"""The command line: parse, one library call, print, exit code. Everything heavy is imported inside a command."""

import atexit
import gc
import json
from pathlib import Path
from typing import Any

import click

from dovetail.cli.decide import add_data, add_model, init, new, promote, register, rollback, write_off
from dovetail.cli.look import diff, history, lineage, status
from dovetail.cli.maintain import clean_up, doctor, sync
from dovetail.cli.options import JSON
from dovetail.cli.run import monitor, reproduce, retrain, serve
from dovetail.errors import DovetailError
from dovetail.system.disk import disk_errors

__all__ = ["main"]


class _Commands(click.Group):
    """The one place where a known error becomes one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        # What imports make is no garbage: looking for it, now and at the end, is a quarter of a short command's time.
        gc.set_threshold(200_000, 10, 10)
        atexit.register(gc.freeze)
        try:
            with disk_errors(Path.cwd()):
                return super().invoke(ctx)
        except DovetailError as error:
            if ctx.params["traceback"]:
                raise
            if ctx.meta.get(JSON):
                content = {"kind": error.kind, "message": error.message, "next": error.next_command}
                click.echo(json.dumps({"error": content}, ensure_ascii=False))
            else:
                click.echo(f"dovetail: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dovetail-ml", message="%(version)s")
@click.option("--traceback", is_flag=True, help="Show where a known error was raised.")
def main(traceback: bool) -> None:  # noqa: FBT001  (read from the context above; click passes flags so)
    """The joint between DVC and MLflow.

    Exit codes: 0 done, 1 the answer is no, 2 you must change something, 3 something outside failed.
    """


for _command in (
    init, new, add_data, add_model, register, sync, status, doctor, lineage, promote, rollback, write_off, history,
    diff, clean_up, reproduce, serve, retrain, monitor,
):  # fmt: skip
    main.add_command(_command)
