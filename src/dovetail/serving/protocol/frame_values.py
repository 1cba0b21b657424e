"""A pandas table as lists of Python values."""

from typing import Any


def frame_values(frame: Any) -> dict[str, list[Any]]:
    """Columns as lists of Python values, None where one is missing."""
    import pandas as pd

    columns = {}
    for name in frame.columns:
        column = frame[name]
        if column.dtype.kind == "M":
            values = [None if time is pd.NaT else time.to_pydatetime() for time in column]
        elif column.dtype.kind in "iufb":
            values = column.tolist()
        else:
            values = column.astype(object).where(column.notna(), None).tolist()
        columns[str(name)] = values
    return columns
