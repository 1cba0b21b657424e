"""Add an entry to a section of a YAML file as text: comments, quotes and order stay as they are."""

import re

import yaml

from dovetail.errors import UserError
from dovetail.values.documents import load_yaml

_DEFAULT_INDENT = "  "
_BOM = "\ufeff"  # before the first line, as some editors of Windows write it


def add_entry(text: str, section: str, name: str, entry: str, file: str) -> str:
    """`text` with `name:` and, below it, the block `entry`, at the end of the top-level section; made if missing.

    Into a section in braces it is written in braces.

    Raises:
        UserError: when the outcome would not say the same besides the entry.
    """
    bare = text.removeprefix(_BOM)
    inside = _in_braces(bare, section, name, entry)
    written = _in_block(bare, section, name, entry) if inside is None else inside
    before, after = load_yaml(bare) or {}, _parsed(written)
    wanted = {**before, section: {**(before.get(section) or {}), name: yaml.safe_load(entry)}}
    if after != wanted:
        raise UserError(
            f"{file}: {section} is written in a way that an entry cannot be added to",
            f"write it as a block, or add by hand: {_flow(name, entry)}",
        )
    return (_BOM if text.startswith(_BOM) else "") + written


def _in_braces(text: str, section: str, name: str, entry: str) -> str | None:
    """The text with the entry behind the last one in the section's braces; None where it has entries and none."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError:
        return None
    if not isinstance(root, yaml.MappingNode):
        return None
    found = next((value for key, value in root.value if key.value == section), None)
    within, added = (found, _flow(name, entry)) if found else (root, f"{section}: {{{_flow(name, entry)}}}")
    if not isinstance(within, yaml.MappingNode) or not within.flow_style or not within.value:
        return None
    end = within.end_mark.index - 1  # of the brace
    last = within.value[-1][1].end_mark.index
    comma = "" if "," in re.sub(r"#.*", "", text[last:end]) else ","
    return f"{text[:last]}{comma}{text[last:end].rstrip(' ')} {added}{text[end:]}"


def _flow(name: str, entry: str) -> str:
    """The entry in one line."""
    said = yaml.safe_dump(
        {name: yaml.safe_load(entry)}, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True
    )
    return said.strip()[1:-1]


def _in_block(text: str, section: str, name: str, entry: str) -> str:
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if re.match(rf"{section}\s*:", line)), None)
    if start is None:
        body = [f"{section}:", *_block(name, entry, _DEFAULT_INDENT)]
        added = [*lines, *([""] if lines and lines[-1].strip() else []), *body]
    elif re.fullmatch(rf"{section}\s*:\s*(\{{\s*\}})?\s*(#.*)?", lines[start]) and not (load_yaml(text) or {}).get(
        section
    ):
        said = "  # " + lines[start].partition("#")[2].strip() if "#" in lines[start] else ""
        added = [*lines[:start], f"{section}:{said}", *_block(name, entry, _DEFAULT_INDENT), *lines[start + 1 :]]
    else:
        end = _end(lines, start)
        added = [*lines[:end], *_block(name, entry, _indent(lines[start + 1 : end])), *lines[end:]]
    return "\n".join(added) + "\n"


def add_lines(text: str, lines: list[str]) -> str:
    """`text` with each of `lines` that it does not hold at its end, whose last line may lack its newline."""
    known = {line.strip() for line in text.splitlines()}
    new = [line for line in lines if line not in known]
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{''.join(f'{line}{chr(10)}' for line in new)}"


def _end(lines: list[str], start: int) -> int:
    """The line behind the last one of the section that begins at `start`."""
    end = start + 1
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line.strip() and not line.startswith((" ", "\t", "#", "-")):
            break
        if line.strip() and not line.startswith("#"):
            end = number + 1
    return end


def _indent(body: list[str]) -> str:
    first = next((line for line in body if line.strip() and not line.lstrip().startswith("#")), _DEFAULT_INDENT)
    return first[: len(first) - len(first.lstrip())] or _DEFAULT_INDENT


def _block(name: str, entry: str, indent: str) -> list[str]:
    return [f"{indent}{name}:", *(f"{indent}{indent}{line}" for line in entry.splitlines())]


def _parsed(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
