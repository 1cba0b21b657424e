"""The registered versions of a store and their aliases, found by content."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.tracking import artifacts, model_package, package_parts
from dovetail.tracking.client import StoreClient, md5, none_if_missing, pages
from dovetail.tracking.found_runs import Run
from dovetail.tracking.model_package import LoggedModel, ModelContent, columns_of
from dovetail.tracking.package_digest import MLMODEL, package_digest
from dovetail.values import tag_keys

if TYPE_CHECKING:
    from mlflow import MlflowClient

MOST_SKIPPED = 1000  # numbers that one promoted version may be above the last


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


class Registry(StoreClient):
    """The versions' half of a store."""

    def __init__(self, client: "MlflowClient", root: Path, uri: str) -> None:
        super().__init__(client, root, uri)
        self._registered: set[str] = set()

    def find_version(self, name: str, md5: str) -> Version | None:
        """The first version of the model `name` that has these bytes."""
        found = self._search(name, md5, self._versions_of, lambda name: {v.md5 for v in self.versions(name) if v.md5})
        return min((_version(v) for v in found), key=lambda v: v.number, default=None)

    def _versions_of(self, name: str, md5: str) -> list[Any]:
        return list(self._client.search_model_versions(f"name = '{name}' and tag.`{tag_keys.MODEL_MD5}` = '{md5}'"))

    def create_version(
        self, name: str, model_id: str, run: Run, tags: Mapping[str, str], description: str | None
    ) -> Version:
        """Register the logged model as the next version; its tags, with its package's, are there from the beginning."""
        self._create_registered_model(name, description)
        package = self._packages.get(model_id) or self._package_at(
            self._client.get_logged_model(model_id).artifact_location
        )
        made = self._client.create_model_version(
            name, f"models:/{model_id}", run.id, {**tags, **({tag_keys.PACKAGE: package} if package else {})},
            description=description, model_id=model_id,
        )  # fmt: skip
        self._note_created(name, tags[tag_keys.MODEL_MD5])
        return _version(made)

    def _create_registered_model(self, name: str, description: str | None) -> None:
        from mlflow.exceptions import MlflowException

        if name in self._registered:
            return
        self._registered.add(name)
        try:
            self._client.create_registered_model(name, description=description)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def skip_numbers(self, name: str, number: int) -> bool:
        """Use up version numbers so that the next version of the model gets `number`; whether that is still possible.

        MLflow has no call to choose one. A number is used up by a version made and deleted, which takes a tenth of a
        second: where more than MOST_SKIPPED are between, none is.
        """
        for version in self._client.search_model_versions(f"name = '{name}' and tag.`{tag_keys.SKIPPED}` = 'true'"):
            self._client.delete_model_version(name, version.version)  # left by an interruption
        last = max((version.number for version in self.versions(name)), default=0)
        while last < number - 1 <= last + MOST_SKIPPED:
            self._create_registered_model(name, None)
            made = self._client.create_model_version(name, "dovetail:/skipped", tags={tag_keys.SKIPPED: "true"})
            self._client.delete_model_version(name, made.version)
            last = int(made.version)
        return last == number - 1

    def models(self) -> list[str]:
        """The names of all registered models."""
        return [model.name for model in pages(self._client.search_registered_models)]

    def versions(self, name: str) -> list[Version]:
        """Every version of the model, in order."""
        found = pages(self._client.search_model_versions, filter_string=f"name = '{name}'")
        return sorted((_version(v) for v in found), key=lambda v: v.number)

    def version(self, name: str, number: int) -> Version | None:
        """The version of that number."""
        return next((v for v in self.versions(name) if v.number == number), None)

    def version_of_alias(self, name: str, alias: str) -> Version | None:
        """The version that the alias names, with one request however many there are."""
        with none_if_missing():
            return _version(self._client.get_model_version_by_alias(name, alias))
        return None

    def download(self, version: Version, folder: Path) -> None:
        """Copy the files of `models:/<name>/<version>` to `folder`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        location = self._client.get_model_version_download_uri(version.model, str(version.number))
        repository: Any = get_artifact_repository(location)  # untyped
        repository.download_artifacts("", dst_path=str(folder))

    def versions_of_bytes(self, digests: set[str]) -> list[Version]:
        """Every version, of any model, whose bytes have one of these digests."""
        return [v for name in self.models() for v in self.versions(name) if v.md5 in digests]

    def columns(self, name: str, number: int) -> tuple[list[str], list[str]]:
        """The columns that a version's signature names: all, and those that may be missing. Empty without one."""
        from mlflow.models import get_model_info

        with none_if_missing():
            return columns_of(get_model_info(f"models:/{name}/{number}").signature)
        return [], []

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(version.model, str(version.number), key, value)

    def served_md5(self, version: Version) -> str | None:
        """The digest, from its bytes, of the model file of `models:/<name>/<version>`; None where it has none."""
        from mlflow.artifacts import download_artifacts, list_artifacts

        with none_if_missing():
            location = self._client.get_model_version_download_uri(version.model, str(version.number))
            for file in list_artifacts(f"{location}/data"):
                return md5(download_artifacts(f"{location}/{file.path}"))
        return None

    @contextmanager
    def model_file(self, version: Version) -> Iterator[Path | None]:
        """The model file of `models:/<name>/<version>` for the block; None where it has none."""
        with artifacts.reading(self._location(version)) as folder:
            yield next((file for file in (folder / "data").glob("*") if file.is_file()), None)

    def compiled_md5(self, version: Version) -> str | None:
        """The digest, from its bytes, of the compiled file of `models:/<name>/<version>`; None where it has none."""
        with none_if_missing(), artifacts.reading(self._location(version)) as folder:
            file = folder / tag_keys.COMPILED_FILE
            return md5(str(file)) if file.is_file() else None
        return None

    def package_of(self, version: Version, *, without: str = "") -> str | None:
        """The digest, from its files, of the package of `models:/<name>/<version>`; None where it has none.

        The file `without` is left out. Nothing of the package is imported.
        """
        with none_if_missing():
            return self._package_at(self._location(version), without=without)
        return None

    def differing_parts(self, version: Version, pins: Sequence[str] = ()) -> list[str]:
        """What of the version's package can be told not to be as Dovetail writes it; see `package_parts`."""
        with none_if_missing(), artifacts.reading(self._location(version)) as folder:
            return package_parts.differing(folder, version.md5, version.onnx_md5, pins)
        return []

    def requirements_of(self, version: Version) -> list[str]:
        """The pins in the version's package."""
        with none_if_missing(), artifacts.reading(self._location(version)) as folder:
            return package_parts.pins(folder)
        return []

    def _location(self, version: Version) -> str:
        return str(self._client.get_model_version_download_uri(version.model, str(version.number)))

    def _package_at(self, location: str, *, without: str = "") -> str | None:
        with artifacts.reading(location) as folder:
            return package_digest(folder, without=without) if (folder / MLMODEL).exists() else None

    def replace_files(self, version: Version, content: ModelContent) -> str | None:
        """Write the files of `models:/<name>/<version>` again, and delete what else is there.

        A compiled model of the version stays. Returns the digest of the package, which the version's tag says then.
        """
        location = self._location(version)
        source = str(self._client.get_model_version(version.model, str(version.number)).source)
        with artifacts.writing(location) as folder:
            for file in folder.rglob("*"):
                if file.is_symlink():  # what is written is not to go where it leads
                    file.unlink()
            model_package.save(folder, content, LoggedModel(source.rpartition("/")[2], version.run_id, location))
            written = set(model_package.paths(content))
        if self._compiled(version):
            written.add(tag_keys.COMPILED_FILE)
        artifacts.keep_only(location, written)
        return self._tag_package(version)

    def package_if_replaced(self, version: Version, content: ModelContent, *, compiled: bool = True) -> str:
        """The digest of the version's package after `replace_files`, with its compiled model or without."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            model_package.save(folder, content, LoggedModel("", "", ""))
            if compiled and (file := self._compiled(version)):
                (folder / tag_keys.COMPILED_FILE).parent.mkdir()
                (folder / tag_keys.COMPILED_FILE).write_bytes(file)
            return package_digest(folder)

    def _compiled(self, version: Version) -> bytes | None:
        """The version's compiled model, if it is the tagged one."""
        with none_if_missing(), artifacts.reading(self._location(version)) as folder:
            content = (folder / tag_keys.COMPILED_FILE).read_bytes()
            if hashlib.md5(content, usedforsecurity=False).hexdigest() == version.onnx_md5:
                return content
        return None

    def add_file(self, version: Version, path: str, content: bytes) -> None:
        """Add the file `path` to those of `models:/<name>/<version>`.

        The package's tag follows, unless the other files are not the tagged ones: then it goes on saying so.
        """
        found = (self.package_of(version, without=omitted) for omitted in ("", path))
        known = version.package is None or version.package in found
        with artifacts.writing(self._location(version)) as folder:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        if known:
            self._tag_package(version)

    def _tag_package(self, version: Version) -> str | None:
        digest = self.package_of(version)
        if digest:
            self.tag_version(version, {tag_keys.PACKAGE: digest})
        return digest

    def tag_packages(self, name: str) -> None:
        """Tag the versions of the model that Dovetail made before packages had a digest; their files are read."""
        for version in self.versions(name):
            if version.md5 and version.package is None and self.served_md5(version) == version.md5:
                self._tag_package(version)

    def delete_version(self, version: Version) -> None:
        """Delete the version, and with it the aliases that name it."""
        self._client.delete_model_version(version.model, str(version.number))

    def aliases(self, name: str) -> dict[str, int]:
        """The version that each alias of the model names."""
        found = self._client.search_registered_models(f"name = '{name}'")
        return {alias: int(version) for model in found for alias, version in model.aliases.items()}

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Let `alias` name `version`."""
        self._client.set_registered_model_alias(name, alias, str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        """Let `alias` name nothing."""
        self._client.delete_registered_model_alias(name, alias)


def _version(entity: Any) -> Version:
    verdict = entity.tags.get(tag_keys.ONNX, "")
    return Version(
        model=entity.name,
        number=int(entity.version),
        run_id=entity.run_id,
        md5=entity.tags.get(tag_keys.MODEL_MD5),
        reproduced=entity.tags.get(tag_keys.REPRODUCE_VERDICT),
        allow=entity.tags.get(tag_keys.PICKLE_ALLOW, ""),
        commit=entity.tags.get(tag_keys.GIT_COMMIT) if entity.tags.get(tag_keys.GIT_DIRTY) == "false" else None,
        onnx=verdict,
        onnx_md5=entity.tags.get(tag_keys.ONNX_MD5) if verdict.startswith(tag_keys.ONNX_SAME) else None,
        package=entity.tags.get(tag_keys.PACKAGE),
        created=(entity.creation_timestamp or 0) // 1000,
        value=entity.tags.get(tag_keys.MODEL_VALUE),
    )
