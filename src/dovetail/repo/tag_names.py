"""Names of tags in GTO's convention and back: which model, which folder, which version or alias."""

import re

_NAME = r"[a-zA-Z0-9](?:[a-zA-Z0-9-/_]*[a-zA-Z0-9])?"
_NUMBER = "[0-9]{1,9}"  # one with more digits is no count of assignments
_TAG = re.compile(
    rf"(?:(?P<folder>[\w./-]+)=)?(?P<model>{_NAME})"
    rf"(?:@(?P<semver>v{_NUMBER}\.{_NUMBER}\.{_NUMBER}[\w.+-]*)|#(?P<alias>{_NAME}))(?P<cancel>!?)(?:#(?P<number>{_NUMBER}))?"
)
# What DVC's and git's rules both take.
_FOLDER = re.compile(r"[a-zA-Z0-9_-][\w.-]*(?:/[a-zA-Z0-9_-][\w.-]*)*", re.ASCII)


def artifact_name(model: str, folder: str) -> str:
    """The name of a model in tags; `folder` is that of its dvc.yaml, from git's root.

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


def parse_name(name: str, prefix: str) -> re.Match[str] | None:
    """What GTO reads in a tag's name, unless it tells of a model outside of the folder `prefix`."""
    match = _TAG.fullmatch(name)
    inside = not match or not match["folder"] or not prefix or f"{match['folder']}/".startswith(f"{prefix}/")
    return match if inside else None
