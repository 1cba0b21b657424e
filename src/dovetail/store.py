"""The MLflow side: runs, logged models, versions and aliases, found by content. The only importer of mlflow."""

import getpass
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail import keys, model_package, series, trash
from dovetail.lineage import FileRef
from dovetail.model_package import ModelContent, Place
from dovetail.series import Observed
from dovetail.trash import Discarded

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
SOURCE_TYPE = "dvc"  # of a dataset: content that DVC can bring back by its md5
_LOG_BATCH = 100  # params and tags that one log_batch call may carry
_VALUE_LIMIT = 6000  # characters of a param's value
_PARENT = "mlflow.parentRunId"
_OF_MODELS = {
    "mlflow.experimentKind": "custom_model_development"
}  # else `mlflow ui` shows one of few runs as of prompts


@dataclass(frozen=True, slots=True)
class Run:
    """A run found by its fingerprint; one that is not `complete` was interrupted."""

    id: str
    complete: bool
    experiment: str
    ended: int | None = None  # when the script that opened it was done; None: nobody but Dovetail opened it


@dataclass(frozen=True, slots=True)
class Live:
    """A run that a script opened inside a stage, and the execution of the stage that it belongs to."""

    run: Run
    execution: str | None


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version found by its model's bytes.

    Attributes:
        reproduced: What `dovetail reproduce` said of it last.
        allow: Packages that its pickle may name besides the usual, with commas between them.
        commit: HEAD when it was registered.
    """

    model: str
    number: int
    run_id: str
    md5: str | None
    reproduced: str | None = None
    allow: str = ""
    commit: str | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """What MLflow shows of a run; one that is not `active` was deleted and can still be brought back."""

    id: str
    active: bool
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]

    @property
    def model_md5(self) -> str | None:
        """The digest of the model that the run made."""
        return self.tags.get(keys.MODEL_MD5)


@dataclass(frozen=True, slots=True)
class RunContent:
    """All that a run shows besides the model."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    data: Mapping[FileRef, str]  # with its role
    artifacts: Mapping[str, Path]  # path in the run → file or folder
    texts: Mapping[str, str]
    time: int | None  # in milliseconds since the epoch; None: now


class Store:
    """One repository's MLflow store. Every write either happens whole or can be repeated without doubling."""

    def __init__(self, client: "MlflowClient", root: Path, uri: str) -> None:
        self._client = client
        self._root = root
        self.uri = uri
        self._experiments: dict[str, str] = {}  # what was asked once: MLflow takes 10 ms for each question
        self._registered: set[str] = set()

    def experiment(self, name: str) -> str:
        """The id of the experiment, made if it is not there."""
        if name in self._experiments:
            return self._experiments[name]
        if found := self._client.get_experiment_by_name(name):
            self._experiments[name] = str(found.experiment_id)
            return self._experiments[name]
        # MLflow's default is ./mlruns of whoever comes first, which may be a temporary experiment's folder.
        location = (self._root / "mlruns" / name).as_uri() if self.uri.startswith(SQLITE) else None
        self._experiments[name] = str(self._client.create_experiment(name, artifact_location=location))
        self.__dict__.pop("_places", None)
        return self._experiments[name]

    @cached_property
    def _places(self) -> list[str]:
        """The ids of all experiments."""
        return [e.experiment_id for e in _pages(self._client.search_experiments)]

    def find_run(self, experiment: str, fingerprint: str) -> Run | None:
        """The oldest run with this fingerprint: where two writers met, both choose the same.

        It is in `experiment`, or wherever the script that opened it put it.
        """
        found = self._runs_tagged(keys.FINGERPRINT, fingerprint)
        mine = [run for run in found if run.info.experiment_id == experiment or keys.DVC_INPUTS in run.data.tags]
        return _run(mine[0]) if mine else None

    def live_runs(self, inputs: str) -> list[Live]:
        """The finished runs that scripts opened in the stage with these inputs, adopted ones aside, oldest first."""
        found = self._runs_tagged(keys.DVC_INPUTS, inputs)
        return [
            Live(_run(run), run.data.tags.get(keys.DVC_EXECUTION))
            for run in found
            if keys.FINGERPRINT not in run.data.tags
            and _PARENT not in run.data.tags
            and (run.info.status == "FINISHED" or keys.MODEL_MD5 in run.data.tags)  # or its adoption was interrupted
        ]

    def _runs_tagged(self, key: str, value: str) -> list[Any]:
        question = {"filter_string": f"tags.`{key}` = '{value}'", "order_by": ["attributes.start_time ASC"]}
        return list(_pages(self._client.search_runs, experiment_ids=self._places, **question))

    def adopt_run(self, run: Run, tags: Mapping[str, str]) -> Run:
        """Make a script's run the one that is found by its fingerprint, still to be filled."""
        from mlflow.entities import RunTag

        first = {key: value for key, value in tags.items() if key not in (keys.FINGERPRINT, keys.DVC_STAGE)}
        self._client.log_batch(run.id, tags=[RunTag(key, value) for key, value in first.items()])
        self._client.update_run(run.id, "RUNNING")
        self._client.set_tag(run.id, keys.FINGERPRINT, tags[keys.FINGERPRINT])
        return replace(run, complete=False)

    def nest_run(self, run: Run, parent: Run) -> None:
        """Show `run` below `parent`: another of the runs that the same execution of a stage made."""
        self._client.set_tag(run.id, _PARENT, parent.id)

    def delete_run(self, run: Run) -> None:
        """Put the run and those below it into MLflow's trash, where `mlflow runs restore` finds them."""
        for child in self._runs_tagged(_PARENT, run.id):
            self._client.delete_run(child.info.run_id)
        self._client.delete_run(run.id)

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], time: int | None) -> Run:
        """A run that is found by its tags from its first moment on."""
        from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_USER

        shown = {MLFLOW_USER: getpass.getuser(), MLFLOW_SOURCE_NAME: tags.get(keys.DVC_STAGE, "dovetail register")}
        if keys.GIT_COMMIT in tags:
            shown[MLFLOW_GIT_COMMIT] = tags[keys.GIT_COMMIT]
        made = self._client.create_run(experiment, time, {**shown, **tags}, name).info.run_id
        first = self.find_run(experiment, tags[keys.FINGERPRINT])
        if first and first.id != made:  # somebody on another machine was faster: one of the two has to go
            self._client.delete_run(made)
            return first
        return Run(made, complete=False, experiment=experiment)

    def fill_run(self, run: Run, content: RunContent) -> None:
        """Give the run all that it shows. Done again after an interruption it changes nothing that is there."""
        from mlflow.entities import Metric, Param

        shown = self._client.get_run(run.id)
        started = shown.info.start_time  # one time for all: the same metric twice is one metric
        metrics = []
        for name, value in ((keys.shown_name(key), value) for key, value in content.metrics.items()):
            if name not in shown.data.metrics:
                metrics.append(Metric(name, value, started, 0))
            elif shown.data.metrics[name] != value:  # the script's own curve: what counts is its last point
                last = max(self._client.get_metric_history(run.id, name), key=lambda m: (m.step, m.timestamp))
                metrics.append(Metric(name, value, last.timestamp + 1, last.step))
        # MLflow takes no second value for a param: what the script logged stays, lineage.json has the other.
        params = [
            Param(name, value[:_VALUE_LIMIT])
            for name, value in ((keys.shown_name(key), value) for key, value in content.params.items())
            if name not in shown.data.params
        ]
        self._client.log_batch(run.id, metrics=metrics)
        for start in range(0, len(params), _LOG_BATCH):
            self._client.log_batch(run.id, params=params[start : start + _LOG_BATCH])
        self._client.log_inputs(run.id, datasets=list(_dataset_inputs(content)))
        for path, file in content.artifacts.items():
            log = self._client.log_artifacts if file.is_dir() else self._client.log_artifact
            folder = Path(path) if file.is_dir() else Path(path).parent
            log(run.id, str(file), None if folder == Path() else folder.as_posix())
        for path, text in content.texts.items():
            self._client.log_text(run.id, text, path)

    def finish_run(self, run: Run, time: int | None) -> None:
        """Mark the run as complete; a script's run ended when the script did."""
        self._client.set_terminated(run.id, "FINISHED", run.ended or time)

    def find_model(self, run: Run, md5: str) -> str | None:
        """The id of the run's logged model with these bytes; one whose upload was interrupted is removed."""
        found = [
            model
            for model in self._client.search_logged_models([run.experiment], f"source_run_id = '{run.id}'")
            if keys.MODEL_MD5 in model.tags  # what a script logged itself stays as it is
        ]
        for model in found:
            if model.status != "READY":
                self._client.delete_logged_model(model.model_id)
        return next((str(m.model_id) for m in found if m.status == "READY" and m.tags.get(keys.MODEL_MD5) == md5), None)

    def log_model(self, run: Run, name: str, content: ModelContent, tags: Mapping[str, str]) -> str:
        """Log the model's file, byte for byte, as a pyfunc of the run; it is READY last. Returns its id.

        Raises:
            UserError: when the card beside the model does not describe one.
        """
        logged = self._client.create_logged_model(run.experiment, name, run.id, dict(tags), model_type="joblib")
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, "model")
            model_package.save(local, content, Place(logged.model_id, run.id, logged.artifact_location))
            self._client.log_model_artifacts(logged.model_id, str(local))
        self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def link_model(self, run: Run, model_id: str) -> None:
        """Name the logged model as the run's output, once it is whole."""
        from mlflow.entities import LoggedModelOutput

        outputs = self._client.get_run(run.id).outputs
        if model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
            self._client.log_outputs(run.id, [LoggedModelOutput(model_id, step=0)])

    def find_version(self, name: str, md5: str) -> Version | None:
        """The first version of the model `name` that has these bytes."""
        found = self._client.search_model_versions(f"name = '{name}' and tag.`{keys.MODEL_MD5}` = '{md5}'")
        return min((_version(v) for v in found), key=lambda v: v.number, default=None)

    def create_version(
        self, name: str, model_id: str, run: Run, tags: Mapping[str, str], description: str | None
    ) -> Version:
        """Register the logged model as the next version; its tags are there from its first moment on."""
        self._create_registered_model(name, description)
        return _version(
            self._client.create_model_version(
                name, f"models:/{model_id}", run.id, dict(tags), description=description, model_id=model_id
            )
        )

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

        MLflow has no call to choose one. A number is used up by a version made and deleted.
        """
        for version in self._client.search_model_versions(f"name = '{name}' and tag.`{keys.SKIPPED}` = 'true'"):
            self._client.delete_model_version(name, version.version)  # left by an interruption
        last = max((version.number for version in self.versions(name)), default=0)
        while last < number - 1:
            self._create_registered_model(name, None)
            made = self._client.create_model_version(name, "dovetail:/skipped", tags={keys.SKIPPED: "true"})
            self._client.delete_model_version(name, made.version)
            last = int(made.version)
        return last == number - 1

    def models(self) -> list[str]:
        """The names of all registered models."""
        return [model.name for model in _pages(self._client.search_registered_models)]

    def versions(self, name: str) -> list[Version]:
        """Every version of the model, in order."""
        found = _pages(self._client.search_model_versions, filter_string=f"name = '{name}'")
        return sorted((_version(v) for v in found), key=lambda v: v.number)

    def version(self, name: str, number: int) -> Version | None:
        """The version of that number."""
        return next((v for v in self.versions(name) if v.number == number), None)

    def version_of_alias(self, name: str, alias: str) -> Version | None:
        """The version that the alias names, by one question however many there are."""
        with _none_if_missing():
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

    def run(self, run_id: str) -> Shown | None:
        """What MLflow shows of the run, if there is one."""
        with _none_if_missing():
            return _shown(self._client.get_run(run_id))
        return None

    def runs_with_data(self, md5: str) -> list[Shown]:
        """Every run that was made of the data with this digest, at any distance, newest first."""
        question = f"dataset.digest = '{md5}'"
        return [
            _shown(r) for r in _pages(self._client.search_runs, experiment_ids=self._places, filter_string=question)
        ]

    def text(self, run_id: str, path: str) -> str | None:
        """A text artifact of the run, if it is there."""
        from mlflow.artifacts import load_text

        with _none_if_missing():
            return str(load_text(f"{self._client.get_run(run_id).info.artifact_uri}/{path}"))
        return None

    def stored_md5(self, run_id: str, path: str) -> str | None:
        """The digest of the bytes that the registry would serve for the model file `path`, read anew."""
        from mlflow.artifacts import download_artifacts

        outputs = self._client.get_run(run_id).outputs
        for output in outputs.model_outputs if outputs else ():
            with _none_if_missing():
                location = self._client.get_logged_model(output.model_id).artifact_location
                return _md5(download_artifacts(f"{location}/data/{Path(path).name}"))
        return None

    def discarded(self, names: Iterable[str]) -> list[Discarded]:
        """What lies in the trash of the experiments `names` and still has bytes, and uploads that never ended."""
        return trash.discarded(self._client, names)

    def empty(self, item: Discarded) -> None:
        """Delete the bytes of what lies in the trash."""
        trash.empty(self._client, item)

    def columns(self, name: str, number: int) -> tuple[list[str], list[str]]:
        """The columns that a version's signature names: all, and those that may be missing. Empty without one."""
        from mlflow.models import get_model_info

        with _none_if_missing():
            return _columns(get_model_info(f"models:/{name}/{number}").signature)
        return [], []

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(version.model, str(version.number), key, value)

    def observe(self, observed: Observed, metrics: Mapping[str, float], time: float) -> str:
        """Add a point to each metric of the version's monitoring, at `time` in seconds; returns the id of its run."""
        run_id = series.run_of(self._client, self.experiment(f"{observed.model}-monitoring"), observed)
        series.add(self._client, run_id, metrics, time)
        return run_id

    def write_text(self, run_id: str, path: str, text: str) -> None:
        """Keep a text as an artifact of the run."""
        self._client.log_text(run_id, text, path)

    def served_md5(self, version: Version) -> str | None:
        """The digest of the model file that `models:/<name>/<version>` gives, read anew; None where it gives none."""
        from mlflow.artifacts import download_artifacts, list_artifacts

        with _none_if_missing():
            location = self._client.get_model_version_download_uri(version.model, str(version.number))
            for file in list_artifacts(f"{location}/data"):
                return _md5(download_artifacts(f"{location}/{file.path}"))
        return None

    def lay_anew(self, version: Version, content: ModelContent) -> None:
        """Put the model's files where `models:/<name>/<version>` looks for them, over what lies there."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        number = str(version.number)
        location = self._client.get_model_version_download_uri(version.model, number)
        source = str(self._client.get_model_version(version.model, number).source)
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder, "model")
            model_package.save(local, content, Place(source.rpartition("/")[2], version.run_id, location))
            repository: Any = get_artifact_repository(location)  # untyped
            repository.log_artifacts(str(local))

    def restore_run(self, run_id: str) -> None:
        """Bring a deleted run back."""
        self._client.restore_run(run_id)

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


def load_model(uri: str, source: str) -> tuple[Any, Any, list[str], list[str]]:
    """What MLflow loads from `source`: the pyfunc model, its input example, its columns and those that may be missing.

    For a process that does nothing else: it unpickles.
    """
    import mlflow

    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(source)
    return model, model.input_example, *_columns(model.metadata.signature)


def _columns(signature: Any) -> tuple[list[str], list[str]]:
    named = [column for column in (signature.inputs if signature else None) or () if column.name]
    return [column.name for column in named], [column.name for column in named if not column.required]


@contextmanager
def _none_if_missing() -> Iterator[None]:
    """Go on after the block when MLflow or its artifact store does not have what was asked for."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"):
            raise
    except FileNotFoundError:
        pass


def _pages(search: Callable[..., Any], **question: Any) -> Iterator[Any]:
    """Every answer of one of MLflow's paged searches."""
    token = None
    while True:
        page = search(**question, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _run(entity: Any) -> Run:
    complete = entity.info.status == "FINISHED"
    ended = entity.info.end_time if keys.DVC_INPUTS in entity.data.tags else None
    return Run(entity.info.run_id, complete, str(entity.info.experiment_id), ended)


def _shown(run: Any) -> Shown:
    return Shown(
        run.info.run_id, run.info.lifecycle_stage == "active", run.data.tags, run.data.metrics, run.data.params
    )


def _dataset_inputs(content: RunContent) -> Iterator[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    # What was trained on comes first: MLflow's list of runs shows one dataset, the first.
    for ref, role in sorted(content.data.items(), key=lambda item: item[1] != "training"):
        source = json.dumps({"path": ref.path, "md5": ref.md5})
        profile = json.dumps({"size_bytes": ref.size})
        context = InputTag("mlflow.data.context", role)
        yield DatasetInput(Dataset(ref.path, ref.md5, SOURCE_TYPE, source, profile=profile), [context])


def _version(entity: Any) -> Version:
    return Version(
        model=entity.name,
        number=int(entity.version),
        run_id=entity.run_id,
        md5=entity.tags.get(keys.MODEL_MD5),
        reproduced=entity.tags.get(keys.REPRODUCE_VERDICT),
        allow=entity.tags.get(keys.PICKLE_ALLOW, ""),
        commit=entity.tags.get(keys.GIT_COMMIT),
    )


def _md5(file: str) -> str:
    with Path(file).open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()
