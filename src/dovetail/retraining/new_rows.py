"""Which rows are to be added: those of a file, or the labelled ones of the prediction log."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from dovetail.errors import DataUnavailable, DovetailError, MissingFile, UserError
from dovetail.repo.dvc_values import Model
from dovetail.repo.revision import Revision
from dovetail.retraining.table_shape import Shape, fit, plain_rows, read
from dovetail.serving.log import served_rows
from dovetail.serving.log.location import Place, S3Folder
from dovetail.serving.log.object_store import error_text
from dovetail.serving.log.rows import INPUT

FEEDBACK = "feedback"
KEYS = ("into", "columns", "label")


@dataclass(frozen=True, slots=True)
class RetrainSettings:
    """What `meta: {retrain: …}` of a model's artifact says.

    Attributes:
        into: The raw table.
        columns: The raw table's column for each column of the model that has another name there.
        label: The label's column.
    """

    into: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None

    @property
    def raw_label(self) -> str | None:
        """The label's column in the raw table."""
        return self.columns.get(self.label, self.label) if self.label else None


def parse_settings(model: str, given: Any) -> RetrainSettings:
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
    return RetrainSettings(given.get("into"), names, given.get("label"))


@dataclass(frozen=True, slots=True)
class Target:
    """The raw table of `model` that rows are added to.

    Attributes:
        label: Its label column; None where that is not known.
        classes: What the model's card says that a label can be; None where it may be anything.
    """

    model: str
    shape: Shape
    settings: RetrainSettings
    label: str | None
    classes: Collection[Any] | None = None


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows in the shape of the raw table.

    Attributes:
        table: The rows.
        keys: What is recorded once they are added: a digest of all, or `<request>:<row>` for each.
        source: Where they are from, as it is shown.
        set_aside: How many rows of feedback are left out: their label is of another type, or no class of the model.
    """

    table: pa.Table
    keys: tuple[str, ...]
    source: str
    set_aside: int = 0

    def __str__(self) -> str:
        return f"{self.table.num_rows} row{'s' if self.table.num_rows > 1 else ''} from {self.source}"


def from_file(file: Path, target: Target) -> NewRows:
    """The rows of a file.

    Raises:
        MissingFile, UserError: when they cannot be read, or do not fit.
    """
    table = fit(read(file, target.shape, target.settings.columns), target.shape, str(file), target.label)
    return NewRows(table, (f"sha256:{digest(table)}",), file.name)


def from_log(folder: Place, target: Target, known: Collection[str]) -> NewRows | None:
    """The labelled rows of the prediction log in `folder` that are not among the `known` keys; None: there are none.

    Raises:
        MissingFile: when there is no log, or it cannot be read.
        DataUnavailable: when S3 cannot.
        UserError: when its columns are not all those of the raw table, or no new label fits.
    """
    try:
        if not served_rows.is_there(folder):
            what = f"{folder} is not there: no served {target.model} has written a prediction log"
            raise MissingFile(what, f"dovetail serve {target.model}")
        log = served_rows.labelled(folder, served_rows.Window())
    except (OSError, pa.ArrowException) as error:
        what = f"the prediction log {folder} cannot be read: {error_text(error)}"
        if isinstance(error, served_rows.BrokenFile):
            raise MissingFile(what, error.next_command) from error
        if isinstance(folder, S3Folder):
            raise DataUnavailable(what, "run the same command again once S3 answers") from error
        raise MissingFile(what, f"ls -l {folder}") from error
    return _from_feedback(log, target, known)


def _from_feedback(log: pa.Table, target: Target, known: Collection[str]) -> NewRows | None:
    if not log.num_rows:
        return None
    order = [(name, "ascending") for name in ("time", "request_id", "row")]  # the same rows make the same bytes
    labelled = log.sort_by(order)
    requests, numbers = (labelled[name].to_pylist() for name in ("request_id", "row"))
    keys = [f"{request}:{row}" for request, row in zip(requests, numbers, strict=True)]
    fresh = [number for number, key in enumerate(keys) if key not in known]
    if not fresh:
        return None
    found = _in_raw_columns(labelled.take(fresh), target)
    fits = _label_fits(found, target)
    if not any(fits):
        given = ", ".join(sorted({repr(label) for label in found[target.label].to_pylist()})[:3])
        what = f"no label of the {len(fits)} new rows of feedback fits {target.shape.path}: {given}"
        raise UserError(what, f"dovetail retrain {target.model} --with FILE")
    table = fit(found.filter(pa.array(fits)), target.shape, FEEDBACK, target.label)
    added = tuple(keys[number] for number, is_fit in zip(fresh, fits, strict=True) if is_fit)
    return NewRows(table, added, FEEDBACK, len(fresh) - len(added))


def _label_fits(found: pa.Table, target: Target) -> list[bool]:
    """For each row whether its label is a class of the model that the raw table can hold: others stop none that is."""
    label = found.select([target.label])
    known = [_is_class(value, target.classes) for value in label.column(0).to_pylist()]
    alone = Shape(
        target.shape.path,
        {target.label: target.shape.kinds[target.label]} if target.label else {},
        {target.label: target.shape.types[target.label]} if target.label else {},
    )

    def is_fit(rows: pa.Table) -> bool:
        try:
            fit(rows, alone, FEEDBACK, target.label)
        except UserError:
            return False
        return True

    if is_fit(label):
        return known
    return [known[number] and is_fit(label.slice(number, 1)) for number in range(len(label))]


def _is_class(label: Any, classes: Collection[Any] | None) -> bool:
    return classes is None or label in classes or str(label) in map(str, classes)


def card_of(tree: Revision, model: Model) -> Mapping[str, Any]:
    """The model's card; empty where it has none, or its file is in neither cache nor remote."""
    try:
        return tree.card(model) or {}
    except DovetailError:
        return {}


def label_column(model: Model, card: Mapping[str, Any], settings: RetrainSettings, shape: Shape) -> str | None:
    """The label's column in the raw table: the one that is set, else the only one that the model does not take."""
    named = [*settings.columns.values(), *([settings.raw_label] if settings.raw_label else [])]
    if unknown := sorted(set(named) - set(shape.types)):
        place = f"artifacts.{model.declared_name}.meta.retrain"
        what = f"{place} names columns that {shape.path} does not have: {', '.join(unknown)}"
        raise UserError(what, f"use {', '.join(shape.types)}")
    if settings.raw_label:
        return settings.raw_label
    taken = {settings.columns.get(entry["name"], entry["name"]) for entry in card.get("inputs", ())}
    left = [name for name in shape.types if name not in taken]
    return left[0] if taken and len(left) == 1 else None


def _in_raw_columns(log: pa.Table, target: Target) -> pa.Table:
    """The inputs of the model and the label, under the names of the raw table."""
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
        problems = [f"feedback lacks {', '.join(lacking)}"] if lacking else []
        problems += [f"{into} lacks {', '.join(unknown)}"] if unknown else []
        raise UserError(
            f"feedback on {target.model} cannot be added to {into}: {'; '.join(problems)}",
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
