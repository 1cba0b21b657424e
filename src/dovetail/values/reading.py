"""How a file of rows is written where its name's ending does not say so, as a data set's settings state it."""

import codecs
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dovetail.values.lineage import StageRecord


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of rows is to be read.

    Attributes:
        separator: Of a text file; empty: the one that the ending of its name promises.
        encoding: Of a text file, by Python's name.
        decimal: What stands before the fraction of a number; `thousands` what stands between three digits.
        null_values: What stands for a missing value.
        sheet: Of an Excel file; None: the only one.
    """

    separator: str = ""
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    null_values: tuple[str, ...] = ("",)
    sheet: str | None = None

    @property
    def plain_numbers(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return (self.decimal, self.thousands) == (".", "")


USUAL = Reading()
_KEYS = frozenset(Reading.__dataclass_fields__)


def is_utf8(encoding: str) -> bool:
    """Whether text of this encoding is UTF-8, whatever it is called."""
    try:
        return codecs.lookup(encoding).name in ("utf-8", "ascii")
    except LookupError:
        return False


def reading_of(path: str, stages: Iterable[StageRecord]) -> Reading:
    """What the stage that reads the file at `path` has as params: a block with a key of `Reading`.

    A stage without such a block that makes one file of it, as a copy is made, is followed to the readers of that.
    """
    todo, seen, all_stages = [path], set(), list(stages)
    while todo:
        place = todo.pop()
        seen.add(place)
        for stage in all_stages:
            if not any(dep.overlaps(place) for dep in stage.deps):
                continue
            blocks = [value for value in stage.params.values() if isinstance(value, Mapping) and _KEYS & set(value)]
            if blocks:
                return _parsed(blocks[0])
            if len(stage.outs) == 1 and stage.outs[0].path not in seen:
                todo.append(stage.outs[0].path)
    return USUAL


def _parsed(block: Mapping[str, Any]) -> Reading:
    """The keys of the block that are those of a reading; what is no text there is left to the stage to refuse."""
    found = USUAL
    for key in sorted(_KEYS - {"null_values"}):
        if isinstance(block.get(key), str):
            found = replace(found, **{key: block[key]})
    words = block.get("null_values")
    return replace(found, null_values=tuple(map(str, words))) if isinstance(words, list | tuple) else found
