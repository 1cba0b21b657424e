"""The index of a pandas frame, which no other table has: it becomes columns where it is named."""

from typing import Any


def with_index(frame: Any) -> Any:
    """The frame, of pandas with a named index as columns; of another library as it is.

    Whole numbers without a name are those of rows: `df[df.age > 3]` leaves them as they were, and they say nothing.

    Raises:
        ValueError: the index has other values, and no name.
    """
    import narwhals as nw

    if not nw.dependencies.is_pandas_like_dataframe(frame):
        return frame
    index = frame.index
    if any(name is not None for name in index.names):
        return frame.reset_index()
    if len(index) and (index.nlevels > 1 or index.dtype.kind not in "iu"):
        raise ValueError(
            f"its index has no name, so that {index[0]!r:.40} would be lost: frame.index.name = 'id' keeps it, "
            "frame.reset_index(drop=True) drops it"
        )
    return frame
