"""Stage `evaluate`: the model as it lies on disk, judged on the test part → metrics, plots, importance and a card."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import is_classifier, is_regressor

from stages import card as model_card
from stages import plots as pictures
from stages import scores, table
from stages.config import PARAMS_FILE, Params, block
from stages.errors import StageError
from stages.files import replacing, write_json
from stages.importance import rank

if TYPE_CHECKING:
    import pandas as pd


def run(  # noqa: PLR0913  the outputs of dvc.yaml
    key: str,
    params: Params,
    *,
    model: Path,
    train: Path,
    test: Path,
    metrics: Path,
    plots: Path,
    importance: Path,
    card: Path,
) -> None:
    """Load `model`, predict `test`, and write metrics, plots, importance and card once all of them are known.

    Raises:
        StageError: the model or a part of the data is missing, broken, or does not fit the other.
    """
    target = block("models", params.models, key).target
    learned, modules = load(model, f"train@{key}")
    seen, _ = table.read(train, target, f"split@{key}")
    features, actual = table.read(test, target, f"split@{key}")
    features = _as_trained(test, features, seen)
    try:
        outcome = scores.judge(learned, features, actual)
        numbers = scores.measure(outcome)
        ranking = rank(learned, features, actual)
        about = model_card.describe(learned, modules, seen, features)
    except (ValueError, TypeError) as error:
        what = f"{PARAMS_FILE}: models.{key}: {model} cannot be judged on {test}"
        raise StageError(f"{what}: {' '.join(str(error).split())}") from error
    if outcome.unseen:
        print(f"evaluate@{key}: the model never saw {outcome.unseen} of {target!r}; it errs on them", file=sys.stderr)
    with replacing(plots) as folder:
        folder.mkdir()
        pictures.draw(folder, key, outcome, numbers, ranking)
    with replacing(importance) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("feature", "importance"), *(row[:2] for row in ranking)])
    write_json(card, about)
    write_json(metrics, numbers)


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
        raise StageError(f"{path} does not load ({what}); make it anew: dvc repro -f {made_by}") from error
    if not hasattr(model, "__sklearn_tags__") or not (is_classifier(model) or is_regressor(model)):
        kind = type(model).__name__
        raise StageError(f"{path} holds a {kind}, not a classifier or regressor; make it anew: dvc repro -f {made_by}")
    return model, unpickler.modules


class _Unpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib ships no types
    """joblib's own, which also notes the modules that the file names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)


def _as_trained(path: Path, features: "pd.DataFrame", seen: "pd.DataFrame") -> "pd.DataFrame":
    """The columns that the model was trained on, in its order."""
    if missing := [name for name in seen.columns if name not in features.columns]:
        raise StageError(f"{path}: no column {missing[0]!r}, which the model was trained on; split and train anew")
    return features[list(seen.columns)]
