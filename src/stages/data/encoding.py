"""Text in other encodings than UTF-8: read by a setting, and guessed where none says so."""

import codecs
from pathlib import Path

from stages.common.errors import StageError

_CHUNK = 1 << 22  # bytes or characters
_GUESSED_FROM = 1 << 16  # bytes around the first that is not UTF-8
# Those that files of today are written in; a guess among all that there are is right less often.
_COMMON = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gb18030", "big5", "euc_kr", "mac_roman", "cp437"]
_NAMES = {"cp932": "shift_jis"}


def is_utf8(encoding: str) -> bool:
    """Whether text of this encoding is read as it is."""
    return codecs.lookup(encoding).name in {"utf-8", "ascii"}


def as_utf8(path: Path, encoding: str, copy: Path, shown: Path, place: str) -> None:
    """Write the text in `path` to `copy` in UTF-8.

    Raises:
        StageError: it is not of this encoding.
    """
    with path.open("rb") as file:
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    if marked and not codecs.lookup(encoding).name.startswith("utf"):
        raise StageError(f"{shown} is UTF-8 by its first bytes, not {encoding}; correct {place}.encoding")
    try:
        with path.open(encoding=encoding, newline="") as text, copy.open("w", encoding="utf-8", newline="") as plain:
            while chunk := text.read(_CHUNK):
                plain.write(chunk)
    except (UnicodeError, ValueError) as error:
        what = " ".join(str(error).split())[:200]
        raise StageError(f"{shown} is not {encoding} ({what}); correct {place}.encoding") from error


def not_utf8(path: Path, line: bytes, number: int, shown: Path, place: str) -> StageError:
    """The refusal of a file whose line `number` is not UTF-8, with a guess at what it is."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = line[error.start : error.start + 12]
    return StageError(
        f"{shown}: line {number} is not UTF-8: {bad!r}; set {place}.encoding, perhaps to {guess(path, line)}"
    )


def guess(path: Path, line: bytes) -> str:
    """What a file that is not UTF-8 may be, by its first bytes and those of a line that is not."""
    with path.open("rb") as file:
        head = file.read(_GUESSED_FROM)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    from charset_normalizer import from_bytes

    sample = line[:_GUESSED_FROM] if len(line) > 200 else line + head  # noqa: PLR2004  a short line alone says little
    best = from_bytes(sample, cp_isolation=_COMMON).best()
    same = best.could_be_from_charset if best else ["cp1252"]  # those in which the sample is the same text
    found = "cp1252" if "cp1252" in same or best is None else best.encoding
    return _NAMES.get(found, found.replace("cp125", "windows-125"))
