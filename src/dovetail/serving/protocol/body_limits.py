"""What every kind of body has to keep to: how many rows and values, each column's name once."""

from collections import Counter
from collections.abc import Iterable, Sequence

from dovetail.serving.protocol.refused import Refused

MOST_VALUES = 2_000_000  # of one request: as Python objects they take a hundred megabytes
UNPACKED = 1 << 26  # bytes of text that the rows of a body may hold


def check_rows(rows: int, most: int) -> None:
    """Refuse more rows than one request may have.

    Raises:
        Refused: when it has more.
    """
    if rows > most:
        raise Refused(
            422,
            f"{rows} rows are more than the {most} that one request may have; send them in parts",
            field="rows",
            expected=f"at most {most}",
            got=str(rows),
        )


def check_values(values: int) -> None:
    """Refuse more values than one request may have.

    Raises:
        Refused: when it has more.
    """
    if values > MOST_VALUES:
        raise Refused(
            422,
            f"{values} values are more than the {MOST_VALUES} that one request may have; send them in parts",
            field="rows",
            expected=f"at most {MOST_VALUES} values",
            got=str(values),
        )


def check_text(size: int) -> None:
    """Refuse what unpacks to more text than one request may have.

    Raises:
        Refused: when it unpacks to more.
    """
    if size > UNPACKED:
        raise Refused(413, f"the body unpacks to more than {UNPACKED} bytes; send it in parts", got=str(size))


def check_names(names: Sequence[str], wanted: Iterable[str] | None) -> None:
    """Refuse a repeated column; one that the model does not know may be there twice.

    Raises:
        Refused: when it names one twice.
    """
    if len(set(names)) == len(names):
        return
    known = None if wanted is None else set(wanted)
    for name, times in Counter(names).items():
        if times > 1 and (known is None or name in known):
            raise Refused(422, f"column {name[:80]!r} is there twice", field=name[:80], expected="each name once")
