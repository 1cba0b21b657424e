"""The section `datasets` of params.yaml: what raw rows must keep, how they are cleaned, where they are delivered."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stages.common.block import Block, RawFile


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
    separator: str = Field(",", min_length=1, max_length=1, description="of a CSV file")
    null_values: list[str] = Field([""], description="what a CSV file writes for a missing value")


class Delivery(Block):
    """Where cleaned data goes besides data/clean/: either a `path` or a `table` of a database `url`."""

    path: str | None = Field(None, pattern=r"\.(csv|parquet)$")
    table: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")
    url: str = Field("sqlite:///data/delivered/delivered.db", description="SQLAlchemy URL; secrets only as ${NAME}")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("needs either a path or a table")
        return self


class Dataset(Block):
    """One dataset: raw → validated → cleaned → delivered."""

    raw: RawFile
    schema_: Schema = Field(alias="schema")
    clean: Cleaning
    deliver: list[Delivery]
