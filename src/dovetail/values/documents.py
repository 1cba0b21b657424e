"""YAML and JSON that people write and break, read strictly: every fault is one error that says what and where."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import yaml

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MOST_NODES = 2_000_000  # once each alias is written out: far more than dvc.lock has, few enough to hold in memory
_DEEPEST = 200
_LARGEST_KEPT = 1 << 18  # bytes; parsed it takes ten times as much
_SHOWN = 60
_CONFLICT = re.compile(r"^<{7} .*?^>{7}( |$)", re.MULTILINE | re.DOTALL)


class Unreadable(ValueError):
    """What is wrong with a document and where in it, on one line; the caller knows the file's name."""


class _Yaml12(_Loader):  # type: ignore[misc]  # its base is chosen while running
    """YAML 1.2, which DVC writes. PyYAML reads 1.1: `yes` and `on` would be true, `12:30` a number, `1e-05` a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (the name and the kind are PyYAML's)
        first: [(tag, form) for tag, form in forms if tag.rpartition(":")[2] not in ("bool", "int", "float")]
        for first, forms in _Loader.yaml_implicit_resolvers.items()
    }


# https://yaml.org/spec/1.2.2/#1032-tag-resolution
_FLOAT = (
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _tag, _form, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "0|[-+]?[1-9][0-9]*|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_form})$"), list(_first))


def decoded(content: bytes | str) -> str:
    """The text of a document: UTF-8, without a byte-order mark, each line ended by a line feed.

    Raises:
        Unreadable: when it is not UTF-8, has a NUL byte in it, or git's conflict markers.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from error
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    for what, at in (("a NUL byte", text.find("\0")), ("git's conflict markers", _conflict(text))):
        if at >= 0:
            raise Unreadable(f"line {text.count(chr(10), 0, at) + 1}: {what}")
    return text


def _conflict(text: str) -> int:
    found = _CONFLICT.search(text) if "<<<<<<< " in text else None
    return found.start() if found else -1


def load_yaml(content: bytes | str) -> Any:
    """The content of a YAML document as DVC reads it; None where it is empty.

    Raises:
        Unreadable: when it is none, has a key twice, an anchor within itself or more nodes than fit in memory.
    """
    text = decoded(content)
    try:
        loader = _Yaml12(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _count(node, {}, 0)
            return _constructed(loader, node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_marked(error.problem_mark or error.context_mark, str(error.problem))) from error
    except yaml.YAMLError as error:
        raise Unreadable(_one_line(error)) from error
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error


@lru_cache(maxsize=16)
def _kept_yaml(content: bytes | str) -> Any:
    return load_yaml(content)


def shared_yaml(content: bytes | str) -> Any:
    """What `load_yaml` gives, parsed once for all who ask for this content: nobody may change it.

    Raises:
        Unreadable: as `load_yaml` does.
    """
    return _kept_yaml(content) if len(content) <= _LARGEST_KEPT else load_yaml(content)


def load_json(content: bytes | str) -> Any:
    """The content of a JSON document.

    Raises:
        Unreadable: when it is none, or has a key twice.
    """
    try:
        return json.loads(decoded(content), object_pairs_hook=_without_repeated)
    except json.JSONDecodeError as error:
        raise Unreadable(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise Unreadable("nested too deeply") from error
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(_one_line(error)) from error


def load_document(content: bytes | str, path: str) -> Any:
    """The content of a document, whose form the ending of `path` tells: JSON, TOML, anything else is YAML.

    Raises:
        Unreadable: when it is none.
    """
    suffix = PurePosixPath(path).suffix
    if suffix == ".toml":
        try:
            return tomllib.loads(decoded(content))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise Unreadable(_one_line(error)) from error
    return load_json(content) if suffix == ".json" else load_yaml(content)


def mapping(value: Any, place: str) -> Mapping[str, Any]:
    """`value`, which stands at `place` and has to be a mapping with texts as keys; empty where there is nothing.

    Raises:
        Unreadable: when it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"{place} is {shown(value)}, not a mapping")
    for key in value:
        text(key, f"the key {shown(key)} of {place}")
    return value


def entries(value: Any, place: str) -> list[Any]:
    """`value`, which stands at `place` and has to be a list; empty where there is nothing.

    Raises:
        Unreadable: when it is something else.
    """
    if value is not None and not isinstance(value, list):
        raise Unreadable(f"{place} is {shown(value)}, not a list")
    return value or []


def text(value: Any, place: str) -> str:
    """`value`, which stands at `place` and has to be a text.

    Raises:
        Unreadable: when it is something else.
    """
    if not isinstance(value, str):
        raise Unreadable(f"{place} is {shown(value)}, not a text")
    return value


def numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested mappings as (dotted key, number); what is no number is left out.

    Raises:
        Unreadable: when one is too large for a float.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from numbers(inner, f"{prefix}{key}.")
    elif isinstance(value, int | float):
        try:
            yield prefix.removesuffix("."), float(value)
        except OverflowError as error:
            raise Unreadable(f"{prefix.removesuffix('.')} is too large for a float") from error


def shown(value: Any) -> str:
    """A value in a message, short."""
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"


def _count(node: yaml.Node, known: dict[int, int | None], depth: int) -> int:
    """The number of nodes that `node` is with every alias written out."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (counted := known.get(id(node), 0)) != 0:
        if counted is None:
            raise Unreadable(_marked(node.start_mark, "an anchor that contains itself"))
        return counted
    if depth > _DEEPEST:
        raise Unreadable(_marked(node.start_mark, "nested too deeply"))
    known[id(node)] = None
    total = 1 + sum(_count(inner, known, depth + 1) for inner in _inner(node))
    if total > _MOST_NODES:
        raise Unreadable(_marked(node.start_mark, f"aliases that stand for more than {_MOST_NODES} values"))
    known[id(node)] = total
    return total


def _inner(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise Unreadable(_marked(key.start_mark, f"the key {shown(key.value)} a second time"))
                keys.add((key.tag, key.value))
            yield key
            yield value


def _constructed(loader: Any, node: yaml.Node) -> Any:
    try:
        return loader.construct_document(node)
    except (ValueError, OverflowError, TypeError, AttributeError, KeyError) as error:
        # PyYAML does not say where: the first value that it cannot make is the one.
        raise Unreadable(_faulty(node) or _one_line(error)) from error


def _faulty(node: yaml.Node) -> str | None:
    if isinstance(node, yaml.ScalarNode):
        loader = _Yaml12("")
        try:
            loader.construct_document(node)
        except (ValueError, OverflowError, TypeError, AttributeError, KeyError) as error:
            return _marked(node.start_mark, f"{shown(node.value)}: {_one_line(error)}")
        finally:
            loader.dispose()
        return None
    return next(filter(None, map(_faulty, _inner(node))), None)


def _without_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        raise Unreadable(f"the key {shown(next(k for k in names if names.count(k) > 1))} a second time")
    return found


def _marked(mark: Any, problem: str) -> str:
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + " ".join(problem.split())


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said.partition("; use sys.set_int")[0] or type(error).__name__
