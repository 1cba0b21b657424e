"""The registered versions of a store and their aliases, found by content."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.models import folder_model
from dovetail.models.mlflow_folder import MLMODEL
from dovetail.models.network_file import model_in, packaged_model
from dovetail.tracking import artifacts, model_package, package_parts, store_lock, tag_migration
from dovetail.tracking.client import StoreClient, md5, none_if_missing, pages, unless_there
from dovetail.tracking.found_runs import Run
from dovetail.tracking.found_versions import Version, version_of
from dovetail.tracking.model_package import LoggedModel, ModelContent, columns_of
from dovetail.tracking.package_digest import package_digest
from dovetail.values import tag_keys, tag_layout

if TYPE_CHECKING:
    from mlflow import MlflowClient

MOST_SKIPPED = 1000  # numbers that one promoted version may be above the last


class Registry(StoreClient):
    """The versions' half of a store."""

    def __init__(self, client: "MlflowClient", root: Path, uri: str) -> None:
        super().__init__(client, root, uri)
        self._registered: set[str] = set()

    def find_version(self, name: str, md5: str) -> Version | None:
        """The first version of the model `name` that has these bytes."""
        found = self._search(name, md5, self._versions_of, lambda name: {v.md5 for v in self.versions(name) if v.md5})
        return min((version_of(v) for v in found), key=lambda v: v.number, default=None)

    def _versions_of(self, name: str, md5: str) -> list[Any]:
        return list(self._client.search_model_versions(f"name = '{name}' and tag.`{tag_keys.MODEL_MD5}` = '{md5}'"))

    def create_version(
        self, name: str, model_id: str, run: Run, tags: Mapping[str, str], description: str | None
    ) -> Version:
        """Register the logged model as the next version; its tags, with its package's, are there from the beginning."""
        package = self._packages.get(model_id) or self._package_at(
            self._client.get_logged_model(model_id).artifact_location
        )
        self._check_lock(name)
        self._create_registered_model(name, description)
        made = self._client.create_model_version(
            name, f"models:/{model_id}", run.id,
            tag_layout.stored(tag_layout.of_version({**tags, **({tag_keys.PACKAGE: package} if package else {})})),
            description=description, model_id=model_id,
        )  # fmt: skip
        self._note_created(name, tags[tag_keys.MODEL_MD5])
        return self._first_of(version_of(made)) if self.is_shared else version_of(made)

    def _first_of(self, made: Version) -> Version:
        """The first of the versions that were made with this one; the others are deleted, but for those with an alias.

        MLflow's client repeats a request whose answer is lost on the way: each time another version is made.
        """
        found = map(version_of, self._versions_of(made.model, str(made.md5)))
        first, *others = sorted((v for v in found if v.run_id == made.run_id), key=lambda v: v.number) or [made]
        named = set(self.aliases(made.model).values()) if others else set()
        for version in others:
            if version.number not in named:
                with none_if_missing():  # whoever made it found the same
                    self.delete_version(version)
        return first

    def _create_registered_model(self, name: str, description: str | None) -> None:
        if name in self._registered:
            return
        self._registered.add(name)
        with unless_there():
            self._client.create_registered_model(name, description=description)

    def skip_numbers(self, name: str, number: int) -> bool:
        """Use up version numbers so that the next version of the model gets `number`; whether that is still possible.

        MLflow has no call to choose one. A number is used up by a version made and deleted, which takes a tenth of a
        second: where more than MOST_SKIPPED are between, none is.
        """
        self._delete_skipped(name)  # left by an interruption
        last = max((version.number for version in self.versions(name)), default=0)
        while last < number - 1 <= last + MOST_SKIPPED:
            self._create_registered_model(name, None)
            made = self._client.create_model_version(name, "dovetail:/skipped", tags={tag_keys.SKIPPED: "true"})
            self._client.delete_model_version(name, made.version)
            last = int(made.version)
        if self.is_shared:
            self._delete_skipped(name)  # of a request whose answer was lost, and that was repeated
        return last == number - 1

    def _delete_skipped(self, name: str) -> None:
        for version in self._client.search_model_versions(f"name = '{name}' and tag.`{tag_keys.SKIPPED}` = 'true'"):
            self._client.delete_model_version(name, version.version)

    def models(self) -> list[str]:
        """The names of all registered models."""
        found = (model.name for model in pages(self._client.search_registered_models))
        return [name for name in found if not name.startswith(store_lock.PREFIX)]

    def versions(self, name: str) -> list[Version]:
        """Every version of the model, in order."""
        found = pages(self._client.search_model_versions, filter_string=f"name = '{name}'")
        return sorted((version_of(v) for v in found), key=lambda v: v.number)

    def version(self, name: str, number: int) -> Version | None:
        """The version of that number."""
        return next((v for v in self.versions(name) if v.number == number), None)

    def version_of_alias(self, name: str, alias: str) -> Version | None:
        """The version that the alias names, with one request however many there are."""
        with none_if_missing():
            return version_of(self._client.get_model_version_by_alias(name, alias))
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

    def has_signature(self, name: str, number: int) -> bool:
        """Whether the version has a signature, of columns or of tensors."""
        from mlflow.models import get_model_info

        with none_if_missing():
            return get_model_info(f"models:/{name}/{number}").signature is not None
        return False

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version; what is found out about it, a verdict and its time, is given together."""
        name, number = version.model, str(version.number)
        if version.is_outdated and any(map(tag_layout.is_former, tags)):  # what it said before holds, and is to go
            tag_migration.of_version(self._client, name, version.number)
        for key, value in tag_layout.changed(self._client.get_model_version(name, number).tags, tags).items():
            self._client.set_model_version_tag(name, number, key, value)

    def describe_version(self, version: Version, description: str) -> None:
        """Set the description of a version."""
        self._client.update_model_version(version.model, str(version.number), description)

    def served_md5(self, version: Version) -> str | None:
        """The digest, from its bytes, of the model of `models:/<name>/<version>`; None where it has none."""
        from mlflow.artifacts import download_artifacts, list_artifacts

        if version.is_folder:
            with none_if_missing(), artifacts.reading(self._location(version)) as folder:
                return folder_model.digest(folder)
            return None
        with none_if_missing():
            location = self._client.get_model_version_download_uri(version.model, str(version.number))
            if name := model_in(Path(file.path).name for file in list_artifacts(f"{location}/data")):
                return md5(download_artifacts(f"{location}/data/{name}"))
        return None

    @contextmanager
    def model_file(self, version: Version) -> Iterator[Path | None]:
        """The model of `models:/<name>/<version>`, a file or a folder, for the block; None where it has none."""
        with artifacts.reading(self._location(version)) as folder:
            if version.is_folder:
                yield folder
                return
            yield packaged_model(folder)

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
