"""What a scored file says of itself in its Parquet metadata: which version said it, and of which input."""

import json
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from dovetail.errors import MissingFile
from dovetail.values.tag_keys import GIT_COMMIT, MODEL_MD5, PACKAGE

MODEL = "dovetail.model"
VERSION = "dovetail.version"
INPUT = "dovetail.input"
INPUT_MD5 = "dovetail.input.md5"
COLUMNS = "dovetail.columns"
PROBABILITIES = "dovetail.probabilities"
KEYS = (MODEL, VERSION, MODEL_MD5, PACKAGE, GIT_COMMIT, INPUT, INPUT_MD5, COLUMNS, PROBABILITIES)


@dataclass(frozen=True, slots=True)
class Scored:
    """Who scored a file; `metadata` and `parse` are inverses.

    Attributes:
        md5: Of the model's bytes; `package` is the digest of all that its version consists of.
        commit: That records the model, where it is known.
        part: The input's name below the folder that was scored; `part_md5` is the digest of its bytes.
        columns: Those of the input that were kept; none: all.
        proba: Whether the probabilities are there, too.
    """

    model: str
    version: int
    md5: str
    package: str
    commit: str | None
    part: str
    part_md5: str
    columns: tuple[str, ...] = ()
    proba: bool = False

    def metadata(self) -> dict[bytes, bytes]:
        """As Parquet keeps it."""
        said = {
            MODEL: self.model,
            VERSION: str(self.version),
            MODEL_MD5: self.md5,
            PACKAGE: self.package,
            GIT_COMMIT: self.commit,
            INPUT: self.part,
            INPUT_MD5: self.part_md5,
            COLUMNS: json.dumps(self.columns),
            PROBABILITIES: json.dumps(self.proba),
        }
        return {key.encode(): os.fsencode(value) for key, value in said.items() if value is not None}

    @classmethod
    def parse(cls, metadata: Mapping[bytes, bytes] | None) -> "Scored | None":
        """What a file's metadata says; None where no `dovetail predict` wrote it."""
        said = {key: os.fsdecode(value) for key in KEYS if (value := (metadata or {}).get(key.encode())) is not None}
        try:
            return cls(
                said[MODEL], int(said[VERSION]), said[MODEL_MD5], said[PACKAGE], said.get(GIT_COMMIT), said[INPUT],
                said[INPUT_MD5], tuple(json.loads(said[COLUMNS])), bool(json.loads(said[PROBABILITIES])),
            )  # fmt: skip
        except (KeyError, ValueError, TypeError):
            return None

    @property
    def said_by(self) -> tuple[str, str]:
        """What has to be one in a folder: the digests of the model and of its package."""
        return self.md5, self.package

    def says_the_same(self, other: "Scored") -> bool:
        """Whether a file of one is a file of the other: a version's number and commit may have changed meanwhile."""
        return replace(self, version=other.version, commit=other.commit) == other

    def as_json(self) -> dict[str, object]:
        """The entry in the answer of `dovetail lineage --json`."""
        return {
            "model": self.model, "version": self.version, "md5": self.md5, "package": self.package,
            "commit": self.commit, "input": {"path": self.part, "md5": self.part_md5},
            "columns": list(self.columns) or None, "probabilities": self.proba,
        }  # fmt: skip


def scored(file: Path) -> tuple[Scored, int] | None:
    """What a Parquet file says of itself, and how many rows it has; None where no `dovetail predict` wrote it.

    Raises:
        pyarrow.ArrowException, OSError: when it is no Parquet file, or cannot be read.
    """
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    said = Scored.parse(metadata.metadata)
    return None if said is None else (said, int(metadata.num_rows))


def scored_below(folder: Path, models: Collection[str]) -> tuple[str, ...]:
    """The files below a folder that models of these digests scored; what is no scored file is passed over.

    Raises:
        MissingFile: when there is no such folder.
    """
    import pyarrow as pa

    if not folder.is_dir():
        raise MissingFile(f"{folder} is not a folder", "dovetail predict MODEL --data FOLDER --out FOLDER")
    found = []
    for file in sorted(folder.rglob("*.parquet")):
        with suppress(pa.ArrowException, OSError):
            if file.is_file() and (said := scored(file)) and said[0].md5 in models:
                found.append(file.as_posix())
    return tuple(found)
