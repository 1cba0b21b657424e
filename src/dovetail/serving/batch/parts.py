"""The parts of a folder that is scored, and where the answers to each go."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dovetail.errors import MissingFile, UserError
from dovetail.system.disk import refused

CSV = (".csv", ".csv.gz")
SUFFIXES = (".parquet", ".pq", *CSV)
_HIDDEN = (".", "_")  # what Spark, Hive and Dask put beside the rows


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A file of rows.

    Attributes:
        name: Below the folder that is scored, with slashes; of a file that is scored alone its name.
        path: Where it is.
    """

    name: str
    path: Path

    @property
    def is_csv(self) -> bool:
        """Whether it is CSV, packed or not; else it is Parquet."""
        return self.name.lower().endswith(CSV)

    @property
    def output(self) -> str:
        """The name of the file with the answers, below the folder that they go to."""
        suffix = next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if _ends(self.name, suffix))
        return self.name[: -len(suffix)] + ".parquet"


def parts(data: Path) -> tuple[list[Part], list[str]]:
    """Every part of a folder, in order, or the one that `data` is; and the names of files that are none.

    What begins with a dot or an underscore is passed over, as Spark and Arrow do.

    Raises:
        MissingFile: when there is no such file or folder, or it has no parts.
        UserError: when two parts would go to one file, a link leads back to a folder that it lies in, or a folder
            cannot be read.
    """
    shown = shlex.quote(str(data))
    try:
        if data.is_file():
            found = [(data.name, data)]
        elif data.is_dir():
            found = list(_files(data, "", frozenset({data.resolve()})))
        else:
            raise MissingFile(f"--data {data}: there is no such file or folder", f"ls -d {shown}")
    except OSError as error:
        where = error.filename or str(data)
        raise refused(error, where, f"ls -ld {shlex.quote(str(where))}") from error
    known = sorted(Part(name, path) for name, path in found if any(_ends(name, suffix) for suffix in SUFFIXES))
    ignored = sorted({name for name, _ in found} - {part.name for part in known})
    if not known:
        kinds = ", ".join(SUFFIXES)
        raise MissingFile(f"--data {data} has no part to score: none of its files is {kinds}", f"ls -R {shown}")
    by_output: dict[str, Part] = {}
    for part in known:
        if (other := by_output.setdefault(part.output, part)) is not part:
            what = f"{other.name} and {part.name} of {data} would both go to {part.output}"
            raise UserError(what, f"mv {shlex.quote(str(part.path))} {shlex.quote(str(_other_name(part.path)))}")
    for output, part in by_output.items():
        above = next((by_output[str(up)] for up in PurePosixPath(output).parents if str(up) in by_output), None)
        if above:
            what = f"{above.name} of {data} would go to {above.output}, in which {part.name} has its place"
            raise UserError(what, f"mv {shlex.quote(str(above.path))} {shlex.quote(str(_other_name(above.path)))}")
    return known, ignored


def _files(folder: Path, below: str, above: frozenset[Path]) -> Iterator[tuple[str, Path]]:
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if entry.name.startswith(_HIDDEN):
            continue
        path = Path(entry.path)
        if not entry.is_dir():
            yield below + entry.name, path
            continue
        real = path.resolve()
        if real in above:
            raise UserError(f"the link {path} leads back to {real}, in which it lies", f"rm {shlex.quote(str(path))}")
        yield from _files(path, f"{below}{entry.name}/", above | {real})


def _ends(name: str, suffix: str) -> bool:
    return name.lower().endswith(suffix) and PurePosixPath(name).name.lower() != suffix


def _other_name(path: Path) -> Path:
    return path.with_name(f"{path.name.replace('.', '-')}{path.suffix}")
