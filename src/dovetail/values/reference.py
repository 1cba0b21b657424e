"""What a user may type to name a model, a version, a run, a commit's model or data. One table, both directions."""

import re
from dataclasses import dataclass

from dovetail.values.registered_name import DVC_NAME, registered_name

PRODUCTION, STAGING = "production", "staging"  # the aliases that a bare reference means, in this order
STANDARD = (PRODUCTION, STAGING, "champion", "challenger", "candidate", "canary", "shadow")  # nobody mistypes these


@dataclass(frozen=True, slots=True)
class ByVersion:
    """`iris/3` or `models:/iris/3`."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"models:/{self.model}/{self.version}"


@dataclass(frozen=True, slots=True)
class ByAlias:
    """`iris@production`, `models:/iris@production`; `iris` alone: its production, else staging."""

    model: str
    alias: str | None = None

    def __str__(self) -> str:
        return f"models:/{self.model}@{self.alias}" if self.alias else self.model


@dataclass(frozen=True, slots=True)
class ByRun:
    """`runs:/<id>`."""

    run_id: str

    def __str__(self) -> str:
        return f"runs:/{self.run_id}"


@dataclass(frozen=True, slots=True)
class ByCommit:
    """`v1.2:iris`: the model of a git revision."""

    rev: str
    model: str

    def __str__(self) -> str:
        return f"{self.rev}:{self.model}"


@dataclass(frozen=True, slots=True)
class ByDigest:
    """An md5, with `.dir` where it is a folder's: data."""

    md5: str

    def __str__(self) -> str:
        return self.md5


@dataclass(frozen=True, slots=True)
class ByPath:
    """A path below the repository's root: data."""

    path: str

    def __str__(self) -> str:
        return self.path


Reference = ByVersion | ByAlias | ByRun | ByCommit | ByDigest | ByPath

_WORD = re.compile(r"[A-Za-z0-9][\w.-]*")  # the name of a model in MLflow's registry
_NAME = rf"(?P<model>{_WORD.pattern}|{DVC_NAME.pattern})"
_FORMS: list[tuple[re.Pattern[str], type[Reference]]] = [
    (re.compile(r"(?P<md5>[0-9a-f]{32}(\.dir)?)"), ByDigest),
    (re.compile(r"runs:/(?P<run_id>[0-9a-f]+)"), ByRun),
    (re.compile(rf"(models:/)?{_NAME}/(?P<version>[0-9]+)"), ByVersion),
    (re.compile(rf"(models:/)?{_NAME}@(?P<alias>[A-Za-z][\w-]*)"), ByAlias),
    (re.compile(rf"(?P<rev>[^:]+):{_NAME}"), ByCommit),
    (re.compile(_NAME), ByAlias),
    (re.compile(r"(?P<path>.+)"), ByPath),
]


def parse(text: str, models: frozenset[str] | None) -> Reference:
    """What `text` names; models are called as in MLflow's registry or as in dvc.yaml.

    A bare word is a model if one of `models` is called so, else a path, and so is what has a `/` in front of `@` or a
    version. None: whatever can be the name of a model is one.
    """
    for form, kind in _FORMS:
        if match := form.fullmatch(text.strip()):
            found = match.groupdict()
            model = registered_name(found.get("model") or "")
            is_known = models is None or model in models
            is_bare = kind is ByAlias and found.get("alias") is None
            may_be_path = "/" in (found.get("model") or "") and kind is not ByCommit and "models:/" not in text
            if (is_bare or may_be_path) and not is_known:
                continue
            if kind is ByVersion:
                return ByVersion(model, int(found["version"]))
            return kind(**found | ({"model": model} if model else {}))  # type: ignore[arg-type]  # the groups of each form are its kind's fields
    return ByPath(text)
