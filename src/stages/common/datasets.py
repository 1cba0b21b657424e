"""The section `datasets` of params.yaml: what raw rows must keep, how they are cleaned, where they are delivered."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stages.common.block import Block, RawFile


def _encoding(value: str) -> str:
    try:
        bytes(4).decode(value, "replace")
    except (LookupError, ValueError) as error:
        known = "utf-8, utf-16, windows-1252 or shift_jis"
        raise ValueError(f"is no encoding of text that Python knows, such as {known}") from error
    return value


Encoding = Annotated[str, AfterValidator(_encoding)]


def _separator(value: str) -> str:
    if not value.isascii() or value in '"\r\n':
        raise ValueError("separates no columns: write one sign of ASCII such as ';', but no quote and no end of a line")
    return value


Separator = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_separator)]


class Column(Block):
    """A column in pandera's vocabulary (pandera.Column); rows that break it go to data/rejected/ with the reason."""

    dtype: Literal["str", "int64", "int32", "float64", "float32", "bool", "date", "datetime"]
    nullable: bool = False
    unique: bool = False
    required: bool = True
    checks: dict[str, Any] = Field({}, description="pandera's built-in checks by name: {in_range: {min_value: 0, …}}")


class Schema(Block):
    """A table in pandera's vocabulary (pandera.DataFrameSchema)."""

    columns: dict[str, Column] = Field(min_length=1)
    strict: bool = Field(default=False, description="refuse columns that the schema does not name")


class Cleaning(Block):
    """How the cleaning script runs."""

    engine: Literal["polars", "pandas"] = "polars"
    max_rejected: float = Field(ge=0, le=1, description="share of rejected rows above which the stage fails")
    separator: Separator | None = Field(None, description="of a CSV file; default: a comma, in a .tsv file a tab")
    null_values: list[str] = Field([""], description="what a CSV file writes for a missing value")
    encoding: Encoding = Field("utf-8", description="of a text file, by Python's name: utf-16, windows-1252, shift_jis")
    decimal: Literal[".", ","] = Field(".", description="what a CSV file writes before the fraction of a number")
    thousands: Literal["", ".", ",", " ", "'", "_"] = Field("", description="what it writes between three digits")
    sheet: str | None = Field(None, description="of an Excel file that has several")
    part_rows: int | None = Field(
        None,
        ge=1,
        description="clean in ranges of so many raw rows, for data larger than memory: `raw` may be a folder of files "
        "of one format, what is cleaned is a folder of parts",
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        return self


class Delivery(Block):
    """Where cleaned data goes besides data/clean/: a `path`, a `table` of a database `url`, or a `delta` table."""

    path: str | None = Field(None, pattern=r"\.(csv|parquet)$")
    table: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")
    delta: str | None = Field(None, min_length=1, description="the folder of a Delta Lake table")
    url: str = Field("sqlite:///data/delivered/delivered.db", description="SQLAlchemy URL; secrets only as ${NAME}")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if sum(target is not None for target in (self.path, self.table, self.delta)) != 1:
            raise ValueError("needs either a path, a table or delta")
        if self.delta is not None and "://" in self.delta:
            raise ValueError(f"delta = {self.delta!r} is an address; name a folder of this machine")
        return self


class Dataset(Block):
    """One dataset: raw → validated → cleaned → delivered."""

    raw: RawFile
    schema_: Schema = Field(alias="schema")
    clean: Cleaning
    deliver: list[Delivery]
