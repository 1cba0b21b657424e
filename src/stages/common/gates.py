"""A model's gates in params.yaml; what each of them means is Dovetail's affair, whose defaults a test holds equal."""

from typing import Literal

from pydantic import ConfigDict, Field

from stages.common.block import Block


class Gate(Block):
    """Bounds of a metric; `min` and `max` may be read on the bound of its interval instead of its value."""

    min: float | None = None
    max: float | None = None
    on: Literal["value", "low", "high"] = Field("value", description="low, high: the bounds of the 95 % interval")


class BaselineGate(Block):
    """Asked of every model: the low bound of a metric's interval is above what a model without features has."""

    metric: str | None = Field(None, description="default: accuracy, or r2 of a regression; others with an interval do")
    margin: float = Field(0.0, ge=0, description="by how much it has to be above")
    required: bool = Field(default=True, description="false: a model may be no better than its baseline")


class DataGate(Block):
    """Data quality."""

    max_rejected: float = Field(0.0, ge=0, le=1, description="share of rows that the schema may reject")


class SignatureGate(Block):
    """Whether a card describes what the model takes and gives."""

    required: bool = True


class ProvenanceGate(Block):
    """Asked of every promotion: a commit holds the model, its data is available. More can be asked for."""

    pushed: bool = Field(default=False, description="a remote branch holds the commit")
    reproduced: bool = Field(default=False, description="`dovetail reproduce` rebuilt it identically")


class PickleGate(Block):
    """Asked of every promotion: the model's pickle names nothing unexpected."""

    allow: list[str] = Field(
        [],
        description="exact names, `lightgbm.sklearn.LGBMClassifier`, or a package for all of its classes, besides "
        "scikit-learn, numpy, scipy, skrub and pandas",
    )


class ServingGate(Block):
    """Asked of every promotion: the model loads through MLflow and answers its input example. More can be asked for."""

    p99_ms: float | None = Field(None, gt=0, description="time of one row, 99th percentile, in milliseconds")
    max_mb: float | None = Field(None, gt=0, description="size in megabytes")
    missing: bool | None = Field(None, description="true: missing values in any column are to be answered")


class SliceGate(Block):
    """A metric on the test rows with each value of a column."""

    metric: str
    min: float
    min_rows: int = Field(1, ge=1, description="slices with fewer rows are passed over")


class ChampionGate(Block):
    """Asked of every promotion: on the same rows the version that is replaced is not better."""

    metric: str | None = Field(None, description="default: accuracy, or r2 of a regression")
    margin: float = Field(0.0, ge=0, description="by how much the candidate may be worse")
    confidence: float = Field(0.95, gt=0, lt=1, description="of the interval of the difference")
    min_rows: int = Field(20, ge=2, description="fewer rows tell nothing")
    target: str | None = Field(None, description="the column to predict, where it is not the only one left")


class Gates(Block):
    """What a version must meet. Each other key is a metric's name, with its bounds."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Gate]

    baseline: BaselineGate | None = None
    data: DataGate | None = None
    signature: SignatureGate | None = None
    provenance: ProvenanceGate | None = None
    pickle: PickleGate | None = None
    serving: ServingGate | None = None
    slices: dict[str, SliceGate] | None = Field(None, description="by column")
    champion: ChampionGate | None = None
