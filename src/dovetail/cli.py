"""The command line: parse, one library call, print, exit code. Everything heavy is imported inside a command."""

import atexit
import gc
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from dovetail.errors import DovetailError
from dovetail.serving.settings import ServeOptions

_JSON = "dovetail.json"  # in the context's meta: an error has to know it too


def _note_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:  # noqa: FBT001  (click's signature)
    ctx.meta[_JSON] = value
    return value


_json = click.option(
    "--json", "as_json", is_flag=True, callback=_note_json, help="Answer with one JSON document and nothing else."
)


def _serve_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add an option for each field of `ServeOptions`, which knows its default and its help."""
    for option in reversed(fields(ServeOptions)):
        least, most = option.metadata["least"], option.metadata["most"]
        between = click.IntRange if isinstance(option.default, int) else click.FloatRange
        how: dict[str, Any] = {"help": option.metadata["help"], "default": option.default}
        if isinstance(option.default, bool):
            how["is_flag"] = True
        elif isinstance(option.default, tuple):
            how |= {"multiple": True, "metavar": "COLUMN"}
        else:
            how |= {"show_default": True, "type": str if least is None else between(least, most)}
        command = click.option("--" + option.name.replace("_", "-"), **how)(command)
    return command


class _Commands(click.Group):
    """The one place where a known error becomes one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        # What imports make is no garbage: looking for it, now and at the end, is a quarter of a short command's time.
        gc.set_threshold(200_000, 10, 10)
        atexit.register(gc.freeze)
        try:
            return super().invoke(ctx)
        except DovetailError as error:
            if ctx.params["traceback"]:
                raise
            if ctx.meta.get(_JSON):
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


@main.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@_json
def register(models: Sequence[str], as_json: bool) -> None:  # noqa: FBT001
    """Show models of the workspace (default: all) in MLflow: run, version, `staging`."""
    from dovetail.registration.register import register as library_call
    from dovetail.render.register import registrations

    done = library_call(models)
    _answer([registration.as_json() for registration in done], as_json=as_json, text=registrations)


@main.command()
@click.option("--all", "everything", is_flag=True, help="Walk all branches, tags and experiments, not HEAD's history.")
@click.option("--repair", is_flag=True, help="Read each version's model file too, and make broken versions whole.")
@_json
def sync(everything: bool, repair: bool, as_json: bool) -> None:  # noqa: FBT001
    """Make MLflow say what git and DVC say: restore missing runs, versions and aliases."""
    from dovetail.registration.sync import sync as library_call
    from dovetail.render.sync import synced
    from dovetail.repo.workspace import open_workspace

    with open_workspace() as workspace:
        done = library_call(workspace, everything=everything, repair=repair, progress=_count)
    _answer(done.as_json(), as_json=as_json, text=synced)
    sys.exit(1 if done.problems else 0)


@main.command()
@_json
def status(as_json: bool) -> None:  # noqa: FBT001
    """Each model: workspace, staging, production, and where they disagree. Exit code 1 if they do."""
    from dovetail.registration.status import status as library_call
    from dovetail.render.status import status as text
    from dovetail.repo.workspace import open_workspace

    with open_workspace() as workspace:
        answer = library_call(workspace)
    _answer(answer, as_json=as_json, text=text)
    sys.exit(0 if all(model["in_sync"] for model in answer["models"]) else 1)


@main.command()
@click.option("--trace", "stage", metavar="STAGE", help="Run STAGE in a copy; tell what it uses and does not declare.")
@_json
def doctor(stage: str | None, as_json: bool) -> None:  # noqa: FBT001
    """What is broken or risky, each with the command that mends it. Exit code 1 if something is."""
    from dovetail.doctor import doctor as library
    from dovetail.doctor import trace_stage
    from dovetail.render.doctor import doctor as text
    from dovetail.repo.workspace import open_workspace

    with open_workspace() as workspace:
        answer = trace_stage.trace(workspace, stage).as_json() if stage else library.doctor(workspace)
    _answer(answer, as_json=as_json, text=text)
    sys.exit(1 if answer["problems"] else 0)


@main.command()
@click.argument("ref")
@click.option("--mermaid", is_flag=True, help="Answer with a Mermaid diagram, for pasting.")
@_json
def lineage(ref: str, mermaid: bool, as_json: bool) -> None:  # noqa: FBT001
    """What made REF (a model, version, run, commit:model); for a data path or md5, what was made of it."""
    from dovetail.registration.lineage import lineage as library_call
    from dovetail.render.lineage import mermaid as diagram
    from dovetail.render.lineage import tree
    from dovetail.repo.workspace import open_workspace

    with open_workspace() as workspace:
        answer = library_call(workspace, ref)
    _answer(answer, as_json=as_json, text=diagram if mermaid else tree)


@main.command()
@click.argument("model")
@click.option("--version", type=int, help="The version; default: that of the workspace's model, else @staging.")
@click.option("--to", "alias", default="production", show_default=True, help="The alias to move.")
@click.option("--reason", default="", help="Why; kept in the tag.")
@click.option("--force", is_flag=True, help="Against its gates; needs --reason, and shows for ever.")
@click.option("--dry-run", is_flag=True, help="Run the gates and change nothing.")
@_json
def promote(as_json: bool, **wish: Any) -> None:  # noqa: FBT001
    """Let an alias name a version of MODEL if its gates pass: tag in git, then MLflow. Exit code 1 if they do not."""
    from dovetail.promotion.promote import Wish
    from dovetail.promotion.promote import promote as library_call
    from dovetail.render.promote import promotion

    answer = library_call(Wish(**wish))
    _answer(answer, as_json=as_json, text=promotion)
    sys.exit(0 if answer["promoted"] or (answer["dry_run"] and answer["passed"]) else 1)


@main.command()
@click.argument("model")
@click.option("--to", "alias", default="production", show_default=True, help="The alias to move back.")
@click.option("--reason", default="", help="Why; kept in the tag.")
@_json
def rollback(model: str, alias: str, reason: str, as_json: bool) -> None:  # noqa: FBT001
    """Let an alias of MODEL name what it named before its last promotion, recorded as a git tag."""
    from dovetail.promotion.rollback import rollback as library_call
    from dovetail.render.promote import moved

    _answer(library_call(model, alias, reason), as_json=as_json, text=moved)


@main.command()
@click.argument("model")
@click.option("--alias", help="Only this alias; default: all.")
@click.option("--at", metavar="TIME", help="Only what was named then: a date or a time in ISO format.")
@_json
def history(model: str, alias: str | None, at: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Who let which alias of MODEL name which version, when and on what evidence; from git alone."""
    from dovetail.promotion.history import history as library_call
    from dovetail.render.history import events

    _answer(library_call(model, alias, at), as_json=as_json, text=events)


@main.command()
@click.argument("a", required=False, metavar="[A]")
@click.argument("b", default="workspace", metavar="[B]")
@click.option("--markdown", is_flag=True, help="Answer with Markdown, for a comment on a pull request.")
@_json
def diff(a: str | None, b: str, markdown: bool, as_json: bool) -> None:  # noqa: FBT001
    """What differs from A to B: data with its rows, params, code, metrics, packages.

    Each is a model (iris, iris@production, iris/3), a run (runs:/ID) or a revision, with or without a model (main,
    HEAD~1:iris): one of git's, an experiment's name, or `workspace`, which is what dvc.lock records of the files that
    lie there. Without A it is production, else staging; without B the workspace. Data with the same md5 is not read;
    data that changed is, and fetched for it where it is not in the cache.
    """
    from dovetail.compare.diff import diff as library_call
    from dovetail.render.diff import text
    from dovetail.render.diff_markdown import markdown as comment
    from dovetail.repo.workspace import open_workspace

    with open_workspace() as workspace:
        answer = library_call(workspace, a, b)
    _answer(answer, as_json=as_json, text=comment if markdown else text)


@main.command("gc")
@click.option("--force", is_flag=True, help="Delete what the plan shows.")
@click.option("--cloud", is_flag=True, help="Look at DVC's default remote too.")
@click.option("--remote", metavar="NAME", help="Look at this remote of DVC too.")
@click.option("--shared-cache", is_flag=True, help="No other repository uses the cache that lies outside of this one.")
@_json
def clean_up(as_json: bool, **wish: Any) -> None:  # noqa: FBT001
    """Plan one clean-up of DVC's cache and MLflow's trash: what no branch, tag, experiment, version or alias needs."""
    from dovetail.cleanup.gc import Wish
    from dovetail.cleanup.gc import gc as library_call
    from dovetail.render.gc import gc as text

    _answer(library_call(Wish(**wish)), as_json=as_json, text=text)


@main.command()
@click.argument("ref")
@click.option("--fresh-env", is_flag=True, help="Build the environment from the commit's requirements.lock first.")
@_json
def reproduce(ref: str, fresh_env: bool, as_json: bool) -> None:  # noqa: FBT001
    """Rebuild REF (a model, version, run, commit:model) in a clean worktree. Exit code 1: not reproduced."""
    from dovetail.render.reproduce import reproduced
    from dovetail.repo.workspace import open_workspace
    from dovetail.reproduction.reproduce import reproduce as library_call
    from dovetail.reproduction.verdict import REPRODUCED

    with open_workspace() as workspace:
        answer = library_call(workspace, ref, fresh_env=fresh_env, tell=_progress)
    _answer(answer, as_json=as_json, text=reproduced)
    sys.exit(0 if answer["verdict"] in REPRODUCED else 1)


@main.command()
@click.argument("ref")
@_serve_options
def serve(ref: str, **options: Any) -> None:
    """Serve REF (iris: its production, iris@staging, iris/3) and follow the alias when it moves.

    The protocol is that of `mlflow models serve`. DOVETAIL_SERVE_TOKENS names bearer tokens, with commas between them.
    """
    from dovetail.serving.serve import ServeRequest
    from dovetail.serving.serve import serve as library_call

    library_call(ServeRequest(ref, ServeOptions(**options)), lambda said: click.echo(said, err=True))


@main.command()
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
@_json
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
        answer = library_call(workspace, Request(**wish), read, _progress)
    _answer(answer, as_json=as_json, text=retrained)
    sys.exit(1 if answer["refused"] or answer["passed"] is False else 0)


@main.command()
@click.argument("ref")
@click.option("--since", default="7d", show_default=True, help="From when on: 7d, 12h or 30m ago, or a time (ISO).")
@click.option("--min-rows", default=100, show_default=True, type=click.IntRange(2), help="Fewer rows tell nothing.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page to this file, too.")
@click.option("--watch", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="Look again and again.")
@_json
def monitor(ref: str, watch: float | None, as_json: bool, **wish: Any) -> None:  # noqa: FBT001
    """Compare what REF (a model or version) answered with what it was trained and tested on. Exit code 1 on drift."""
    from dovetail.monitoring import monitor as library
    from dovetail.render import monitor as render
    from dovetail.repo.workspace import open_workspace

    asked = library.Wish(ref, **wish)
    with open_workspace() as workspace:
        if watch is None:
            answer = library.monitor(workspace, asked)
            _answer(answer, as_json=as_json, text=render.monitored)
            sys.exit(1 if answer["verdict"] == "drift" else 0)
        from dovetail.monitoring.watch import watch as library_call

        def told(answer: dict[str, Any]) -> None:
            click.echo(json.dumps(answer, ensure_ascii=False) if as_json else render.line(answer))

        library_call(workspace, asked, watch, told, lambda error: click.echo(f"dovetail: {error}", err=True))


def _progress(message: str) -> None:
    """What long work is at, on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"{message} …", err=True)


def _count(done: int, total: int) -> None:
    """A line on a terminal that is written over; nothing in a pipe."""
    if sys.stderr.isatty():
        click.echo(f"\r{done} of {total}" if done < total else "\r\033[K", err=True, nl=False)


def _answer(content: Any, *, as_json: bool, text: Callable[[Any], str]) -> None:
    click.echo(json.dumps(content, indent=2, ensure_ascii=False) if as_json else text(content))
