"""The section `models` of params.yaml: what is trained on which data, and what a version must meet."""

from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, Tag, WithJsonSchema, model_validator

from stages.common.block import Block, ImportPath, by_kind
from stages.common.gates import Gates

WHOLE_ROW = "*"  # as a split's key


def _stratify_kind(value: Any) -> str | None:
    return "<yes or no>" if isinstance(value, bool) else "<auto>" if value == "auto" else None


def _key_kind(value: Any) -> str | None:
    return "<column>" if isinstance(value, str) else "<columns>" if isinstance(value, list) else None


Stratify = Annotated[
    Annotated[bool, Tag("<yes or no>")] | Annotated[Literal["auto"], Tag("<auto>")],
    by_kind(_stratify_kind, "write true, false or auto"),
]
Key = Annotated[
    Annotated[str, Tag("<column>")] | Annotated[list[str], Tag("<columns>")],
    by_kind(_key_kind, "write a column, or a list of columns"),
]


class Split(Block):
    """Rows to learn from and rows to test on."""

    test_size: float = Field(gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    stratify: Stratify = Field(
        default=False, description="keep the shares of the target's classes in both parts; auto: where that can be done"
    )
    time: str | None = Field(None, description="a column: test on the last rows by it, not on any")
    group: str | None = Field(
        None, description="a column: rows with one value stand in one part; the model does not get it"
    )
    key: Key | None = Field(
        None,
        description="the column or columns that tell rows apart, or '*' for the whole row: a row's part goes by a hash "
        "of its key alone, so that a row stays where it is when others are added. The model does not get the key, "
        "unless `columns` names it",
    )
    columns: list[str] | None = Field(
        None, min_length=1, description="those that the model gets; default: all but what drop, group and key name"
    )
    drop: list[str] = Field([], description="columns that the model does not get")
    folds: int | None = Field(
        None, ge=2, description="also validate on the train part in so many folds, each split off as the test part is"
    )
    repeats: int = Field(1, ge=1, description="of the folds, each time at random anew")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = {"time": self.time, "group": self.group, "key": self.key}
        given = [name for name, column in ways.items() if column is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are {len(given)} ways to split; choose one")
        if given and self.stratify is True:
            raise ValueError("stratify belongs to a split at random, without time, group and key")
        if self.key == []:
            raise ValueError("key names no column; write some, or '*' for the whole row")
        for name, columns in {"key": self.key_columns, "columns": self.columns or []}.items():
            if repeated := [column for column in columns if columns.count(column) > 1]:
                raise ValueError(f"{name} has {repeated[0]!r} twice; leave one out")
        if self.columns is not None and self.drop:
            raise ValueError("columns says which stay, and drop which go; choose one")
        if self.repeats > 1 and (self.folds is None or self.time or self.group):
            raise ValueError("repeats belongs to folds at random, without time and group")
        return self

    @property
    def key_columns(self) -> list[str]:
        """The columns of the key; none where it is the whole row, or there is none."""
        if self.key is None or self.key == WHOLE_ROW:
            return []
        return [self.key] if isinstance(self.key, str) else self.key


class Step(Block):
    """A transformer before the estimator."""

    estimator: ImportPath
    params: dict[str, Any] = Field({})


def _step_kind(value: Any) -> str | None:
    return "<path>" if isinstance(value, str) else "<step>" if isinstance(value, dict | Step) else None


def _prepare_kind(value: Any) -> str | None:
    return "<steps>" if isinstance(value, list) else "<word>" if value in ("auto", "minimal", "none") else None


Steps = list[
    Annotated[
        Annotated[ImportPath, Tag("<path>")] | Annotated[Step, Tag("<step>")],
        by_kind(_step_kind, "write an import path, or {estimator: path, params: {…}}"),
    ]
]
Prepare = Annotated[
    Annotated[Literal["auto", "minimal", "none"], Tag("<word>")] | Annotated[Steps, Tag("<steps>")],
    by_kind(_prepare_kind, "write auto, minimal or none, or a list of steps by import path"),
]


def _number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise ValueError("is no number")
    return value  # type: ignore[no-any-return]


Number = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]  # whole ones stay whole


class SearchRange(Block):
    """Numbers that a search chooses from; whole ones where low, high and step are whole."""

    low: Number
    high: Number
    log: bool = Field(default=False, description="by order of magnitude: as many from 0.01 to 0.1 as from 0.1 to 1")
    step: Number | None = Field(None, description="between the numbers that are tried")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not (isfinite(self.low) and isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low = {self.low} is not below high = {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log: true is for a low above 0, and without a step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step = {self.step} is not between 0 and high - low = {self.high - self.low}")
        return self


def _space_kind(value: Any) -> str | None:
    return "<range>" if isinstance(value, dict | SearchRange) else "<choices>" if isinstance(value, list) else None


Space = Annotated[
    Annotated[SearchRange, Tag("<range>")] | Annotated[list[Any], Field(min_length=1), Tag("<choices>")],
    by_kind(_space_kind, "write {low: 0.01, high: 10}, with log: true or a step, or a list of choices"),
]


class Search(Block):
    """Trials with other params, scored on rows of the train part; the best is what is trained."""

    space: dict[str, Space] = Field(
        min_length=1,
        description="by name of the param: {low: …, high: …, log: true, step: …} or a list of choices; of an estimator "
        "in params, `name__param`; `prepare`, too, and `prepare__pca__n_components` of a step in it",
    )
    trials: int = Field(20, ge=1)
    at_once: int = Field(
        1,
        ge=1,
        description="so many trials are chosen before the first of them is scored, so that workers have some each",
    )
    metric: str | None = Field(None, description="as evaluate names it; default: accuracy, or r2 of a regression")
    seed: int = Field(0, ge=0, lt=2**32)


class Train(Block):
    """What is trained. DVC follows it as a whole, so that each key besides the estimator may be left out."""

    estimator: ImportPath = Field(description="a scikit-learn compatible classifier or regressor")
    params: dict[str, Any] = Field(
        {},
        description="the estimator's parameters; one that is an estimator itself is {estimator: path, params: {…}}. "
        "class_weight and threshold (of two classes) are for any classifier",
    )
    prepare: Prepare = Field(
        "minimal",
        description="what comes before the estimator. minimal: what it cannot do without; auto: what it needs to do "
        "well, such as scaling; none; or scikit-learn compatible steps by import path",
    )
    search: Search | None = Field(None, description="for better params")
    sample: int | None = Field(None, ge=1, description="learn from so many rows, drawn at random, the same each time")
    in_parts: bool = Field(
        default=False,
        description="learn from one part of the rows at a time, for data larger than memory: by `partial_fit`, or "
        "XGBoost's own iterator",
    )
    epochs: int = Field(1, ge=1, description="how often `partial_fit` goes through all parts")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.in_parts and self.sample is not None:
            raise ValueError("in_parts learns from all rows, and sample from some; choose one")
        if self.in_parts and self.search is not None:
            raise ValueError("search tries params on rows in memory; take a sample, or leave in_parts out")
        if self.epochs > 1 and not self.in_parts:
            raise ValueError("epochs belongs to in_parts; an estimator that has all rows decides by its own params")
        return self


class Model(Block):
    """One model: split → train → evaluate → register."""

    data: str = Field(description="the dataset")
    target: str = Field(description="the column to predict")
    split: Split
    train: Train
    gates: Gates = Field(description="they say whether a version may become `staging`, and `production`")

    @model_validator(mode="after")
    def _no_folds_of_parts(self) -> Self:
        if self.train.in_parts and self.split.folds is not None:
            raise ValueError("split.folds are of rows in memory; take a train.sample, or leave folds or in_parts out")
        return self
