"""A joblib file as an MLflow model: bytes as they are, the loader beside them, signature and example from its card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail import joblib_model, keys
from dovetail.errors import UserError

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_SIGNATURE_TYPES = {
    "float64": "double", "float32": "float", "int64": "long", "int32": "integer", "str": "string", "bool": "boolean",
    "datetime": "datetime", "date": "datetime",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ModelContent:
    """The model's file and what the card beside it says."""

    file: Path
    md5: str
    card: Mapping[str, Any] | None
    requirements: Sequence[str]
    allow: Sequence[str] = ()  # packages that the model's pickle may name besides the usual


@dataclass(frozen=True, slots=True)
class Place:
    """The logged model that the files are of: its id, its run, and the address where they lie."""

    model_id: str
    run_id: str
    location: str


def save(folder: Path, content: ModelContent, place: Place) -> None:
    """Write the MLflow model that belongs at `place` to `folder`.

    Raises:
        UserError: when the card beside the model does not describe one.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    mlflow.pyfunc.save_model(
        str(folder),
        loader_module=joblib_model.__name__.rsplit(".", 1)[1],
        data_path=str(content.file),
        code_paths=[str(joblib_model.__file__)],
        mlflow_model=Model(
            artifact_path=place.location,
            model_uuid=place.model_id,
            model_id=place.model_id,
            run_id=place.run_id,
            metadata={keys.MODEL_MD5: content.md5, keys.PICKLE_ALLOW: list(content.allow)},
        ),
        signature=_signature(content.card),
        input_example=_example(content.card),
        pip_requirements=list(content.requirements),
    )


def _signature(card: Mapping[str, Any] | None) -> "ModelSignature | None":
    """The card's columns in MLflow's types, and the `method` that the loader understands."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    if card is None:
        return None
    try:
        inputs: list[ColSpec | TensorSpec] = [
            ColSpec(_SIGNATURE_TYPES[c["dtype"]], c["name"], required=not c["nullable"]) for c in card["inputs"]
        ]
        outputs: list[ColSpec | TensorSpec] = [ColSpec(_SIGNATURE_TYPES[card["output"]["dtype"]])]
    except (KeyError, TypeError) as error:
        raise UserError(f"the model's card does not describe inputs and output: {error!r}", "dvc repro") from error
    method = ParamSchema([ParamSpec("method", "string", "predict")])
    return ModelSignature(Schema(inputs), Schema(outputs), method)


def _example(card: Mapping[str, Any] | None) -> Any:
    import pandas as pd

    if card is None or not card.get("example"):
        return None
    frame = pd.DataFrame(card["example"]["data"], columns=card["example"]["columns"])
    types = {c["name"]: c["dtype"] for c in card["inputs"] if c["dtype"].startswith(("float", "int", "bool"))}
    return frame.astype({name: ("float64" if frame[name].isna().any() else dtype) for name, dtype in types.items()})
