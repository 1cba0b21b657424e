"""Where MLflow's store keeps each fact of `tag_keys`, and the way back, from this layout and from the former one.

What is searched for has a key of its own. The rest is for Dovetail alone: it has keys of `mlflow.`, which MLflow's
pages hide, and what belongs together stands together in one tag, as JSON: it is there whole or not at all.

In the former layout each fact had a tag of its own, by its key in `tag_keys`, and each data file another one. Where
both are there, the former one holds: it was left by a migration that was killed, and then both say the same, or an
older Dovetail has written it since.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dovetail.values import tag_keys as keys

PREFIX = "mlflow.dovetail."  # MLflow hides what begins with mlflow.
PROVENANCE = f"{PREFIX}provenance"
DATA = f"{PREFIX}data"  # path → md5; more of them in data.2, data.3, …
LONGEST = 4000  # characters of a value that every version of MLflow takes
PLAIN = (
    keys.FINGERPRINT, keys.MODEL_MD5, keys.DVC_INPUTS, keys.MONITOR_VERSION, keys.SKIPPED,
)  # fmt: skip  # what is searched for
ALONE: Mapping[str, str] = {
    keys.COMPUTING: f"{PREFIX}computing",
    keys.TRIAL: f"{PREFIX}trial",
}
TOGETHER: Mapping[str, Mapping[str, str]] = {
    PROVENANCE: {
        keys.GIT_COMMIT: "commit",
        keys.GIT_DIRTY: "dirty",
        keys.DVC_STAGE: "stage",
        keys.DVC_EXPERIMENT: "experiment",
        keys.DVC_EXECUTION: "execution",
        keys.ENV_MD5: "environment",
        keys.COMPUTING_MD5: "computing",
        keys.SIGNATURE: "signature",
        keys.MODEL_VALUE: "value",
        keys.PACKAGE: "package",
        keys.PICKLE_ALLOW: "allow",
    },
    f"{PREFIX}onnx": {keys.ONNX: "verdict", keys.ONNX_MD5: "md5"},
    f"{PREFIX}reproduction": {
        keys.REPRODUCE_VERDICT: "verdict",
        keys.REPRODUCE_TIME: "time",
        keys.REPRODUCE_ENV_MD5: "environment",
        keys.REPRODUCE_ENV_CHANGED: "changed",
    },
    f"{PREFIX}monitoring": {
        keys.MONITOR_VERDICT: "verdict",
        keys.MONITOR_TIME: "time",
        keys.MONITOR_RUN: "run",
    },
}
_FACTS = {place: fact for fact, place in ALONE.items()}
_FORMER = frozenset([*ALONE, *(fact for fields in TOGETHER.values() for fact in fields)])
# Every run of the former layout has one of them: a search finds it by that.
FORMER_OF_RUNS = (
    keys.TRIAL, keys.COMPUTING, keys.DVC_EXECUTION, keys.DVC_EXPERIMENT, keys.DVC_STAGE, keys.MODEL_VALUE, keys.ENV_MD5,
    keys.COMPUTING_MD5, keys.SIGNATURE, keys.GIT_COMMIT, keys.GIT_DIRTY,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TagChange:
    """What is to be done to the tags of a run or a version: what to set, then what to delete, in this order."""

    set: Mapping[str, str]
    delete: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.set or self.delete)


def stored(facts: Mapping[str, str]) -> dict[str, str]:
    """The tags that keep the facts. Those that stand together are to be given together: what is not is gone.

    What is no fact of Dovetail's stays as it is.
    """
    written = {key: value for key, value in facts.items() if not is_former(key)}
    for place, fields in TOGETHER.items():
        if known := {name: facts[fact] for fact, name in fields.items() if fact in facts}:
            written[place] = _json(known)
    written |= {place: facts[fact] for fact, place in ALONE.items() if fact in facts}
    return written | dict(_data_tags(facts))


def of_version(facts: Mapping[str, str]) -> dict[str, str]:
    """The facts that a version is tagged with: what its run says at length, it does not say again.

    MLflow's list of versions shows every tag, also those that its pages hide.
    """
    left_out = (keys.FINGERPRINT, keys.CLAIMED)
    return {key: value for key, value in facts.items() if key not in left_out and not key.startswith(keys.DATA_PREFIX)}


def changed(tags: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, str]:
    """What keeps the new facts of a version that has these tags; of its provenance the other ones stay."""
    if not any(fact in TOGETHER[PROVENANCE] for fact in facts):
        return stored(facts)
    known = {fact: value for fact, value in plain(tags).items() if fact in TOGETHER[PROVENANCE]}
    return stored({**known, **facts})


def plain(tags: Mapping[str, str]) -> dict[str, str]:
    """The facts that the tags keep, in whichever layout, and the tags that are none of them."""
    facts: dict[str, str] = {}
    rest: dict[str, str] = {}
    for key, value in tags.items():
        if key in TOGETHER:
            read = _read(value)
            facts |= {fact: read[name] for fact, name in TOGETHER[key].items() if name in read}
        elif key in _FACTS:
            facts[_FACTS[key]] = value
        elif key == DATA or key.startswith(f"{DATA}."):
            facts |= {keys.DATA_PREFIX + path: md5 for path, md5 in _read(value).items()}
        else:
            rest[key] = value
    return facts | rest


def is_former(key: str) -> bool:
    """Whether only the former layout has a tag of this key."""
    return key in _FORMER or key.startswith(keys.DATA_PREFIX)


def is_outdated(tags: Mapping[str, str]) -> bool:
    """Whether some of the tags are of the former layout."""
    return any(map(is_former, tags))


def migration(tags: Mapping[str, str], run: Mapping[str, str] | None = None) -> TagChange:
    """What turns the former layout into this one; done in part and done again it comes to the same.

    What a search finds such runs by goes last. `run` are the facts of a version's run: where they say what
    made the version, the version does not say it again.
    """
    if not is_outdated(tags):
        return TagChange({}, ())
    facts = plain(tags)
    made_by = run and run.get(keys.FINGERPRINT)
    if made_by and facts.get(keys.FINGERPRINT, made_by) == made_by:
        facts = of_version(facts)
    laid = stored(facts)
    wanted = {key: value for key, value in laid.items() if tags.get(key) != value}
    searched = {key: rank for rank, key in enumerate(FORMER_OF_RUNS)}
    gone = sorted(tags.keys() - laid.keys(), key=lambda key: (searched.get(key, is_former(key) - 2), key))
    return TagChange(wanted, tuple(gone))


def _data_tags(facts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The digests of data in as few tags as MLflow takes: one holds some forty."""
    parts: list[dict[str, str]] = []
    length = LONGEST
    for path, md5 in sorted((key, value) for key, value in facts.items() if key.startswith(keys.DATA_PREFIX)):
        name = path.removeprefix(keys.DATA_PREFIX)
        if len(_json({name: md5})) > LONGEST:
            name = keys.coded_path(name)
        added = len(_json({name: md5}))
        if length + added > LONGEST:
            parts.append({})
            length = 0
        parts[-1][name] = md5
        length += added
    for number, part in enumerate(parts, 1):
        yield DATA if number == 1 else f"{DATA}.{number}", _json(part)


def _json(content: Mapping[str, str]) -> str:
    """As text that a person reads, if every letter of it is one: a path need not be."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content)
    return text


def _read(text: str) -> dict[str, str]:
    """What `_json` wrote; of what somebody else wrote there, the part that can be meant."""
    try:
        read: Any = json.loads(text)
    except ValueError:
        return {}
    return {key: value for key, value in read.items() if isinstance(value, str)} if isinstance(read, dict) else {}
