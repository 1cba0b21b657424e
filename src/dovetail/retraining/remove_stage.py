"""Removing a stage that reads from outside the repository: what it read is from then on a file that DVC keeps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dovetail.errors import UserError, one_line
from dovetail.retraining.remove_key import has_key, remove_key
from dovetail.values.documents import Unreadable, load_yaml, mapping


def remove_stage(root: Path, address: str) -> None:
    """Remove the stage at `address` from its dvc.yaml below `root`, or its key from the mapping that it is made from.

    Raises:
        UserError: when it is one of several stages that something else than a mapping makes, or a file cannot be read.
    """
    file, _, name = address.rpartition(":")
    pipeline = root / (file or "dvc.yaml")
    content = _read(pipeline, load_yaml)
    if name in mapping(content.get("stages"), "stages"):
        _rewrite(pipeline, ("stages", name))
    else:
        base, _, key = name.partition("@")
        _rewrite(*_entry(pipeline, content, base, key, address))
    _rewrite(pipeline.with_name("dvc.lock"), ("stages", name))


def _entry(pipeline: Path, content: Any, base: str, key: str, address: str) -> tuple[Path, tuple[str, ...]]:
    """Where the mapping of a `foreach` has the key: in dvc.yaml itself, or in a file of params."""
    each = content["stages"].get(base, {}).get("foreach")
    if isinstance(each, dict):
        return pipeline, ("stages", base, "foreach", key)
    if isinstance(each, str) and each.startswith("${") and each.endswith("}"):
        path = (*each[2:-1].strip().split("."), key)
        names = ["params.yaml", *(v.partition(":")[0] for v in content.get("vars") or () if isinstance(v, str))]
        for file in (pipeline.with_name(name) for name in names):
            if file.is_file() and _read(file, lambda content: has_key(content, path)):
                return file, path
    raise UserError(
        f"{address} reads from outside and is one of several that {pipeline.name} makes; it cannot be removed alone",
        f"give {base} a foreach over a mapping, or write {address} as a stage of its own",
    )


def _rewrite(file: Path, path: tuple[str, ...]) -> None:
    def rest(text: str) -> str:
        return remove_key(text, path) if has_key(text, path) else text

    file.write_text(_read(file, rest), encoding="utf-8", newline="")


def _read(file: Path, parsed: Callable[[str], Any]) -> Any:
    """What `parsed` makes of the text of a file.

    Raises:
        UserError: when it cannot be read.
    """
    try:
        with file.open(encoding="utf-8", newline="") as content:
            return parsed(content.read())
    except (OSError, UnicodeDecodeError, Unreadable) as error:
        raise UserError(f"{file.name} cannot be read: {one_line(error)}", f"correct {file.name}, and commit") from error
