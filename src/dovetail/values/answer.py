"""What every verb answers with, as far as all answers are alike: a document, and what a notebook shows of it."""

from collections.abc import Callable
from typing import Any

Shown = Callable[["Answer"], str | None]  # an answer as HTML; None where there is nothing better than its repr

_shown: list[Shown] = []  # whoever shows answers to people says how: it is a room above this one


class Answer:
    """An answer of a verb."""

    __slots__ = ()

    def as_json(self) -> Any:
        """The document that `--json` prints."""
        raise NotImplementedError

    def _repr_html_(self) -> str | None:
        """What a notebook shows: IPython asks for it by this name. None in a process that said nothing of notebooks."""
        return _shown[-1](self) if _shown else None


def show_answers(shown: Shown) -> None:
    """Let notebooks show answers by `shown`; said again, it changes nothing."""
    _shown[:] = [shown]
