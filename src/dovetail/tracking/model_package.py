"""A model's file as an MLflow model: bytes as they are, the loader with them, signature and example from its card."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dovetail import joblib_model, native_model
from dovetail.errors import UserError
from dovetail.models import network_file
from dovetail.models.reader import format_of
from dovetail.tracking.artifacts import copy, packaged_name
from dovetail.values import tag_keys

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_DATA = "data"  # the folder in an MLflow model that holds what its loader reads
_CODE = "code"  # and the one with the loader
_VERSION_KEYS = {
    "lightgbm": "lgb_version", "xgboost": "xgb_version", "catboost": "catboost_version", "onnx": "onnxruntime_version",
}  # fmt: skip
_SIGNATURE_TYPES = {
    "float64": "double", "float32": "float", "int64": "long", "int32": "integer", "str": "string", "bool": "boolean",
    "datetime": "datetime", "date": "datetime",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelContent:
    """The model's file, or the folder that MLflow wrote, and what the card beside it says."""

    file: Path
    md5: str
    card: Mapping[str, Any] | None
    requirements: Sequence[str]
    allow: Sequence[str] = ()  # names that the model may name besides the table's


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """The logged model that the files belong to: its id, its run, and the address of its files."""

    model_id: str
    run_id: str
    location: str


@dataclass(frozen=True, slots=True)
class _Template:
    """An MLflow model without the model's bytes and its address: mostly the same from commit to commit."""

    files: Mapping[str, bytes]  # by their path in it
    described: Mapping[str, Any]  # what its MLmodel file says


def save(folder: Path, content: ModelContent, logged: LoggedModel) -> None:
    """Write the MLflow model that belongs to `logged` to `folder`, as `mlflow.pyfunc.save_model` would.

    A folder that MLflow wrote is one already: it stays as it is.

    Raises:
        UserError: when the card beside the model does not describe one.
    """
    from mlflow.models.model import MLMODEL_FILE_NAME

    if content.file.is_dir():
        copy(content.file, folder)
        return
    template = _template(*_described(content))
    for path, written in template.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(written)
    copy(content.file, folder / _DATA / _name_of(content.file))
    truths = [column["name"] for column in (content.card or {}).get("inputs", ()) if column.get("boolean")]
    described = {
        **template.described,
        "artifact_path": logged.location,
        "model_uuid": logged.model_id,
        "model_id": logged.model_id,
        "run_id": logged.run_id,
        "utc_time_created": str(datetime.now(UTC).replace(tzinfo=None)),  # as MLflow writes it
        "metadata": {tag_keys.MODEL_MD5: content.md5, tag_keys.PICKLE_ALLOW: list(content.allow)}
        | ({tag_keys.BOOLEANS: truths} if truths else {}),
        "model_size_bytes": template.described.get("model_size_bytes", 0) + content.file.stat().st_size,
    }
    (folder / MLMODEL_FILE_NAME).write_text(yaml.dump(described, Dumper=_Dumper), encoding="utf-8")


def paths(content: ModelContent) -> list[str]:
    """The path in the package of each file that `save` writes."""
    from mlflow.models.model import MLMODEL_FILE_NAME

    if content.file.is_dir():
        return [file.relative_to(content.file).as_posix() for file in content.file.rglob("*") if not file.is_dir()]
    template = _template(*_described(content))
    return [*template.files, f"{_DATA}/{_name_of(content.file)}", MLMODEL_FILE_NAME]


def _name_of(file: Path) -> str:
    """The name of the model's file in its package: a loader of MLflow's looks for one, Dovetail's takes any."""
    network = network_file.kind_of(file)
    return network.name if network else packaged_name(file.name)


def _described(content: ModelContent) -> tuple[str, tuple[str, ...], str, str, network_file.NetworkFile | None]:
    """All that a package depends on but for the model's bytes: card, requirements, the file's name, flavor and kind."""
    kind, network = format_of(content.file), network_file.kind_of(content.file)
    flavor = [kind, native_model.flavor_of(content.file.read_bytes())] if kind else None
    name = network.name if network else packaged_name(content.file.name)
    return json.dumps(content.card), tuple(content.requirements), name, json.dumps(flavor), network


@lru_cache(maxsize=8)
def _template(
    card: str, requirements: tuple[str, ...], name: str, native: str, network: network_file.NetworkFile | None
) -> _Template:
    """What MLflow makes of a model of that card and flavor whose file, here an empty one, has that name.

    Raises:
        UserError: when the card does not describe a model.
    """
    import mlflow.pyfunc
    from mlflow.models import Model
    from mlflow.models.model import MLMODEL_FILE_NAME

    known, flavor = json.loads(card), json.loads(native)
    loader = native_model if flavor else joblib_model
    with tempfile.TemporaryDirectory() as scratch:
        empty, folder = Path(scratch, "file", name), Path(scratch, "model")
        empty.parent.mkdir()
        empty.touch()
        mlflow.pyfunc.save_model(
            str(folder),
            loader_module=network.loader if network else loader.__name__.rsplit(".", 1)[1],
            data_path=None if network else str(empty),
            code_paths=None if network else [str(file) for file in loader.FILES],
            mlflow_model=(described := Model()),
            signature=signature_of(known, with_method=network is None),
            input_example=example_of(known),
            pip_requirements=list(requirements),
        )
        if network:
            _add_flavor(described, network, requirements)
            (folder / _DATA).mkdir()
            for companion, text in network.companion_files.items():
                (folder / _DATA / companion).write_text(text, encoding="utf-8")
        if flavor:
            described.add_flavor(
                flavor[0], data=f"{_DATA}/{name}", code=_CODE, **flavor[1], **_version(flavor[0], requirements)
            )
        files = [file for file in folder.rglob("*") if file.is_file()]
        return _Template(
            {
                path: file.read_bytes()
                for file in files
                if (path := file.relative_to(folder).as_posix()) not in (MLMODEL_FILE_NAME, f"{_DATA}/{name}")
            },
            described.to_dict(),
        )


def _add_flavor(described: Any, network: network_file.NetworkFile, requirements: Sequence[str]) -> None:
    """Say in MLmodel what MLflow's own flavor says of such a model."""
    required = {name: pin for name, _, pin in (line.partition("==") for line in requirements)}
    flavor, said = network.flavor
    described.add_flavor(flavor, **said, **{network.version_key: required.get(network.packages[0], "")})
    if network.data:
        described.flavors["python_function"]["data"] = network.data


def _version(flavor: str, requirements: Sequence[str]) -> dict[str, str]:
    """The version of the flavor's library that is required, as MLflow's flavor says it."""
    required = {name: pin for name, _, pin in (line.partition("==") for line in requirements)}
    found = [required[name] for name in native_model.PACKAGES[flavor] if required.get(name)]
    return {_VERSION_KEYS[flavor]: found[0]} if found else {}


def signature_of(card: Mapping[str, Any] | None, *, with_method: bool = True) -> "ModelSignature | None":
    """The card's columns in MLflow's types, and the `method` that the loader understands, if it is Dovetail's."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    if card is None:
        return None
    try:
        inputs: list[ColSpec | TensorSpec] = [
            ColSpec(_signature_type(c), c["name"], required=not c["nullable"]) for c in card["inputs"]
        ]
        outputs: list[ColSpec | TensorSpec] = [ColSpec(_SIGNATURE_TYPES[card["output"]["dtype"]])]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"the model's card does not describe inputs and output: {error!r}",
            "correct what writes it, then: dvc repro",
        ) from error
    params = {"params": ParamSchema([ParamSpec("method", "string", "predict")])} if with_method else {}
    return ModelSignature(Schema(inputs), Schema(outputs), **params)


def _signature_type(column: Mapping[str, Any]) -> str:
    """MLflow's type of a column; one of integers in which some are missing has floats, as pandas reads it."""
    known = _SIGNATURE_TYPES[column["dtype"]]
    return "double" if column["nullable"] and known in ("long", "integer") else known


def example_of(card: Mapping[str, Any] | None) -> Any:
    """The card's example rows as a frame with the columns' types; None where it gives none.

    Raises:
        UserError: when they are no rows of its inputs.
    """
    import pandas as pd

    if card is None or not card.get("example"):
        return None
    try:
        frame = pd.DataFrame(card["example"]["data"], columns=card["example"]["columns"])
        typed = {c["name"]: _typed(frame[c["name"]], c) for c in card["inputs"] if c["dtype"] != "str"}
        frame = frame.assign(**typed)
        dates = [values for values in typed.values() if values.dtype.kind == "M"]
        shown = [values.isna() | values.between(pd.Timestamp.min, pd.Timestamp.max) for values in dates]
        frame = frame[pd.concat(shown, axis=1).all(axis=1)] if shown else frame
        return frame if len(frame) else None  # MLflow takes no date after the year 2262, such as 9999-12-31
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"the example in the model's card is not a table of its inputs: {' '.join(str(error).split())}"
        raise UserError(what, "correct what writes it, then: dvc repro") from error


def columns_of(signature: Any) -> tuple[list[str], list[str]]:
    """The columns that a signature names: all, and those that may be missing."""
    named = [column for column in (signature.inputs if signature else None) or () if column.name]
    return [column.name for column in named], [column.name for column in named if not column.required]


def _typed(values: "pd.Series[Any]", column: Mapping[str, Any]) -> "pd.Series[Any]":
    """The values of a column of the example as MLflow's signature has them."""
    import pandas as pd

    dtype = column["dtype"]
    if dtype in ("datetime", "date"):
        return pd.to_datetime(values, format="ISO8601").dt.floor("s")  # MLflow reads one format back, not two
    if dtype.startswith("int") and column["nullable"]:
        return values.astype("float64")
    if dtype.startswith("bool") and values.isna().any():
        return values.astype(object).where(values.notna(), None)
    return values.astype(dtype) if dtype.startswith(("float", "int", "bool")) else values
