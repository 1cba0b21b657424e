"""The section `models` of params.yaml: what is trained on which data, and what a version must meet."""

from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, model_validator

from stages.common.block import Block, ImportPath
from stages.common.gates import Gates


class Split(Block):
    """Rows to learn from and rows to test on."""

    test_size: float = Field(gt=0, lt=1)
    seed: int = Field(0, ge=0, lt=2**32)
    stratify: bool | Literal["auto"] = Field(
        default=False, description="keep the shares of the target's classes in both parts; auto: where that can be done"
    )
    time: str | None = Field(None, description="a column: test on the last rows by it, not on any")
    group: str | None = Field(
        None, description="a column: rows with one value stand in one part; the model does not get it"
    )
    drop: list[str] = Field([], description="columns that the model does not get")
    folds: int | None = Field(
        None, ge=2, description="also validate on the train part in so many folds, each split off as the test part is"
    )
    repeats: int = Field(1, ge=1, description="of the folds, each time at random anew")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.time is not None and self.group is not None:
            raise ValueError("time and group are two ways to split; choose one")
        if (self.time or self.group) and self.stratify is True:
            raise ValueError("stratify belongs to a split at random, without time and group")
        if self.repeats > 1 and (self.folds is None or self.time or self.group):
            raise ValueError("repeats belongs to folds at random, without time and group")
        return self


class Step(Block):
    """A transformer before the estimator."""

    estimator: ImportPath
    params: dict[str, Any] = Field({})


def _number(value: Any) -> int | float:
    if type(value) not in (int, float):
        raise ValueError("is no number")
    return value  # type: ignore[no-any-return]


Number = Annotated[Any, AfterValidator(_number), WithJsonSchema({"type": "number"})]  # whole ones stay whole


class Range(Block):
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


def _kind(value: Any) -> str | None:
    return "<range>" if isinstance(value, dict | Range) else "<choices>" if isinstance(value, list) else None


Space = Annotated[
    Annotated[Range, Tag("<range>")] | Annotated[list[Any], Field(min_length=1), Tag("<choices>")],
    Discriminator(
        _kind,
        custom_error_type="space",
        custom_error_message="write {low: 0.01, high: 10}, with log: true or a step, or a list of choices",
    ),
]


class Search(Block):
    """Trials with other params, scored on rows of the train part; the best is what is trained."""

    space: dict[str, Space] = Field(
        min_length=1,
        description="by name of the param: {low: …, high: …, log: true, step: …} or a list of choices; of an estimator "
        "in params, `name__param`; `prepare`, too, and `prepare__pca__n_components` of a step in it",
    )
    trials: int = Field(20, ge=1)
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
    prepare: Literal["auto", "minimal", "none"] | list[ImportPath | Step] = Field(
        "minimal",
        description="what comes before the estimator. minimal: what it cannot do without; auto: what it needs to do "
        "well, such as scaling; none; or scikit-learn compatible steps by import path",
    )
    search: Search | None = Field(None, description="for better params")


class Model(Block):
    """One model: split → train → evaluate → register."""

    data: str = Field(description="the dataset")
    target: str = Field(description="the column to predict")
    split: Split
    train: Train
    gates: Gates = Field(description="they say whether a version may become `staging`, and `production`")
