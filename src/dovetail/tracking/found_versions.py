"""Versions as a store shows them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dovetail.models.folder_md5 import SUFFIX
from dovetail.values import tag_keys, tag_layout


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version found by its model's bytes.

    Attributes:
        reproduced: The last verdict of `dovetail reproduce`.
        allow: Packages that its pickle may name besides the usual, with commas between them.
        commit: HEAD when it was registered, if no tracked file differed from it.
        onnx: The verdict on its compiled model; empty where dvc.yaml asks for none.
        onnx_md5: Of the compiled file; None where there is none to use.
        package: The digest of all that its package consists of; None where it was registered before that was kept.
        created: When MLflow made it, in seconds since the epoch.
        value: The digest of what its model is; None likewise, and where nobody can tell.
        description: As MLflow has it, when the version was found; `tags` likewise, in the shape of `tag_layout.plain`.
        is_outdated: Whether some of them are laid out as they formerly were.
    """

    model: str
    number: int
    run_id: str
    md5: str | None
    reproduced: str | None = None
    allow: str = ""
    commit: str | None = None
    onnx: str = ""
    onnx_md5: str | None = None
    package: str | None = None
    created: int = 0
    value: str | None = None
    description: str = field(default="", compare=False, repr=False)
    tags: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    is_outdated: bool = field(default=False, compare=False, repr=False)

    @property
    def is_folder(self) -> bool:
        """Whether its model is all of the folder that MLflow wrote, not one file."""
        return bool(self.md5 and self.md5.endswith(SUFFIX))


def version_of(entity: Any) -> Version:
    """The version as MLflow's client, or what reads its file, gives it."""
    tags = tag_layout.plain(entity.tags)
    verdict = tags.get(tag_keys.ONNX, "")
    return Version(
        model=entity.name,
        number=int(entity.version),
        run_id=entity.run_id,
        md5=tags.get(tag_keys.MODEL_MD5),
        reproduced=tags.get(tag_keys.REPRODUCE_VERDICT),
        allow=tags.get(tag_keys.PICKLE_ALLOW, ""),
        commit=tags.get(tag_keys.GIT_COMMIT) if tags.get(tag_keys.GIT_DIRTY) == "false" else None,
        onnx=verdict,
        onnx_md5=tags.get(tag_keys.ONNX_MD5) if verdict.startswith(tag_keys.ONNX_SAME) else None,
        package=tags.get(tag_keys.PACKAGE),
        created=(entity.creation_timestamp or 0) // 1000,
        value=tags.get(tag_keys.MODEL_VALUE),
        description=entity.description or "",
        tags=tags,
        is_outdated=tag_layout.is_outdated(entity.tags),
    )
