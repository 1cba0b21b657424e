"""Blocks of params.yaml and dvc.yaml for a data set and a model, as text: what was seen in the data is a comment."""

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from dovetail.scaffold.inferred import InferredData
from dovetail.values.reading import USUAL, Reading

_SLACK = 0.01  # rows that may be rejected beyond those without a target
TAKEN = frozenset(
    {"importance", "__init__"}
)  # plots/importance and src/stages/cleaning/__init__.py are not a model's own
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def dataset_block(raw: str, target: str | None, data: InferredData) -> Iterator[str]:
    """The lines of the block `datasets.<name>`."""
    yield f"raw: {quoted(raw)}"
    yield "schema:"
    yield "  columns:"
    for column in data.columns:
        if not column.dtype:
            yield f"    # {quoted(column.name)}: {column.warning}"
            continue
        nullable = ", nullable: true" if column.nullable and column.name != target else ""
        comment = f"  # {column.warning}" if column.warning else ""
        yield f"    {quoted(column.name)}: {{dtype: {column.dtype}{nullable}}}{comment}"
    settings = [f"max_rejected: {data.missing + _SLACK if data.missing else 0.0:.3g}"]
    how = data.reading
    settings += [f"{key}: {quoted(value)}" for key, value in _written(how).items()]
    settings += [f"null_values: {_json(list(how.null_values))}"] if how.null_values != USUAL.null_values else []
    yield f"clean: {{engine: polars, {', '.join(settings)}}}"
    yield "deliver: []"


def _written(how: Reading) -> dict[str, str]:
    """The settings of a data set that are not the usual ones."""
    keys = ("separator", "encoding", "decimal", "thousands", "sheet")
    return {key: getattr(how, key) for key in keys if getattr(how, key) != getattr(USUAL, key)}


def model_block(data_name: str, target: str, data: InferredData, estimator: str | None = None) -> Iterator[str]:
    """The lines of the block `models.<name>`; without an `estimator` with one that is good without being tuned."""
    yield f"data: {data_name}"
    yield f"target: {quoted(target)}"
    features = [column for column in data.columns if column.name != target]
    dropped = [quoted(column.name) for column in features if column.is_id or not column.dtype]
    drop = f", drop: [{', '.join(dropped)}]" if dropped and len(dropped) < len(features) else ""
    yield f"split: {{test_size: 0.2, seed: 42, stratify: {'auto' if data.classes else 'false'}{drop}}}"
    yield "train:"
    yield f"  estimator: {estimator or data.estimator}"
    if estimator is None:
        yield "  params: {random_state: 42}"
    yield "  prepare: auto"
    yield "gates: {}  # besides those of every model: better than the baseline, data and commit known, it serves"


def artifact_block(name: str, target: str) -> Iterator[str]:
    """The lines of the entry `artifacts.<name>` of dvc.yaml."""
    files = f"card: models/{name}.json, tables: [plots/importance/{name}.csv]"
    meta = f'{files}, gates: "${{models.{name}.gates}}", retrain: {{label: {quoted(target)}}}'
    yield f"path: models/{name}.${{model_format}}"
    yield "type: model"
    yield f"desc: {_json(f'Predicts {target}.')}"
    yield f"meta: {{{meta}}}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # a surrogate pair is no character in YAML


def quoted(text: str) -> str:
    """A string in YAML, quoted where it would be read as something else."""
    return text if re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) and text.lower() not in _WORDS else _json(text)


def plain_name(text: str) -> str:
    """A name that YAML, DVC, MLflow and the pipeline take: `Größe 2024` is `grosse_2024`, `2024` is `data_2024`."""
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", plain).strip("_")
    return name if name[:1].isalpha() and name not in _WORDS | TAKEN else f"data_{name}".rstrip("_")
