"""The command line: parse, one library call, print, exit code. Everything heavy is imported inside a command."""

import atexit
import gc
import io
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from dovetail.cli.begin import add_data, add_model, demo, init, new
from dovetail.cli.decide import promote, register, rollback, write_off
from dovetail.cli.examples import examples
from dovetail.cli.look import diff, doctor, history, lineage, list_models, report, show_version, status, ui
from dovetail.cli.options import JSON, document
from dovetail.cli.repair import clean_up, sync
from dovetail.cli.run import monitor, predict, repro, reproduce, retrain, serve
from dovetail.errors import Defect, DovetailError, Interrupted, UserError, one_line
from dovetail.system.disk import disk_errors
from dovetail.system.telemetry import send_nothing

__all__ = ["main"]

GROUPS = {
    "Begin": (demo, new, add_data, add_model, init),
    "Look": (list_models, show_version, report, ui, status, lineage, diff, history, doctor),
    "Decide": (register, promote, rollback, write_off),
    "Repair": (sync, clean_up),
    "Run": (repro, reproduce, retrain, serve, predict, monitor),
}


def _here() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UserError("the folder that this shell is in was deleted or moved", "cd to the repository") from None


class _Commands(click.Group):
    """The one place where a known error becomes one line and an exit code."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for."""
        width = max(len(name) for name in self.commands)
        for title, commands in GROUPS.items():
            rows = [
                ((one.name or "").ljust(width), one.get_short_help_str(formatter.width - width - 6)) for one in commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows)
        del ctx

    def invoke(self, ctx: click.Context) -> Any:
        # What imports make is no garbage: looking for it, now and at the end, is a quarter of a short command's time.
        send_nothing()
        gc.set_threshold(200_000, 10, 10)
        atexit.register(gc.freeze)
        typed = (*ctx._protected_args, *ctx.args)  # noqa: SLF001  (what is left of it later is not all)
        for stream in (sys.stdout, sys.stderr, sys.__stdout__):
            if isinstance(stream, io.TextIOWrapper):
                with suppress(OSError):  # what it writes to was exchanged
                    stream.reconfigure(errors="replace")  # an arrow is no reason to fail after the work is done
        try:
            with disk_errors(_here()):
                return super().invoke(ctx)
        except DovetailError as error:
            if ctx.params["traceback"]:
                raise
            _tell(error, as_json=bool(ctx.meta.get(JSON)))
            ctx.exit(error.exit_code)
        except click.UsageError as error:
            if "--json" not in typed:
                raise
            next_command = f"{error.ctx.command_path if error.ctx else ctx.command_path} --help"
            _tell(UserError(one_line(error.format_message()), next_command), as_json=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            _tell(Interrupted("interrupted", "run the same command again"), as_json=bool(ctx.meta.get(JSON)))
            ctx.exit(Interrupted.exit_code)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001  (1 would say that the answer is no)
            traceback.print_exc()
            _tell(Defect(error), as_json=bool(ctx.meta.get(JSON)))
            ctx.exit(Defect.exit_code)


def _tell(error: DovetailError, *, as_json: bool) -> None:
    if as_json:
        said = {"kind": error.kind, "message": error.message, "next": error.next_command}
        click.echo(document({"error": said}))
    else:
        click.echo(f"dovetail: {error}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=examples(""))
@click.version_option(package_name="dovetail-ml", message="%(version)s")
@click.option("--traceback", is_flag=True, help="Show where a known error was raised.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colour pass and FAIL; auto: on a terminal, unless NO_COLOR is set.",
)
@click.pass_context
def main(ctx: click.Context, /, color: str, **_: bool) -> None:
    """Join DVC and MLflow: lineage, gated promotion, serving, monitoring and retraining.

    Exit codes: 0 done, 1 the answer is no, 2 you must change something, 3 something outside failed,
    130 interrupted.
    """
    wanted = {"auto": None, "always": True, "never": False}[color]
    ctx.color = False if wanted is None and os.environ.get("NO_COLOR") else wanted


for _command in (command for group in GROUPS.values() for command in group):
    _command.epilog = examples(_command.name or "")
    main.add_command(_command)
