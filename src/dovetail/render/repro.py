"""A pipeline on its way: on a terminal a table of what runs, in a pipe a line a stage."""

import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.table import Table

_HOW = {"unchanged": "unchanged", "restored": "restored from the run-cache", "would run": "would run"}


class StageLines:
    """Shows what is heard of stages; on a terminal what runs stands below what has ended."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._running: dict[str, tuple[str, float]] = {}
        self._closing = ExitStack()
        self._print: Any = print

    def __enter__(self) -> Self:
        if not self._silent and sys.stdout.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(highlight=False)
            self._closing.enter_context(Live(console=console, get_renderable=self._table, transient=True))
            self._print = lambda text: console.print(text, markup=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def begun(self, stage: str, worker: str) -> None:
        """A stage runs."""
        self._running[stage] = (worker, time.monotonic())

    def ended(self, outcome: Any) -> None:
        """It has ended, or was not run at all."""
        self._running.pop(outcome.stage, None)
        if not self._silent:
            self._print("\n".join(_lines(outcome)))

    def waiting(self, holder: str) -> None:
        """Another `dovetail repro` of the repository is at work."""
        if not self._silent:
            self._print(f"waiting for the dovetail repro of {holder}")
            sys.stdout.flush()

    def _table(self) -> "Table":
        from rich.table import Table

        table = Table(box=None, padding=(0, 2), show_header=bool(self._running))
        for name, side in (("running", "left"), ("worker", "left"), ("seconds", "right")):
            table.add_column(name, justify=side, style="dim")  # type: ignore[arg-type]
        for stage, (worker, since) in list(self._running.items()):
            table.add_row(stage, worker, f"{time.monotonic() - since:.0f}")
        return table


def _lines(outcome: Any) -> list[str]:
    if outcome.how in _HOW:
        return [f"{outcome.stage}: {_HOW[outcome.how]}"]
    if outcome.how == "skipped":
        return [f"{outcome.stage}: skipped" + (f", {outcome.why}" if outcome.why else "")]
    said = f"FAILED, {outcome.why}" if outcome.how == "failed" else "ran"
    place = "" if outcome.worker == "here" else f" on {outcome.worker}"
    if outcome.how == "ran" and outcome.why:
        place = f" here ({outcome.why})"
    first = f"{outcome.stage}: {said}{place}, {outcome.seconds:.1f} s"
    return [first, *(f"  │ {line}" for line in outcome.output.splitlines())]


def summary(answer: dict[str, Any]) -> str:
    """How many stages became what, and what to type where one failed."""
    hows = [stage["how"] for stage in answer["stages"]]
    counted = ", ".join(f"{hows.count(how)} {how}" for how in dict.fromkeys(hows))
    if not answer["failed"]:
        return counted or "no stages"
    return f"{counted}; next: correct what {answer['failed'][0]} says, then: dovetail repro"
