"""A raw file made ready to scan: one that is packed, in another encoding or of Excel is copied plain for the time."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.common.block import RAW_FORMATS, raw_format
from stages.common.errors import StageError
from stages.common.outputs import scratch_folder
from stages.data.encoding import as_utf8, is_utf8
from stages.data.raw_file import ARROW, CSV, FIX, JSONL, PARQUET, Format, Raw, malformed

_KINDS = {".csv": CSV, ".tsv": CSV, ".jsonl": JSONL, ".parquet": PARQUET, ".arrow": ARROW, ".feather": ARROW}
_CHUNK = 1 << 20


def require(path: Path) -> None:
    """Refuse a path at which nothing is, saying where it could come from."""
    if not path.exists():
        raise StageError(f"{path} is missing; put the file there, or restore it: dvc pull, git checkout")


def part_files(folder: Path) -> list[Path]:
    """The files of a folder that are parts, by name; hidden ones and those that begin with `_` are none.

    Raises:
        StageError: it has none, or something else beside them.
    """
    require(folder)
    if not folder.is_dir():
        return [folder]
    found = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "_")))
    formats = {}
    for path in found:
        if path.is_dir():
            raise StageError(f"{path} is a folder; the parts of {folder} have to be files in it: move them there")
        try:
            formats[path] = raw_format(path.name)
        except ValueError as error:
            raise StageError(f"{path} is no part: it {error}; remove it from the folder") from error
    if not found:
        raise StageError(
            f"{folder} is a folder without parts, files that end in one of {', '.join(RAW_FORMATS)}; {FIX}"
        )
    if odd := next((path for path in found if formats[path] != formats[found[0]]), None):
        raise StageError(f"{odd} is of another format than {found[0].name}; write all parts in one")
    return found


@contextmanager
def opened(path: Path, form: Format, folder: Path, shown: Path | None = None) -> Iterator[Raw]:
    """The file at `path`, ready to scan.

    Args:
        path: the file, or a folder of Parquet files.
        form: how it is to be read.
        folder: where a plain copy may lie until the end.
        shown: the name by which messages call it and whose ending says its format, if not `path`.

    Raises:
        StageError: it is missing, empty, or not what its name or its settings say.
    """
    shown = shown or path
    require(path)
    if path.is_dir():
        if not any(path.rglob("*.parquet")):
            parts = f", or set {form.place}.part_rows if other files in it are parts" if any(path.iterdir()) else ""
            raise StageError(f"{shown} is a folder without a .parquet file; {FIX}{parts}")
        yield Raw(shown, path, PARQUET, form)
        return
    if path.stat().st_size == 0:
        raise StageError(f"{shown} is empty; {FIX}")
    ending = raw_format(shown.name)
    packed = ending.endswith(".gz")
    kind = _KINDS.get(ending.removesuffix(".gz"))
    plain = kind is not None and not packed and (kind not in {CSV, JSONL} or is_utf8(form.encoding))
    if plain and kind is not None:
        yield Raw(shown, path, kind, form)
        return
    with scratch_folder(folder / shown.name) as copies:
        copy = copies / "plain"
        if kind is None:
            from stages.data.excel import to_parquet

            to_parquet(path, form, copy, shown)
            kind = PARQUET
        elif packed:
            _unpack(path, copy, shown)
            if not is_utf8(form.encoding):
                as_utf8(copy, form.encoding, copy.with_name("text"), shown, form.place)
                copy = copy.with_name("text")
        else:
            as_utf8(path, form.encoding, copy, shown, form.place)
        if copy.stat().st_size == 0:
            raise StageError(f"{shown} is empty; {FIX}")
        yield Raw(shown, copy, kind, form)


def _unpack(path: Path, copy: Path, shown: Path) -> None:
    try:
        with gzip.open(path, "rb") as packed, copy.open("wb") as plain:
            while chunk := packed.read(_CHUNK):
                plain.write(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise malformed(shown, "gz", error) from error


def scratch(path: Path) -> Path:
    """The folder of `path`, made if it is not there, for what is made beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent
