"""The section `sources` of params.yaml: where raw data comes from."""

from typing import Any, Self

from pydantic import Field, model_validator

from stages.common.block import Block, BlockName, ImportPath, RawFile, raw_format


class FileSource(Block):
    """A file of this repository, copied byte for byte; `dvc repro` notices when it changes."""

    path: RawFile
    raw: RawFile = Field(description="where the copy goes, as the dataset's `raw` names it")

    @model_validator(mode="after")
    def _same_format(self) -> Self:
        if raw_format(self.path) != raw_format(self.raw):
            raise ValueError(f"a copy keeps its format: raw {self.raw!r} must end in {raw_format(self.path)}")
        return self


class OutsideSource(Block):
    """Data from outside, read again only when this entry changes or when asked (`dvc repro -fs fetch@KEY`).

    Exactly one of `load`, `sql` and `url`.
    """

    raw: RawFile
    load: ImportPath | None = Field(None, description="a function that returns a data frame or a scikit-learn Bunch")
    args: dict[str, Any] = Field({}, description="keyword arguments of `load`")
    sql: str | None = Field(None, description="a query; needs `database`")
    database: str | None = Field(
        None,
        description="SQLAlchemy URL; secrets only as ${NAME}, taken from the environment: "
        "postgresql://me:${SHOP_PASSWORD}@host/shop",
    )
    url: str | None = Field(None, description="any fsspec URL, ${NAME} as in `database`; copied byte for byte")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in ("load", "sql", "url") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of load, sql and url, has {given or 'none'}")
        if (self.sql is None) != (self.database is None):
            raise ValueError("sql and database belong together")
        if self.url is None and raw_format(self.raw) != ".parquet":
            raise ValueError(f"what {given[0]} returns is written as Parquet: raw {self.raw!r} must end in .parquet")
        if self.args and self.load is None:
            raise ValueError("args belong to load")
        return self


class Sources(Block):
    """Where raw data comes from."""

    files: dict[BlockName, FileSource] = Field({})
    outside: dict[BlockName, OutsideSource] = Field({})
