"""Rows written beside the answers to them, batch by batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dovetail.serving.batch.bad_part import BadPart
from dovetail.serving.batch.part_reader import ARROW_TYPES, Batch
from dovetail.serving.protocol.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

PREDICTION, PROBABILITY = "prediction", "probability_"  # columns of a scored file; a class's name follows the second
PREDICT, PREDICT_PROBA = "predict", "predict_proba"


@dataclass(frozen=True, slots=True)
class ScoredSchema:
    """The columns of a scored file.

    Attributes:
        kept: Those of the part.
        added: Those of answers and their types; None where that is what the first answer has.
        metadata: What the file says of itself.
    """

    kept: "pa.Schema"
    added: Mapping[str, "pa.DataType | None"]
    metadata: Mapping[bytes, bytes]

    def check(self) -> None:
        """Refuse a repeated column.

        Raises:
            BadPart: when it does.
        """
        for name in self.kept.names:
            if name in self.added or (len(self.added) > 1 and name.startswith(PROBABILITY)):
                raise BadPart(f"it has a column {name!r} itself, which --columns does not leave out")

    @property
    def of_no_rows(self) -> "pa.Schema":
        """All columns, where there was no answer to tell a type."""
        import pyarrow as pa

        return self.described([*self.kept, *(pa.field(name, kind or pa.null()) for name, kind in self.added.items())])

    def described(self, fields: Iterable["pa.Field"]) -> "pa.Schema":
        """The fields under what the file says of itself."""
        import pyarrow as pa

        return pa.schema(list(fields), metadata={**(self.kept.metadata or {}), **self.metadata})


def added_columns(
    signature: Signature, classes: Sequence[str] | None, *, proba: bool
) -> Mapping[str, "pa.DataType | None"]:
    """The columns of answers: the prediction, and with `proba` one for each class."""
    import pyarrow as pa

    known = ARROW_TYPES.get(signature.output or "")
    added: dict[str, pa.DataType | None] = {PREDICTION: pa.type_for_alias(known) if known else None}
    return added | ({PROBABILITY + name: pa.float64() for name in classes or ()} if proba else {})


def write(
    target: Any,
    schema: ScoredSchema,
    answered: Iterable[tuple[Batch, "pa.Table"]],
    tell: Callable[[int], None],
) -> int:
    """Write the rows with their answers; returns how many there are.

    Raises:
        BadPart: when they cannot be read, or not be answered.
        OSError: when they cannot be written.
    """
    import pyarrow.parquet as pq

    writer, rows = None, 0
    try:
        for batch, answers in answered:
            table = _with_kept_columns(batch.kept, _columns(answers, schema.added), schema.kept)
            if writer is None:
                writer = pq.ParquetWriter(target, schema.described(table.schema), compression="zstd")
            writer.write_table(_like(table, writer.schema))
            rows += batch.rows
            tell(batch.rows)
        if writer is None:
            writer = pq.ParquetWriter(target, schema.of_no_rows, compression="zstd")
    finally:
        if writer is not None:
            writer.close()
    return rows


def _columns(answers: "pa.Table", added: Mapping[str, "pa.DataType | None"]) -> dict[str, Any]:
    """The answers as columns of these types."""
    import pyarrow as pa

    found = {PREDICTION: answers[PREDICT]}
    if PREDICT_PROBA in answers.column_names:
        shares = _shares(answers[PREDICT_PROBA].combine_chunks())
        names = [name for name in added if name != PREDICTION]
        names = names or [f"{PROBABILITY}{place}" for place in range(shares.shape[1])]
        if len(names) != shares.shape[1]:
            raise BadPart(f"the model gives {shares.shape[1]} probabilities and has {len(names)} classes")
        found |= {name: pa.array(shares[:, place]) for place, name in enumerate(names)}
    for name, values in found.items():
        # Of what only is missing no type is told: it is a number's, then.
        if kind := added.get(name) or (pa.float64() if pa.types.is_null(values.type) else None):
            found[name] = _cast(name, values, kind)
    return found


def _shares(lists: Any) -> Any:
    """The probabilities as an array of a row for each row.

    Raises:
        BadPart: when they are not as many for each.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(lists.type) or len(pc.unique(pc.list_value_length(lists))) > 1:
        raise BadPart("the model gives no probability for each class of each row")
    return lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)


def _cast(name: str, values: Any, kind: "pa.DataType") -> Any:
    import pyarrow as pa

    try:
        return values.cast(kind)
    except pa.ArrowException as error:
        raise BadPart(f"{name} is {values.type}, which is not {kind}") from error


def _with_kept_columns(kept: "pa.RecordBatch", columns: dict[str, Any], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    table = pa.Table.from_batches([kept]).cast(schema) if kept.schema != schema else pa.Table.from_batches([kept])
    for name, values in columns.items():
        table = table.append_column(name, values)
    return table


def _like(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The table under the schema of the first one."""
    for place, field_ in enumerate(schema):
        if table.schema.field(place).type != field_.type:
            table = table.set_column(place, field_.name, _cast(field_.name, table.column(place), field_.type))
    return table.cast(schema)
