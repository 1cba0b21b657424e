"""params.yaml as frozen models: an unknown key, a wrong type or an unknown name is refused, with its place in the file.

`python -m stages.common.params` from `src/` prints the JSON schema, which is kept beside params.yaml for editors.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from stages.common.block import Block, BlockName
from stages.common.datasets import Dataset
from stages.common.errors import StageError
from stages.common.models import Model
from stages.common.sources import Sources

PARAMS_FILE = "params.yaml"
T = TypeVar("T")
_TAG = "<"  # begins the name that pydantic gives a kind of value, which is no place in the file


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the same, in C where it was built
    """YAML's numbers as DVC reads them: `1e-3` is one."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Params(Block):
    """The whole of params.yaml."""

    sources: Sources
    datasets: dict[BlockName, Dataset]
    models: dict[BlockName, Model]
    reproducible: bool = Field(
        default=False,
        description="the same bytes on every machine with AVX2: one thread, no newer instructions; false: full speed",
    )
    model_format: Literal["joblib", "skops"] = Field(
        default="joblib", description="of every model's file: joblib's pickle, or skops, which is no pickle"
    )

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
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  (a safe loader)
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
    place = ".".join(part for part in map(str, problem["loc"]) if not part.startswith(_TAG))
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
    kinds = [schema]
    for part in loc:
        if not str(part).startswith(_TAG):
            inner = (
                k.get("properties", {}).get(part) or k.get("additionalProperties") or k.get("items") for k in kinds
            )
            kinds = [kind for node in inner if isinstance(node, dict) for kind in _kinds(schema, node)]
    return [key for kind in kinds for key in kind.get("properties", ())]


def _kinds(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each kind of value that the schema's node allows."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    options = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    yield from (kind for option in options for kind in _kinds(schema, option)) if options else (node,)


if __name__ == "__main__":
    print(json.dumps(Params.model_json_schema(by_alias=True), indent=2))
