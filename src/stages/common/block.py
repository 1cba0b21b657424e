"""What the blocks of params.yaml have in common: they are frozen, refuse unknown keys, and check paths."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict

RAW_FORMATS = (".csv", ".parquet", ".jsonl")


class Block(BaseModel):
    """A block of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def _import_path(value: str) -> str:
    if not all(part.isidentifier() for part in value.split(".")) or "." not in value:
        raise ValueError("is not an import path such as sklearn.datasets.load_iris")
    return value


def _raw_file(value: str) -> str:
    if Path(value).suffix not in RAW_FORMATS:
        raise ValueError(f"does not end in one of {', '.join(RAW_FORMATS)}")
    return value


ImportPath = Annotated[str, AfterValidator(_import_path)]
RawFile = Annotated[str, AfterValidator(_raw_file)]
