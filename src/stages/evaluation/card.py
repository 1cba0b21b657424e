"""A model's card: what a registry must know of it without unpickling it."""

import inspect
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier

from stages.common.errors import StageError
from stages.modelling import table
from stages.training.metrics import in_a_row

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_EXAMPLE_ROWS = 5
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # another one each time
_LONGEST = 300  # characters of a param that is no plain value
_NAMES = {"sklearn": "scikit-learn"}  # modules that are named otherwise than their distribution
_ALSO = {"skrub": "pandas"}  # works on frames, though its pickle does not say so


def describe(
    model: Any, modules: "Iterable[str]", train: pd.DataFrame, test: pd.DataFrame, booleans: "Collection[str]" = ()
) -> dict[str, Any]:
    """The card: task, inputs in the model's order, output, an example with its answers, packages to unpickle with.

    A missing value is null. `modules` are those that the model's pickle names; `booleans` are columns of true and
    false: those that the model gets as numbers, for some are missing, are marked.

    Raises:
        StageError: the two parts disagree about a column.
    """
    every = pd.concat([test.astype(dtypes := _common(train, test)), train.astype(dtypes)], ignore_index=True)
    nullable = every.isna().any()
    example = every.iloc[_example_rows(every)]
    predicted = in_a_row(model.predict(example))
    classifier, probable = is_classifier(model), hasattr(model, "predict_proba")
    return {
        "task": "classification" if classifier else "regression",
        "steps": steps(model),
        "inputs": [
            {"name": name, "dtype": table.dtype_name(every[name].dtype), "nullable": bool(nullable[name])}
            | ({"boolean": True} if name in booleans and every[name].dtype.kind == "f" else {})
            for name in every.columns
        ],
        "output": {"dtype": table.dtype_name(predicted.dtype)},
        "classes": model.classes_.tolist() if classifier else None,
        "predict_proba": probable,
        "example": {"columns": list(every.columns), "data": _plain(example)},
        "predictions": predicted.tolist(),
        "probabilities": model.predict_proba(example).tolist() if probable else None,
        "packages": packages(modules),
    }


def steps(model: Any) -> list[dict[str, Any]]:
    """What a model does one after the other: each step's path and the params that are not its class's own.

    Of skrub's vectorizer also which columns it takes for which kind.
    """
    parts = [step for _, step in getattr(model, "steps", [("", model)])]
    return [
        {
            "step": ".".join(part for part in type(step).__module__.split(".") if not part.startswith("_"))
            + f".{type(step).__name__}",
            "params": {name: _shown(value) for name, value in _changed_params(step).items()},
            **_columns(step),
        }
        for step in parts
    ]


def _columns(step: Any) -> dict[str, Any]:
    kinds = {kind: names for kind, names in getattr(step, "kind_to_columns_", {}).items() if names}
    return {"columns": kinds} if kinds else {}


def _changed_params(step: Any) -> dict[str, Any]:
    usual = inspect.signature(type(step)).parameters
    params = step.get_params(deep=False) if hasattr(step, "get_params") else {}
    defaults = {name: usual[name].default if name in usual else None for name in params}
    return {name: value for name, value in params.items() if repr(value) != repr(defaults[name])}


def _shown(value: Any) -> Any:
    plain = isinstance(value, str | bool | int | None) or (isinstance(value, float) and np.isfinite(value))
    return value if plain else _ADDRESS.sub("", " ".join(repr(value).split()))[:_LONGEST]


def packages(modules: "Iterable[str]") -> list[str]:
    """The distributions that the named modules come from; the standard library and local files have none."""
    tops = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names
    tops |= {_ALSO[top] for top in tops if top in _ALSO}
    return sorted({name for top in tops for name in _distributions(top)}, key=str.lower)


def _distributions(module: str) -> list[str]:
    try:
        return [distribution(_NAMES.get(module, module)).name]
    except PackageNotFoundError:
        return packages_distributions().get(module, [])  # reads every package's file list: 0.15 s


def _common(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """The dtype of each column over both parts: float64 where a number is missing in one of them only."""
    common = {}
    for name in train.columns:
        first, second = train[name].dtype, test[name].dtype
        if first != second and not (first.kind in table.NUMERIC and second.kind in table.NUMERIC):
            raise StageError(
                f"column {name!r} is {first} in the train part and {second} in the test part; run split again"
            )
        common[name] = first if first == second else np.dtype("float64")
    return common


def telling_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a card's example would be of if there were no others: of each column with missing values one."""
    return rows.iloc[_example_rows(rows)]


def _example_rows(every: pd.DataFrame) -> list[int]:
    """The first rows and, for each column with missing values that they do not show, the first row that does."""
    rows = list(range(min(_EXAMPLE_ROWS, len(every))))
    for name in every.columns:
        (missing,) = every[name].isna().to_numpy().nonzero()
        if len(missing) and not set(missing) & set(rows):
            rows.append(int(missing[0]))
    return rows


def _plain(frame: pd.DataFrame) -> list[list[Any]]:
    """The rows as JSON takes them: dates in ISO format, null for a missing value."""
    dates = frame.select_dtypes("datetime").map(pd.Timestamp.isoformat, na_action="ignore")
    written = frame.astype(object)
    written[dates.columns] = dates.astype(object)
    written = written.where(frame.notna(), None)
    rows: list[list[Any]] = written.to_numpy().tolist()
    return rows
