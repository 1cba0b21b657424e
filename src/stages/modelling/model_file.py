"""A trained model read from its file, and the modules that its pickle names."""

from pathlib import Path
from typing import Any

from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import is_classifier, is_regressor

from stages.common.errors import StageError


def load(path: Path, made_by: str) -> tuple[Any, set[str]]:
    """Read a joblib file: the model, and the names of the modules that its pickle refers to.

    Raises:
        StageError: no file, one that does not unpickle here, or not a classifier or regressor.
    """
    try:
        with path.open("rb") as file:
            unpickler = _Unpickler(str(path), file, ensure_native_byte_order=True)
            model = unpickler.load()
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing; make it: dvc repro {made_by}") from error
    except Exception as error:  # a damaged pickle can raise anything
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise StageError(f"{path} does not load ({what}); make it again: dvc repro -f {made_by}") from error
    if not hasattr(model, "__sklearn_tags__") or not (is_classifier(model) or is_regressor(model)):
        kind = type(model).__name__
        raise StageError(f"{path} holds a {kind}, not a classifier or regressor; make it again: dvc repro -f {made_by}")
    return model, unpickler.modules


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib ships no types
    """joblib's own, which also notes the modules that the file names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)
