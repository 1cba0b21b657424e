"""The section `models` of params.yaml: what is trained on which data, and what a version must meet."""

from typing import Any

from pydantic import Field

from stages.common.block import Block, ImportPath
from stages.common.gates import Gates


class Split(Block):
    """Rows to learn from and rows to test on (sklearn.model_selection.train_test_split)."""

    test_size: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0, lt=2**32)
    stratify: bool = Field(default=False, description="keep the shares of the target's classes in both parts")
    drop: list[str] = Field([], description="columns that the model does not get")


class Model(Block):
    """One model: split → train → evaluate → register."""

    data: str = Field(description="the dataset")
    target: str = Field(description="the column to predict")
    split: Split
    estimator: ImportPath = Field(description="a scikit-learn compatible classifier or regressor")
    params: dict[str, Any] = Field(description="the estimator's parameters")
    gates: Gates = Field(description="they say whether a version may become `staging`, and `production`")
