"""An MLflow model in a folder, as `mlflow.<flavor>.save_model` writes it: which file is the model, and its card."""

import json
from collections.abc import Mapping
from typing import Any

MLMODEL = "MLmodel"
REQUIREMENTS = "requirements.txt"
REGISTERED_META = "registered_model_meta"  # MLflow's own note, in a model that it downloaded
# Of each flavor whose model is one file, the key that names it.
_FILES = {"sklearn": "pickled_model", "lightgbm": "data", "xgboost": "data", "catboost": "data", "onnx": "data"}
LOADERS = ("joblib_model", "native_model")  # Dovetail's own, in a model that was downloaded from its registry
_TYPES = {
    "double": "float64", "float": "float32", "long": "int64", "integer": "int32", "string": "str", "boolean": "bool",
    "datetime": "datetime",
}  # fmt: skip


def model_file(mlmodel: Any) -> str | None:
    """The path in the folder of the one file that is the model; None for a flavor that keeps it otherwise.

    None, too, where a loader of the author's reads it: that may answer otherwise than the file does.
    """
    flavors, loader = _flavors(mlmodel), loader_of(mlmodel)
    known = {name: key for name, key in _FILES.items() if loader in ("", f"mlflow.{name}", *LOADERS)}
    named = (flavors[name].get(key) for name, key in known.items() if name in flavors)
    return next((path for path in named if isinstance(path, str) and ".." not in path.split("/")), None)


def flavors_of(mlmodel: Any) -> str:
    """The flavors but for python_function, for a message."""
    if "python_model" in _flavors(mlmodel).get("python_function", {}):
        return "a class of its author's, pickled by cloudpickle with its code"
    return ", ".join(flavor_names(mlmodel)) or "python_function alone"


def flavor_names(mlmodel: Any) -> list[str]:
    """The flavors but for python_function."""
    return [name for name in _flavors(mlmodel) if name != "python_function"]


def loader_of(mlmodel: Any) -> str:
    """The module by which MLflow would load the folder, for a message; empty where it names none."""
    loader = _flavors(mlmodel).get("python_function", {}).get("loader_module")
    return loader if isinstance(loader, str) else ""


def data_of(mlmodel: Any) -> str:
    """The path in the folder of what its loader is given; empty where MLmodel names none."""
    data = _flavors(mlmodel).get("python_function", {}).get("data")
    return data if isinstance(data, str) and ".." not in data.split("/") else ""


def example_file(mlmodel: Any) -> str | None:
    """The path in the folder of the input example, if it is a table's."""
    about = mlmodel.get("saved_input_example_info") if isinstance(mlmodel, Mapping) else None
    if not isinstance(about, Mapping) or about.get("pandas_orient") != "split":
        return None
    return about["artifact_path"] if isinstance(about.get("artifact_path"), str) else None


def card_of(mlmodel: Any, example: Any, requirements: str) -> dict[str, Any] | None:
    """The card that says what the signature says; None where there is none of named columns of types that are known."""
    try:
        signature = mlmodel["signature"]
        inputs = [
            {"name": one["name"], "dtype": _TYPES[one["type"]], "nullable": not one.get("required", True)}
            for one in json.loads(signature["inputs"])
        ]
        (output,) = json.loads(signature["outputs"])
        dtype = output["tensor-spec"]["dtype"] if output["type"] == "tensor" else _TYPES[output["type"]]
    except (KeyError, TypeError, ValueError):
        return None
    packages = [line.partition("==")[0].strip() for line in requirements.splitlines() if "==" in line]
    output = {"dtype": dtype if dtype in _TYPES.values() else "str"}
    card = {"inputs": inputs, "output": output, "packages": packages}
    return card | {"example": example} if example else card


def _flavors(mlmodel: Any) -> Mapping[str, Mapping[str, Any]]:
    flavors = mlmodel.get("flavors") if isinstance(mlmodel, Mapping) else None
    return {k: v for k, v in flavors.items() if isinstance(v, Mapping)} if isinstance(flavors, Mapping) else {}
