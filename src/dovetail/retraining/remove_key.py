"""Removing a key from a YAML text; every other character, comments included, stays as it is."""

from collections.abc import Sequence
from typing import Any

import yaml

from dovetail.values.documents import load_yaml


def has_key(text: str, path: Sequence[str]) -> bool:
    """Whether the mappings of `text` lead down to the key at `path`.

    Raises:
        Unreadable: when the text is no YAML.
    """
    try:
        _find(text, path)
    except KeyError:
        return False
    return True


def remove_key(text: str, path: Sequence[str]) -> str:
    """`text` without the key at `path`; a mapping that had no other key becomes `{}`.

    Raises:
        KeyError: when there is no such key.
        Unreadable: when the text is no YAML.
    """
    text = text if text.endswith("\n") else f"{text}\n"
    mapping, number = _find(text, path)
    pairs = mapping.value
    (key, value) = pairs[number]
    if mapping.flow_style:
        if number + 1 < len(pairs):
            return text[: key.start_mark.index] + text[pairs[number + 1][0].start_mark.index :]
        start = pairs[number - 1][1].end_mark.index if number else key.start_mark.index
        return text[:start] + text[value.end_mark.index :]
    lines = text.splitlines(keepends=True)
    first, last = key.start_mark.line, _last_line(value)
    if len(pairs) == 1:
        lines[first : last + 1] = [f"{' ' * key.start_mark.column}{{}}\n"]
    else:
        del lines[first : last + 1]
    return "".join(lines)


def _find(text: str, path: Sequence[str]) -> tuple[Any, int]:
    load_yaml(text)  # strictly: PyYAML takes a key twice, and marks of another kind
    node = yaml.compose(text, Loader=yaml.SafeLoader)  # the one in C knows no positions of characters
    for depth, name in enumerate(path, 1):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        number = next((n for n, (key, _) in enumerate(pairs) if key.value == name), None)
        if number is None:
            raise KeyError(".".join(path))
        if depth == len(path):
            return node, number
        node = pairs[number][1]
    raise KeyError(".".join(path))


def _last_line(node: Any) -> int:
    """The last line of the node itself: PyYAML counts blank lines and comments after a block as part of it."""
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        return int(node.end_mark.line) - 1  # it ends where the next line begins
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return int(node.end_mark.line)
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)
