"""Values on their way into a model and out of it: columns as pandas has them, predictions as JSON has them."""

from typing import Any

_DTYPES = {
    "double": "float64", "float": "float32", "long": "int64", "integer": "int32", "string": "str", "boolean": "bool",
    "datetime": "datetime64[ns]",
}  # fmt: skip


def column(values: list[Any], type_: str | None) -> Any:
    """The values of a column of a signature's type, as the model was trained on them."""
    import pandas as pd

    if type_ == "boolean" and None in values:
        return pd.Series(values, dtype="object")  # as bool a missing value would be false
    try:
        return pd.Series(values, dtype=_DTYPES[type_]) if type_ else pd.Series(values)
    except pd.errors.OutOfBoundsDatetime:  # 9999-12-31 has no nanoseconds; the data, and so the model, have such days
        return pd.Series(values, dtype="datetime64[us]")


def listed(predicted: Any) -> tuple[list[Any], bool]:
    """Predictions as MLflow's server writes them, and whether that is a list with an entry for each row.

    It is not where a forest of several outputs gives the probabilities of each: then the outer list is of outputs.
    """
    import pandas as pd

    if isinstance(predicted, pd.Series):
        predicted = predicted.to_frame()
    if isinstance(predicted, pd.DataFrame):
        return list(predicted.to_dict(orient="records")), True
    if isinstance(predicted, list) and any(hasattr(part, "tolist") for part in predicted):
        return [part.tolist() if hasattr(part, "tolist") else part for part in predicted], False
    return list(predicted.tolist() if hasattr(predicted, "tolist") else predicted), True


def dumped(said: list[Any]) -> bytes:
    """Predictions as JSON."""
    import orjson

    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)
