"""Names of tags in GTO's convention and back: which model, which folder, which version or alias."""

import re
from dataclasses import dataclass

from dovetail.values.registered_name import registered_name

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_NUMBER = "[0-9]{1,9}"  # one with more digits is no count of assignments
_TAG = re.compile(
    rf"(?:(?P<folder>[\w./-]+)=)?(?P<model>{_NAME})"
    rf"(?:@(?P<semver>v{_NUMBER}\.{_NUMBER}\.{_NUMBER}[\w.+-]*)|#(?P<alias>{_NAME}))(?P<cancel>!?)(?:#(?P<number>{_NUMBER}))?"
)
# What DVC's and git's rules both take.
_FOLDER = re.compile(r"[a-zA-Z0-9_-][\w.-]*(?:/[a-zA-Z0-9_-][\w.-]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TagName:
    """What the name of a tag says.

    Attributes:
        model: As MLflow's registry calls it.
        semver: The version that the commit is; None where the tag is of an alias.
        alias: The alias that is assigned; None where the tag is of a version.
        cancel: Whether that is taken back.
        number: The count of the assignment, 0 where there is none.
    """

    model: str
    semver: str | None
    alias: str | None
    cancel: bool
    number: int


def artifact_name(model: str, folder: str) -> str:
    """The name of a model in tags; `model` is as dvc.yaml has it, `folder` that of the dvc.yaml, from git's root.

    Where neither DVC nor git could read the folder in a tag, it is left out.
    """
    readable = _FOLDER.fullmatch(folder) and ".." not in folder and ".lock/" not in f"{folder}/"
    return f"{folder}={model}" if readable else model


def version_tag(artifact: str, semver: str) -> str:
    """The name of the tag that says which commit a version is."""
    return f"{artifact}@{semver}"


def alias_tag(artifact: str, alias: str, number: int) -> str:
    """The name of the tag that says what an alias names."""
    return f"{artifact}#{alias}#{number}"


def parse_name(name: str, prefix: str) -> TagName | None:
    """What GTO reads in a tag's name, unless it tells of a model outside of the folder `prefix`."""
    match = _TAG.fullmatch(name)
    if match is None or (match["folder"] and prefix and not f"{match['folder']}/".startswith(f"{prefix}/")):
        return None
    model, number = registered_name(match["model"]), int(match["number"] or 0)
    return TagName(model, match["semver"], match["alias"], bool(match["cancel"]), number)
