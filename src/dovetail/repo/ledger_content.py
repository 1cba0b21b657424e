"""Promotions compared with what they promote, by content: tag → commit → dvc.lock → md5 of the model.

All tagged commits are asked for at once, each distinct dvc.lock is read once, and DVC is only asked about a commit
where the lines that DVC writes do not say it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import yaml

from dovetail.errors import DovetailError, MissingFile, UnknownModel
from dovetail.repo.dvc_files import join
from dovetail.repo.git import Git
from dovetail.repo.git_values import Tag
from dovetail.repo.ledger import UNASSIGN, Event, Ledger, read
from dovetail.values.documents import load_yaml
from dovetail.values.lineage import PARAMS_FILE
from dovetail.values.registered_name import registered_name
from dovetail.values.short import SHORT

BytesAt = Callable[[str, str], str]  # model and commit → md5; raises UnknownModel, MissingFile where there is none
Object = tuple[str, str] | None  # type and full name; None where git lacks it
_OTHERS = ("\n    cmd:", "\n    deps:", "\n    params:")  # the sections of a stage beside its outs
_DIGEST = re.compile(r"[0-9a-f]{32}(?=\n|\Z)")
_ASKED = ("^{commit}", ":./dvc.lock", ":./dvc.yaml", f":./{PARAMS_FILE}")  # of each tagged commit; the last may lack
_VALUE = re.compile(r"\$\{([\w.]+)\}")


def read_checked(git: Git, bytes_at: BytesAt, tags: Sequence[Tag] | None = None) -> Ledger:
    """The ledger in the repository's tags, those events marked that git's own content contradicts.

    What cannot be checked is believed: the commit of a shallow clone that is not here, a folder whose listing is gone.

    Raises:
        GitFailed: when git cannot say.
    """
    found = git.tags() if tags is None else tags
    return read(found, lambda events: _contradicted(git, bytes_at, events), git.prefix)


def _contradicted(git: Git, bytes_at: BytesAt, events: Sequence[Event]) -> dict[Event, str]:
    asked = [event for event in events if event.kind != UNASSIGN]
    commits = list(dict.fromkeys(event.tag.commit for event in asked))
    found = git.objects(f"{sha}{what}" for sha in commits for what in _ASKED)
    blobs = {sha: found[at * len(_ASKED) :][: len(_ASKED)] for at, sha in enumerate(commits)}
    locks = _digests_in_locks(git, asked, blobs)
    recorded: dict[tuple[str, str], str] = {}  # model and commit → md5, or what is wrong with the commit
    problems: dict[Event, str] = {}
    for event in asked:
        if blobs[event.tag.commit][0] is None:
            continue
        md5 = locks.get(event)
        if md5 and (event.note is None or md5 == event.note.md5):
            continue
        key = (event.model, event.tag.commit)
        if key not in recorded:
            recorded[key] = _recorded(bytes_at, *key)
        if problem := _problem(event, recorded[key]):
            problems[event] = problem
    return problems


def _digests_in_locks(git: Git, events: Sequence[Event], blobs: Mapping[str, Sequence[Object]]) -> dict[Event, str]:
    """What the dvc.lock at each event's commit says of the model, where the lines that DVC writes say it."""
    here = [event for event in events if all(blobs[event.tag.commit][:3])]
    names = {event: [found[1] if found else "" for found in blobs[event.tag.commit]] for event in here}
    read = dict(git.blobs(dict.fromkeys(name for event in here for name in names[event][2:] if name)))
    texts = {name: content.decode(errors="replace") for name, content in read.items()}
    wanted: dict[str, dict[str, list[Event]]] = {}  # by the blob of dvc.lock and the path in it
    for event in here:
        if path := _path(texts[names[event][2]], event.model, texts.get(names[event][3], "")):
            wanted.setdefault(names[event][1], {}).setdefault(path, []).append(event)
    found: dict[Event, str] = {}
    for blob, content in git.blobs(wanted):
        for path, asking in wanted[blob].items():
            if md5 := _md5(content.decode(errors="replace"), path):
                found |= dict.fromkeys(asking, md5)
    return found


def _recorded(bytes_at: BytesAt, model: str, commit: str) -> str:
    """The digest that the commit records of the model; a sentence where it records none; empty where nobody knows."""
    try:
        return bytes_at(model, commit)
    except UnknownModel:
        return f"commit {commit[:SHORT]} declares no model {model}"
    except MissingFile:
        return f"commit {commit[:SHORT]} records no bytes of {model}"
    except DovetailError:
        return ""


def _problem(event: Event, recorded: str) -> str:
    if " " in recorded:
        return recorded
    if not event.note or recorded in ("", event.note.md5):
        return ""
    said = f"Dovetail-Model-Md5 is {event.note.md5[:SHORT]}"
    return f"{said}, commit {event.tag.commit[:SHORT]} records {recorded[:SHORT]} of {event.model}"


@lru_cache(maxsize=64)
def _path(pipeline: str, model: str, params: str) -> str | None:
    """The path of the model in the text of the root's dvc.yaml, as dvc.lock has it; None where DVC is to be asked.

    `${…}` in it is a value of the text of params.yaml, where dvc.yaml brings no values of its own.
    """
    if "wdir" in pipeline:  # then dvc.lock's paths start elsewhere
        return None
    try:
        declared = load_yaml(pipeline)
        path = {registered_name(name): one for name, one in declared["artifacts"].items()}[model]["path"]
        if "${" in path and "vars" not in declared and "\\" not in path:
            path = _VALUE.sub(lambda found: _value(load_yaml(params), found[1]), path)
    except (yaml.YAMLError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return path if isinstance(path, str) and join("", path) == path and "${" not in path else None


def _value(params: Any, key: str) -> str:
    """The text under a dotted key; what is no text, DVC writes in its own way."""
    for part in key.split("."):
        params = params[part]
    if not isinstance(params, str):
        raise TypeError
    return params


def _md5(lock: str, path: str) -> str | None:
    """The digest of the out `path` in the text of a dvc.lock, as DVC writes it; None where it is not found so."""
    entry = f"\n    - path: {path}\n      hash: md5\n      md5: "
    at = lock.find(entry)
    while at >= 0:
        end = at + len(entry)
        if lock.rfind("\n    outs:", 0, at) > max(lock.rfind(section, 0, at) for section in _OTHERS):
            md5 = _DIGEST.match(lock, end)
            return md5[0] if md5 else None
        at = lock.find(entry, end)
    return None
