"""What a later commit allows a pickle to name holds for older versions, too: their bytes are the same."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dovetail.errors import DovetailError
from dovetail.gates import rules
from dovetail.promotion.gather import Candidate
from dovetail.registration.projection import project
from dovetail.repo.workspace import Workspace
from dovetail.tracking.store import Store, Version
from dovetail.values import tag_keys

Gates = Mapping[str, Mapping[str, Any]]


def with_later_names(workspace: Workspace, model: str, gates: Gates) -> tuple[Gates, tuple[str, ...]]:
    """The gates of a version's commit with the names that HEAD allows besides, and those names."""
    if workspace.tree.commit is None:
        return gates, ()
    try:
        now = workspace.at(workspace.tree.commit).model(model).gates
    except DovetailError:  # HEAD declares it no more
        return gates, ()
    own = rules.settings(gates, rules.PICKLE)["allow"]
    later = tuple(name for name in rules.settings(now, rules.PICKLE)["allow"] if name not in own)
    if not later:
        return gates, ()
    return {**gates, rules.PICKLE: {**(gates.get(rules.PICKLE) or {}), "allow": [*own, *later]}}, later


def let_loader_allow(workspace: Workspace, store: Store, version: Version, candidate: Candidate) -> str | None:
    """Write the version's package with the names that its gates allow now. Returns its digest."""
    assert candidate.commit is not None
    tree, allow = workspace.at(candidate.commit), tuple(candidate.gate(rules.PICKLE)["allow"])
    if version.allow == ",".join(allow):
        return store.package_of(version)
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        content = project(tree, tree.model(version.model), Path(folder)).artifact
        package = store.replace_files(version, replace(content, allow=allow))
    store.tag_version(version, {tag_keys.PICKLE_ALLOW: ",".join(allow)})
    return package
