"""The process that holds a model, asked without a server: requests that share a prediction keep their own rows."""

import hashlib
import json
from datetime import datetime

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from skrub import TableVectorizer

from dovetail.models.mlflow_folder import LOADERS
from dovetail.serving.engine.model_process import ServedModel

ROWS = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0)[::-1] ** 2})

NUMBERS = dict.fromkeys(ROWS, "double")


def held(folder, model, md5=None, types=NUMBERS):
    """The model as a version's copy holds it."""
    (folder / "data").mkdir()
    file = folder / "data" / "m.joblib"
    joblib.dump(model, file)
    inputs = json.dumps([{"name": name, "type": type_} for name, type_ in types.items()])
    flavor = {"python_function": {"loader_module": LOADERS[0], "data": "data/m.joblib"}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavor, "signature": {"inputs": inputs}}))
    return ServedModel(folder, md5 or hashlib.md5(file.read_bytes()).hexdigest(), ())


def test_a_day_that_nanoseconds_do_not_reach_is_answered_as_any_other(tmp_path):
    days = [datetime(2026, 1, 2), datetime(9999, 12, 31)]  # noqa: DTZ001  (MLflow's have no zone)
    frame = pd.DataFrame({"day": pd.Series(days * 10, dtype="datetime64[us]")})
    fitted = make_pipeline(TableVectorizer(), DecisionTreeClassifier()).fit(frame, ["soon", "never"] * 10)
    model = held(tmp_path, fitted, types={"day": "datetime"})
    assert said(model.predict("predict", [2, 1], {"day": [*days, days[0]]})) == [["soon", "never"], ["soon"]]
    assert said(model.predict("predict", [1], {"day": [days[0]]})) == [["soon"]]


def said(parts):
    return [json.loads(content) if well else None for well, content in parts]


def test_columns_are_found_by_their_names_and_not_by_their_place(tmp_path):
    model = held(tmp_path, RandomForestClassifier(5, random_state=0).fit(ROWS, ROWS["a"] > 20))
    given = {name: ROWS[name].tolist() for name in ROWS}
    turned = dict(reversed(given.items()))
    assert said(model.predict("predict", [40], turned)) == said(model.predict("predict", [40], given))
    assert said(model.predict("predict", [40], given)) == [(ROWS["a"] > 20).tolist()]


def test_without_a_signature_a_model_gets_the_columns_that_it_was_fitted_on_in_their_order(tmp_path):
    fitted = DecisionTreeClassifier(random_state=0).fit(ROWS, ROWS["a"] > 20)
    model = held(tmp_path, fitted, types={})
    given = {"label": ["x"] * 40, "b": ROWS["b"].tolist(), "id": list(range(40)), "a": ROWS["a"].tolist()}
    assert said(model.predict("predict", [40], given)) == [(ROWS["a"] > 20).tolist()]
    (part,) = model.predict("predict", [1], {"a": [1.0], "id": [1]})
    assert not part[0]
    assert "b" in json.loads(part[1])["message"]


def test_probabilities_of_several_outputs_are_never_cut_into_rows(tmp_path):
    labels = np.column_stack([ROWS["a"] > 20, ROWS["a"] > 5])
    model = held(tmp_path, RandomForestClassifier(5, random_state=0).fit(ROWS, labels))
    one, other = {"a": [1.0], "b": [1500.0]}, {"a": [39.0], "b": [0.0]}
    alone = [said(model.predict("predict_proba", [1], rows))[0] for rows in (one, other)]
    assert alone[0] != alone[1]
    both = {name: one[name] + other[name] for name in one}
    assert said(model.predict("predict_proba", [1, 1], both)) == alone


def test_other_bytes_are_not_unpickled(tmp_path):
    with pytest.raises(ValueError, match="is not what was registered"):
        held(tmp_path, {"no": "model"}, md5="0" * 32)
