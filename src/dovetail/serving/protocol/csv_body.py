"""A body of CSV: a header and rows, read as MLflow's server reads it, with pandas."""

from io import BytesIO
from typing import Any

from dovetail.serving.protocol.body_limits import check_names, check_values
from dovetail.serving.protocol.frame_values import frame_values
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature


def read_csv(body: bytes, signature: Signature, most_rows: int) -> dict[str, list[Any]]:
    """The columns; a value is missing where pandas says so. A column that is there twice gets a number, as in pandas.

    Raises:
        Refused: when it is not CSV in UTF-8, or too large a table.
    """
    import csv

    import pandas as pd

    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(400, f"the body is not UTF-8: byte {error.start}", expected="CSV in UTF-8") from None
    check_values(body.count(b","))
    texts = {column.name: str for column in signature.columns or () if column.type in ("string", "datetime")}
    try:
        check_names(next(csv.reader(text.splitlines()[:1]), []), signature.names)
        del text
        frame = pd.read_csv(BytesIO(body), dtype=texts, nrows=most_rows + 1)
    except (ValueError, csv.Error) as error:  # pandas' ParserError and EmptyDataError are ValueErrors
        said = " ".join(str(error).split())
        raise Refused(400, f"the body is not CSV with a header: {said[:120]}", expected="CSV in UTF-8") from None
    return frame_values(frame)
