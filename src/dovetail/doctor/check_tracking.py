"""Where runs are written to, and with which MLflow."""

import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.version import Version

from dovetail.registration import script_uris
from dovetail.registration.script_uris import is_relative
from dovetail.repo.dvc_values import RECEIPTS
from dovetail.repo.workspace import Workspace
from dovetail.tracking.connection import ENV_TRACKING_URI, Tracking
from dovetail.tracking.store import SQLITE
from dovetail.values.finding import Finding

# The newest fix that an advisory names, as known on 2026-11-23: CVE-2026-8147, any user may read and change all traces.
# https://github.com/advisories/GHSA-2cm6-r77w-6g96 (published 2026-07-02). Before it, among others, fixed in 3.11.0:
# https://github.com/advisories/GHSA-g35p-px32-whv6 and https://github.com/advisories/GHSA-f2m9-wcf4-cwwx
SAFE_MLFLOW = Version("3.14.0")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|beegfs|fuse\.(sshfs|s3fs|gcsfuse|rclone|glusterfs)"
)


def outdated_mlflow(_: Workspace, __: Tracking) -> Iterator[Finding]:
    """An MLflow with known security holes."""
    installed = Version(metadata.version("mlflow"))
    if installed < SAFE_MLFLOW:
        yield Finding(
            "error",
            f"MLflow {installed} is older than {SAFE_MLFLOW}",
            "its known security holes are public, see https://github.com/mlflow/mlflow/security/advisories",
            f"python -m pip install --upgrade 'mlflow>={SAFE_MLFLOW}'",
        )


def relative_folder(_: Workspace, __: Tracking) -> Iterator[Finding]:
    """A folder as the tracking URI. A relative SQLite file is none: Dovetail takes it from the repository's root."""
    uri = os.environ.get(ENV_TRACKING_URI, "")
    if uri and is_relative(uri) and not uri.startswith(SQLITE):
        yield Finding(
            "error",
            f"{ENV_TRACKING_URI} is {uri!r}, a relative folder",
            "a temporary experiment's run would be deleted with the experiment's folder",
            f"unset {ENV_TRACKING_URI}",
        )


def uris_in_code(workspace: Workspace, tracking: Tracking) -> Iterator[Finding]:
    """Scripts of stages that set a tracking URI of their own."""
    scripts = {dep for step in workspace.pipeline.stages for dep in step.deps}
    commands = [(step.name, command) for step in workspace.pipeline.stages for command in step.commands]
    yield from script_uris.findings(script_uris.Scripts(workspace.root), scripts, tracking.uri, commands)


def shared_sqlite(workspace: Workspace, tracking: Tracking) -> Iterator[Finding]:
    """SQLite on a network folder: its locks do not work there."""
    uri, mounts = tracking.uri, Path("/proc/self/mounts")
    if not uri.startswith(SQLITE) or not mounts.exists():  # elsewhere than on Linux this is not looked at
        return
    file = Path(uri.removeprefix(SQLITE))
    if kind := network_kind(mounts.read_text(encoding="utf-8"), file.resolve()):
        yield Finding(
            "error",
            f"{file} lies on a network folder ({kind})",
            "SQLite's locks do not work there: two writers destroy the store (https://sqlite.org/faq.html#q5)",
            f"export {ENV_TRACKING_URI}={SQLITE}$HOME/{workspace.root.name}-mlflow.db && dovetail sync --all, "
            "or for a team a server: mlflow server",
        )


def network_kind(mounts: str, path: Path) -> str | None:
    """The network file system that `path` lies on, told from the text of /proc/mounts; None for a disk."""
    best, kind = Path(), None
    for line in mounts.splitlines():
        _, place, type_, *_ = line.split(" ")
        folder = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), place))
        if path.is_relative_to(folder) and len(folder.parts) >= len(best.parts):
            best, kind = folder, type_
    return kind if kind and _NETWORK.fullmatch(kind) else None


def lost_store(workspace: Workspace, tracking: Tracking) -> Iterator[Finding]:
    """Receipts of a store that is gone: DVC would not fill a new one."""
    receipts = sorted((workspace.store_root / RECEIPTS).glob("*.json"))
    if receipts and not tracking.exists:
        yield Finding(
            "error",
            f"{tracking.uri.removeprefix(SQLITE)} is gone",
            f"{RECEIPTS} says that models are registered, so `dvc repro` registers none",
            "dovetail sync",
        )
