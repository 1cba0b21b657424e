"""What a run shows besides its model, and how MLflow takes it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.values import tag_keys
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.span import Span
from dovetail.values.trials import Trial

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Param, RunTag

LINEAGE_FILE, ENVIRONMENT_FILE = "lineage.json", "environment.txt"  # artifacts of every run
SOURCE_TYPE = "dvc"  # of a dataset: content that DVC can bring back by its md5
PARENT = "mlflow.parentRunId"  # MLflow's tag
VALUE_LIMIT = 6000  # characters of a param's value
_NAME_LIMIT = 500  # characters of a dataset's name


@dataclass(frozen=True, slots=True)
class RunContent:
    """All that a run shows besides the model."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    data: Mapping[FileRef, str]  # with its role
    artifacts: Mapping[str, Path]  # path in the run → file or folder
    texts: Mapping[str, str]
    time: int | None  # in milliseconds since the epoch; None: now
    span: Span | None = None  # when the stage ran that made the model; None where that is not known
    tables: tuple[str, ...] = ()  # those of the texts that MLflow is to show as tables
    trials: tuple[Trial, ...] = ()  # each shown as a run below it

    @property
    def began(self) -> int | None:
        """When the run is to begin, in milliseconds since the epoch; None: now."""
        return self.span.began if self.span else self.time


def read_lineage(text: str | None) -> Lineage | None:
    """The lineage that a run's lineage.json holds; None where there is none, or where it cannot be read."""
    try:
        return Lineage.from_json(json.loads(text)) if text else None
    except (ValueError, KeyError, TypeError):
        return None


def in_parts(entities: list[Any], most: int) -> Iterator[list[Any]]:
    """The entities in lists of at most `most`."""
    return (entities[start : start + most] for start in range(0, len(entities), most))


def params(content: RunContent, shown: Any) -> "list[Param]":
    """The params that `shown` lacks."""
    from mlflow.entities import Param

    # MLflow takes no second value for a param: what the script logged stays, lineage.json has the other.
    named = {tag_keys.shown_name(key): value for key, value in content.params.items()}
    return [Param(name, value[:VALUE_LIMIT]) for name, value in named.items() if name not in shown.data.params]


def shown_as_tables(content: RunContent, shown: Any) -> "list[RunTag]":
    """MLflow's own tag of the artifacts that it shows as tables, where `shown` lacks some; its script's stay in it."""
    from mlflow.entities import RunTag
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

    known = _entries(shown.data.tags.get(MLFLOW_LOGGED_ARTIFACTS))
    more = [one for one in ({"path": path, "type": "table"} for path in content.tables) if one not in known]
    return [RunTag(MLFLOW_LOGGED_ARTIFACTS, json.dumps([*known, *more]))] if more else []


def _entries(tag: str | None) -> list[Any]:
    """The list in a tag of JSON; empty where there is none."""
    try:
        found = json.loads(tag or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def dataset_inputs(content: RunContent) -> "Iterator[DatasetInput]":
    """What the run was made of. Its training data come first: MLflow's list of runs shows one dataset, the first."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    for ref, role in sorted(content.data.items(), key=lambda item: item[1] != "training"):
        source = json.dumps({"path": ref.path, "md5": ref.md5})
        profile = json.dumps({"size_bytes": ref.size})
        context = InputTag("mlflow.data.context", role)
        name = ref.path if len(ref.path) <= _NAME_LIMIT else tag_keys.shown_name(ref.path)
        yield DatasetInput(Dataset(name, ref.md5, SOURCE_TYPE, source, profile=profile), [context])
