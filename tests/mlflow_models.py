"""What `mlflow.pyfunc.save_model` makes of a model, to hold against what Dovetail writes."""

import pytest
import yaml

from dovetail import joblib_model
from dovetail.tracking.model_package import example_of, signature_of
from dovetail.values import tag_keys

# MLflow's own, of which a user of a command sees nothing: importing it, reading an example's rows, finding no example.
WARNINGS = [
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated"),
    pytest.mark.filterwarnings("ignore:.*An input example was not provided:UserWarning"),
]


def saved_by_mlflow(folder, content, place):
    """Save the model by MLflow's own call."""
    import mlflow.pyfunc
    from mlflow.models import Model

    mlflow.pyfunc.save_model(
        str(folder),
        loader_module="joblib_model",
        data_path=str(content.file),
        code_paths=[str(file) for file in joblib_model.FILES],
        mlflow_model=Model(
            artifact_path=place.location,
            model_uuid=place.model_id,
            model_id=place.model_id,
            run_id=place.run_id,
            metadata={tag_keys.MODEL_MD5: content.md5, tag_keys.PICKLE_ALLOW: list(content.allow)},
        ),
        signature=signature_of(content.card),
        input_example=example_of(content.card),
        pip_requirements=list(content.requirements),
    )


def tree(folder):
    """Every file's bytes; what MLmodel says, but for the time of writing."""
    found = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    said = yaml.safe_load(found.pop("MLmodel"))
    assert said.pop("utc_time_created")
    return found, said
