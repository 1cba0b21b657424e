"""The section `models` of params.yaml: what is trained on which data, and what a version must meet."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

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


class Train(Block):
    """What is trained. DVC follows it as a whole, so that each key besides the estimator may be left out."""

    estimator: ImportPath = Field(description="a scikit-learn compatible classifier or regressor")
    params: dict[str, Any] = Field(
        {},
        description="the estimator's parameters; one that is an estimator itself is {estimator: path, params: {…}}. "
        "class_weight and threshold (of two classes) are for any classifier"
    )
    prepare: Literal["auto", "minimal", "none"] | list[ImportPath | Step] = Field(
        "minimal",
        description="what comes before the estimator. minimal: what it cannot do without; auto: what it needs to do "
        "well, such as scaling; none; or scikit-learn compatible steps by import path",
    )


class Model(Block):
    """One model: split → train → evaluate → register."""

    data: str = Field(description="the dataset")
    target: str = Field(description="the column to predict")
    split: Split
    train: Train
    gates: Gates = Field(description="they say whether a version may become `staging`, and `production`")
