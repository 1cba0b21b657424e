"""Which rows are to be added: those of a file, or the labelled ones of the prediction log."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dovetail.errors import UserError
from dovetail.retraining.table_shape import Shape, fit, plain_rows, read

FEEDBACK = "feedback"
INPUT = "input."  # in front of a column of the model in the prediction log
KEYS = ("into", "columns", "label")

ReadLog = Callable[[Path], pa.Table]


@dataclass(frozen=True, slots=True)
class Settings:
    """What `meta: {retrain: …}` of a model's artifact says.

    Attributes:
        into: The raw table.
        columns: Its column for each of the model's that is called otherwise.
        label: The label's column.
    """

    into: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None

    @property
    def raw_label(self) -> str | None:
        """The label's column in the raw table."""
        return self.columns.get(self.label, self.label) if self.label else None


def settings(model: str, given: Any) -> Settings:
    """The settings of a model, checked.

    Raises:
        UserError: when they are malformed or have an unknown key.
    """
    place = f"artifacts.{model}.meta.retrain"
    if not isinstance(given, Mapping):
        raise UserError(f"{place} is {given!r}", f"write it as retrain: {{{KEYS[0]}: …}}")
    if unknown := sorted(set(given) - set(KEYS)):
        raise UserError(f"{place} has unknown keys {unknown}", f"use {', '.join(KEYS)}")
    for key, kind in zip(KEYS, (str, Mapping, str), strict=True):
        if key in given and not isinstance(given[key], kind):
            raise UserError(
                f"{place}.{key} is {given[key]!r}", f"write {'names' if kind is Mapping else 'a name'} there"
            )
    names = {str(name): str(raw) for name, raw in given.get("columns", {}).items()}
    return Settings(given.get("into"), names, given.get("label"))


@dataclass(frozen=True, slots=True)
class Target:
    """What rows are to become: those of a raw table of `model`, whose `label` column is known or not."""

    model: str
    shape: Shape
    settings: Settings
    label: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows in the shape of the raw table.

    Attributes:
        table: The rows.
        keys: What says that they were added: a digest of all, or `<request>:<row>` for each.
        source: Where they are from, for people.
    """

    table: pa.Table
    keys: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        return f"{self.table.num_rows} row{'s' if self.table.num_rows > 1 else ''} from {self.source}"


def from_file(file: Path, target: Target) -> Rows:
    """The rows of a file.

    Raises:
        MissingFile, UserError: when they cannot be read, or do not fit.
    """
    table = fit(read(file, target.shape, target.settings.columns), target.shape, str(file), target.label)
    return Rows(table, (f"sha256:{digest(table)}",), file.name)


def from_feedback(log: pa.Table, target: Target, known: Collection[str]) -> Rows | None:
    """The labelled rows of a prediction log that are not among the `known` keys; None where there are none.

    Raises:
        UserError: when the log's columns are not all those of the raw table.
    """
    if not log.num_rows:
        return None
    order = [(name, "ascending") for name in ("time", "request_id", "row")]  # the same rows make the same bytes
    labelled = log.filter(pc.is_valid(log["label"])).sort_by(order)
    requests, numbers = (labelled[name].to_pylist() for name in ("request_id", "row"))
    keys = [f"{request}:{row}" for request, row in zip(requests, numbers, strict=True)]
    fresh = [number for number, key in enumerate(keys) if key not in known]
    if not fresh:
        return None
    table = fit(_in_raw_columns(labelled.take(fresh), target), target.shape, FEEDBACK, target.label)
    return Rows(table, tuple(keys[number] for number in fresh), FEEDBACK)


def _in_raw_columns(log: pa.Table, target: Target) -> pa.Table:
    """What the model was asked and the label, under the names of the raw table."""
    into, place = target.shape.path, f"artifacts.{target.model}.meta.retrain"
    if target.label is None:
        what = f"which column of {into} is the label of {target.model} is not known"
        raise UserError(what, f"set {place}.label in dvc.yaml")
    asked = [name.removeprefix(INPUT) for name in log.column_names if name.startswith(INPUT)]
    columns = {target.settings.columns.get(name, name): log[INPUT + name] for name in asked}
    columns[target.label] = log["label"]
    lacking = [name for name in target.shape.types if name not in columns]
    unknown = [name for name in columns if name not in target.shape.types]
    if lacking or unknown:
        told = [f"feedback lacks {', '.join(lacking)}"] if lacking else []
        told += [f"{into} lacks {', '.join(unknown)}"] if unknown else []
        raise UserError(
            f"feedback on {target.model} cannot be brought back to {into}: {'; '.join(told)}",
            f"set {place}.columns in dvc.yaml; where cleaning derives or drops columns: "
            f"dovetail retrain {target.model} --with FILE",
        )
    return pa.table(columns)


def digest(table: pa.Table) -> str:
    """The sha256 of the rows' values."""
    found = hashlib.sha256(json.dumps(table.column_names).encode())
    for row in plain_rows(table):
        found.update(json.dumps(list(row.values()), default=str).encode())
    return found.hexdigest()
