"""params.yaml as frozen models: an unknown key, a wrong type or a dangling name is refused, with its place in the file.

`python -m stages.config` from `src/` prints the JSON schema, which is kept beside params.yaml for editors.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.errors import StageError

PARAMS_FILE = "params.yaml"
T = TypeVar("T")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C where it was built


def _import_path(value: str) -> str:
    if not all(part.isidentifier() for part in value.split(".")) or "." not in value:
        raise ValueError("is not an import path such as sklearn.datasets.load_iris")
    return value


ImportPath = Annotated[str, AfterValidator(_import_path)]
RawFormats = (".csv", ".parquet", ".jsonl")


def _raw_file(value: str) -> str:
    if Path(value).suffix not in RawFormats:
        raise ValueError(f"does not end in one of {', '.join(RawFormats)}")
    return value


RawFile = Annotated[str, AfterValidator(_raw_file)]


class _Block(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class FileSource(_Block):
    """A file of this repository, copied byte for byte; `dvc repro` notices when it changes."""

    path: RawFile
    raw: RawFile = Field(description="where the copy goes, as the dataset's `raw` names it")

    @model_validator(mode="after")
    def _same_format(self) -> Self:
        if Path(self.path).suffix != Path(self.raw).suffix:
            raise ValueError(f"a copy keeps its format: raw {self.raw!r} must end in {Path(self.path).suffix}")
        return self


class OutsideSource(_Block):
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
        if self.url is None and Path(self.raw).suffix != ".parquet":
            raise ValueError(f"what {given[0]} returns is written as Parquet: raw {self.raw!r} must end in .parquet")
        if self.args and self.load is None:
            raise ValueError("args belong to load")
        return self


class Sources(_Block):
    """Where raw data comes from."""

    files: dict[str, FileSource] = {}
    outside: dict[str, OutsideSource] = {}


class Column(_Block):
    """A column in pandera's vocabulary (pandera.Column); rows that break it go to data/rejected/ with the reason."""

    dtype: Literal["str", "int64", "int32", "float64", "float32", "bool", "date", "datetime"]
    nullable: bool = False
    unique: bool = False
    required: bool = True
    checks: dict[str, Any] = Field({}, description="pandera's built-in checks by name: {in_range: {min_value: 0, …}}")


class Schema(_Block):
    """A table in pandera's vocabulary (pandera.DataFrameSchema)."""

    columns: dict[str, Column] = Field(min_length=1)
    strict: bool = Field(default=False, description="refuse columns that the schema does not name")


class Cleaning(_Block):
    """How the cleaning script runs."""

    engine: Literal["polars", "pandas"] = "polars"
    max_rejected: float = Field(ge=0, le=1, description="share of rejected rows above which the stage fails")
    separator: str = Field(",", min_length=1, max_length=1, description="of a CSV file")
    null_values: list[str] = Field([""], description="what a CSV file writes for a missing value")


class Delivery(_Block):
    """Where cleaned data goes besides data/clean/: either a `path` or a `table` of a database `url`."""

    path: str | None = Field(None, pattern=r"\.(csv|parquet)$")
    table: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")
    url: str = Field("sqlite:///data/delivered/delivered.db", description="SQLAlchemy URL; secrets only as ${NAME}")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.path is None) == (self.table is None):
            raise ValueError("needs either a path or a table")
        return self


class Dataset(_Block):
    """One dataset: raw → validated → cleaned → delivered."""

    raw: RawFile
    schema_: Schema = Field(alias="schema")
    clean: Cleaning
    deliver: list[Delivery]


class Split(_Block):
    """Rows to learn from and rows to test on (sklearn.model_selection.train_test_split)."""

    test_size: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)
    stratify: bool = Field(default=False, description="keep the shares of the target's classes in both parts")
    drop: list[str] = Field([], description="columns that the model does not get")


class Gate(_Block):
    """Bounds of a metric; `min` and `max` may be read on the bound of its interval instead of its value."""

    min: float | None = None
    max: float | None = None
    on: Literal["value", "low", "high"] = Field("value", description="low, high: the bounds of the 95 % interval")


class DataGate(_Block):
    """Data quality."""

    max_rejected: float = Field(0.0, ge=0, le=1, description="share of rows that the schema may reject")


class SignatureGate(_Block):
    """Whether a card describes what the model takes and gives."""

    required: bool = True


class ProvenanceGate(_Block):
    """Asked of every promotion: a commit holds the model, its data is to be had. More can be asked for."""

    pushed: bool = Field(default=False, description="a remote branch holds the commit")
    reproduced: bool = Field(default=False, description="`dovetail reproduce` rebuilt it identically")


class PickleGate(_Block):
    """Asked of every promotion: the model's pickle names nothing unexpected."""

    allow: list[str] = Field([], description="packages besides scikit-learn, numpy, scipy, skrub and pandas")


class ServingGate(_Block):
    """Asked of every promotion: the model loads through MLflow and answers its input example. More can be asked for."""

    p99_ms: float | None = Field(None, gt=0, description="time of one row, 99th percentile, in milliseconds")
    max_mb: float | None = Field(None, gt=0, description="size in megabytes")
    missing: bool | None = Field(None, description="true: missing values in any column are to be answered")


class SliceGate(_Block):
    """A metric on the test rows with each value of a column."""

    metric: str
    min: float
    min_rows: int = Field(1, ge=1, description="slices with fewer rows are passed over")


class ChampionGate(_Block):
    """Asked of every promotion: on the same rows the version that is replaced is not better."""

    metric: str | None = Field(None, description="default: accuracy, or r2 of a regression")
    margin: float = Field(0.0, ge=0, description="by how much the candidate may be worse")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the interval of the difference")
    min_rows: int = Field(20, ge=2, description="fewer rows tell nothing")
    target: str | None = Field(None, description="the column to predict, where it is not the only one left")


class Gates(_Block):
    """What a version must meet. Each other key is a metric's name, with its bounds."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Gate]

    data: DataGate | None = None
    signature: SignatureGate | None = None
    provenance: ProvenanceGate | None = None
    pickle: PickleGate | None = None
    serving: ServingGate | None = None
    slices: dict[str, SliceGate] | None = Field(None, description="by column")
    champion: ChampionGate | None = None


class Model(_Block):
    """One model: split → train → evaluate → register."""

    data: str = Field(description="the dataset")
    target: str = Field(description="the column to predict")
    split: Split
    estimator: ImportPath = Field(description="a scikit-learn compatible classifier or regressor")
    params: dict[str, Any] = Field(description="the estimator's parameters")
    gates: Gates = Field(description="they say whether a version may become `staging`, and `production`")


class Params(_Block):
    """The whole of params.yaml."""

    sources: Sources
    datasets: dict[str, Dataset]
    models: dict[str, Model]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, model in self.models.items():
            if model.data not in self.datasets:
                known = ", ".join(self.datasets)
                raise ValueError(f"models.{name}.data: no dataset {model.data!r}; there are: {known}")
        return self


def load_params(path: Path) -> Params:
    """Read and check params.yaml.

    Raises:
        StageError: naming the file, the key, its value and what is allowed.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506  (a safe loader)
    except FileNotFoundError as error:
        raise StageError(f"{path} is missing; run from the repository's root") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise StageError("; ".join(_explain(path, problem) for problem in error.errors()[:3])) from error


def block(path: str, blocks: dict[str, T], key: str) -> T:
    """The block `key` of the section `path`.

    Raises:
        StageError: naming the blocks that exist.
    """
    if key not in blocks:
        raise StageError(f"{PARAMS_FILE}: no {path}.{key}; there are: {', '.join(blocks) or 'none'}")
    return blocks[key]


def _explain(path: Path, problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(problem["loc"][:-1])
        return f"{path}: unknown key {place!r} (value {problem['input']!r}); allowed there: {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{path}: {place} is missing; add it"
    message = problem["msg"].removeprefix("Value error, ")
    if isinstance(problem["input"], dict | list):
        return f"{path}: {place + ': ' if place else ''}{message}"
    return f"{path}: {place} = {problem['input']!r}: {message}"


def _allowed_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the block at `loc` may have, read from the JSON schema."""
    schema = Params.model_json_schema(by_alias=True)
    node: dict[str, Any] = schema
    for part in loc:
        node = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items") or {}
        node = next((option for option in node.get("anyOf", ()) if option.get("type") != "null"), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return list(node.get("properties", {}))


if __name__ == "__main__":
    print(json.dumps(Params.model_json_schema(by_alias=True), indent=2))
