"""A file of digests that `dovetail promote --trust FILE` writes: what a server without the repository may serve.

JSON: `{"iris@production": {"version": 3, "md5": …, "package": …, "allow": […]}, "iris/3": {…}}`.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import MissingFile, OutsideError, Untrusted
from dovetail.repo.binding import Binding, VersionInMlflow, binding
from dovetail.repo.ledger import read
from dovetail.values.reference import PRODUCTION
from dovetail.values.registered_name import registered_name

if TYPE_CHECKING:
    from dovetail.repo.workspace import Workspace
    from dovetail.tracking.connection import Tracking

_MD5, _SHA256 = re.compile(r"[0-9a-f]{32}(\.dir)?"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TrustRequest:
    """Which alias of which model the file is to vouch for, beside those that it names already."""

    model: str
    alias: str
    file: Path


def write_trust(workspace: "Workspace", tracking: "Tracking", request: TrustRequest) -> None:
    """Write what the ledger says that the alias names, for the alias and for the version's number.

    Raises:
        MissingFile: when the file is there and is no trust file.
        Untrusted: when MLflow shows something else.
        OutsideError: when MLflow does not answer, or the file cannot be written.
    """
    model, alias, file = registered_name(request.model), request.alias, request.file
    with tracking.store() as store:
        version = store.version_of_alias(model, alias)
    if version is None or version.md5 is None:
        raise Untrusted(f"{model}@{alias} names no version in MLflow", "dovetail sync")
    shown = VersionInMlflow(model, alias, version.number, version.md5)
    said = binding(
        read(workspace.git.tags(), prefix=workspace.git.prefix),
        shown,
        bytes_of=lambda event: workspace.bytes_at(model, event.tag.commit),
    )
    if said is None:
        raise Untrusted(f"no tag says what {shown.what} names", promote_command(model, alias, file))
    said.check(shown)
    entry: dict[str, Any] = {"version": version.number, "md5": version.md5}
    if package := said.package or version.package:
        entry["package"] = package
    entry["allow"] = [name for name in version.allow.split(",") if name]
    known = _entries(file) if file.exists() else {}
    content = {**known, f"{model}@{alias}": entry, f"{model}/{version.number}": entry}
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise OutsideError(f"{file} cannot be written: {error}", f"ls -ld {file.parent}") from error


def read_trust(file: Path, shown: VersionInMlflow) -> Binding:
    """What the file says of what MLflow shows.

    Raises:
        MissingFile: when it cannot be read, or is no trust file.
        Untrusted: when it says nothing of it.
    """
    entries = _entries(file)
    names = list(dict.fromkeys((shown.what, f"{shown.model}/{shown.number}")))
    for name in names:
        if name in entries:
            entry = entries[name]
            return Binding(
                by=str(file),
                md5=entry["md5"],
                package=entry.get("package", ""),
                version=entry.get("version"),
                allow=tuple(entry.get("allow", ())),
            )
    missing = f"does not name {' or '.join(names)}"
    raise Untrusted(f"{file} {missing}", promote_command(shown.model, shown.alias, file))


def check_trust(file: Path) -> None:
    """Look whether it is a trust file.

    Raises:
        MissingFile: when it cannot be read, or is none.
    """
    _entries(file)


def promote_command(model: str, alias: str | None, file: Path) -> str:
    """What writes the file."""
    to = f" --to {alias}" if alias and alias != PRODUCTION else ""
    return f"dovetail promote {model}{to} --trust {file}"


def _entries(file: Path) -> dict[str, dict[str, Any]]:
    next_command = promote_command("MODEL", None, file)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingFile(f"{file} cannot be read as a trust file: {error}", next_command) from error
    if not isinstance(said, dict):
        raise MissingFile(f"{file} is not a trust file: it holds no object", next_command)
    for name, entry in said.items():
        if not _is_entry(entry):
            raise MissingFile(f"{file} is not a trust file: see {name!r}", next_command)
    return said


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    md5, package, allow = entry.get("md5"), entry.get("package", ""), entry.get("allow", [])
    return (
        isinstance(md5, str)
        and _MD5.fullmatch(md5) is not None
        and isinstance(package, str)
        and (not package or _SHA256.fullmatch(package) is not None)
        and isinstance(allow, list)
        and all(isinstance(name, str) for name in allow)
        and isinstance(entry.get("version"), int | None)
    )
