"""Load a joblib file as an MLflow pyfunc. Self-contained: this file travels inside the model that it loads.

It needs joblib and what the model itself needs, not Dovetail.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

MD5_KEY = "dovetail.model.md5"
METHODS = ("predict", "predict_proba")


class JoblibModel:
    """An estimator behind MLflow's `predict(model_input, params)`; `params={"method": "predict_proba"}` is known."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predictions for the rows of `model_input`: shape (rows,), or (rows, classes) for `predict_proba`.

        Raises:
            ValueError: when the method is not one of METHODS or the estimator does not have it.
        """
        method = (params or {}).get("method", "predict")
        if method not in METHODS or not hasattr(self.estimator, method):
            has = [name for name in METHODS if hasattr(self.estimator, name)]
            raise ValueError(f"method {method!r} is not to be had; this model has: {', '.join(has)}")
        return getattr(self.estimator, method)(model_input)


def _load_pyfunc(data_path: str) -> JoblibModel:
    """MLflow's entry. The bytes that are unpickled are the very bytes whose digest was checked.

    Raises:
        ValueError: when they are not the bytes that were registered.
    """
    import joblib

    content = Path(data_path).read_bytes()
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != (expected := _registered_md5(Path(data_path))):
        raise ValueError(
            f"{data_path} (md5 {actual}) is not what was registered ({expected}); it was not unpickled. "
            "Next: dovetail register, from the commit that made it"
        )
    return JoblibModel(joblib.load(io.BytesIO(content)))


def _registered_md5(data_path: Path) -> str:
    import yaml

    mlmodel = yaml.safe_load((data_path.parents[1] / "MLmodel").read_text(encoding="utf-8"))
    return str(mlmodel["metadata"][MD5_KEY])
