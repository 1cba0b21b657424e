"""What the blocks of params.yaml have in common: they are frozen, refuse unknown keys, and check paths."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator

_TEXT_FORMATS = (".csv", ".tsv", ".jsonl")
_EXCEL_FORMATS = (".xlsx", ".xls", ".xlsb", ".ods")
_ARROW_FORMATS = (".arrow", ".feather")
RAW_FORMATS = (*_TEXT_FORMATS, *(f"{text}.gz" for text in _TEXT_FORMATS), ".parquet", *_ARROW_FORMATS, *_EXCEL_FORMATS)


class Block(BaseModel):
    """A block of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


def _import_path(value: str) -> str:
    if not all(part.isidentifier() for part in value.split(".")) or "." not in value:
        raise ValueError("is not an import path such as sklearn.datasets.load_iris")
    return value


def raw_format(path: str) -> str:
    """The ending of RAW_FORMATS that says how a raw file is written; what ends in a slash is a folder of Parquet files.

    Raises:
        ValueError: it has another one.
    """
    if path.endswith("/"):
        return ".parquet"
    name = Path(path).name.lower()
    found = max((ending for ending in RAW_FORMATS if name.endswith(ending)), key=len, default="")
    if not found:
        raise ValueError(f"does not end in one of {', '.join(RAW_FORMATS)}, or in / (a folder of Parquet files)")
    return found


def _raw_file(value: str) -> str:
    raw_format(value)
    return value


def _block_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", value):
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", value).strip("-") or "name"
        raise ValueError(
            f"{value!r} cannot be a name: it becomes a part of stages, keys and files, so letters, digits, "
            f"_ and - alone, for example {plain}"
        )
    return value


def by_kind(kind: Callable[[Any], str | None], message: str) -> Discriminator:
    """What chooses among the kinds of value that a key may have: by the tag, `<…>`, that `kind` gives the value.

    Without it pydantic would say of each kind why the value is none of it. Where `kind` gives None, `message` says what
    to write.
    """
    return Discriminator(kind, custom_error_type="kind", custom_error_message=message)


ImportPath = Annotated[str, AfterValidator(_import_path)]
BlockName = Annotated[str, AfterValidator(_block_name)]
RawFile = Annotated[str, AfterValidator(_raw_file)]
