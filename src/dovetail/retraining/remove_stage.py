"""Removing a stage that reads from outside the repository: what it read is from then on a file that DVC keeps."""

from pathlib import Path
from typing import Any

from dovetail.errors import UserError
from dovetail.retraining.remove_key import has_key, remove_key
from dovetail.values.documents import load_yaml


def remove_stage(root: Path, address: str) -> None:
    """Remove the stage at `address` from its dvc.yaml below `root`, or its key from the mapping that it is made from.

    Raises:
        UserError: when it is one of several stages that something else than a mapping makes.
    """
    file, _, name = address.rpartition(":")
    pipeline = root / (file or "dvc.yaml")
    content = load_yaml(pipeline.read_text(encoding="utf-8"))
    if name in content["stages"]:
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
            if file.is_file() and has_key(file.read_text(encoding="utf-8"), path):
                return file, path
    raise UserError(
        f"{address} reads from outside and is one of several that {pipeline.name} makes; it cannot be removed alone",
        f"give {base} a foreach over a mapping, or write {address} as a stage of its own",
    )


def _rewrite(file: Path, path: tuple[str, ...]) -> None:
    text = file.read_text(encoding="utf-8")
    if has_key(text, path):
        file.write_text(remove_key(text, path), encoding="utf-8")
