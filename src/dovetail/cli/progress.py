"""What long work is at: lines on a terminal's standard error, nothing in a pipe and with --json."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from dovetail.cli.options import JSON


class Progress:
    """Lines with the seconds since the beginning; the ones about what the answer shows anyway are wiped at its end."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._began = time.monotonic()
        self._passing = 0

    def __call__(self, message: str) -> None:
        """A line that stays."""
        if self._shown:
            click.echo(f"{time.monotonic() - self._began:5.1f} s  {message} …", err=True)

    def passing(self, message: str) -> None:
        """A line that the answer repeats: it goes when the answer comes."""
        self(message)
        self._passing += 1

    def count(self, done: int, total: int) -> None:
        """A line that is written over."""
        if self._shown:
            click.echo(f"\r{done} of {total}" if done < total else "\r\033[K", err=True, nl=False)

    def wipe(self) -> None:
        """Take back the lines that the answer repeats, where it goes to the same terminal."""
        if self._shown and self._passing and sys.stdout.isatty():
            click.echo(f"\033[{self._passing}A\033[J", err=True, nl=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """Tell people, and nobody else."""
    telling = Progress(shown=sys.stderr.isatty() and not click.get_current_context().meta.get(JSON))
    try:
        yield telling
    finally:
        telling.wipe()
