"""The runs of a store and their logged models, found by content."""

import getpass
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.models import folder_model
from dovetail.models.network_file import model_in, packaged_model
from dovetail.models.reader import kind_of
from dovetail.tracking import artifacts, model_package, tag_migration
from dovetail.tracking.client import SQLITE, StoreClient, md5, none_if_missing, pages, unless_there
from dovetail.tracking.found_runs import LiveRun, Run, RunDetails, details_of, run_of
from dovetail.tracking.model_package import LoggedModel, ModelContent
from dovetail.tracking.package_digest import package_digest
from dovetail.tracking.run_content import (
    LINEAGE_FILE,
    PARENT,
    RunContent,
    dataset_inputs,
    in_parts,
    params,
    read_lineage,
    shown_as_tables,
)
from dovetail.values import stage_settings, tag_keys, tag_layout
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.tag_layout import TagChange

if TYPE_CHECKING:
    from mlflow import MlflowClient

_OF_MODELS = {"mlflow.experimentKind": "custom_model_development"}  # else MLflow's UI takes one of few runs for prompts
_BATCH_METRICS, _BATCH_PARAMS = 900, 100  # that one log_batch call may carry
_PAGE = 1000  # runs that are read at once, a quarter of a second


class Runs(StoreClient):
    """The runs' half of a store."""

    def __init__(self, client: "MlflowClient", root: Path, uri: str) -> None:
        super().__init__(client, root, uri)
        self._experiments: dict[str, str] = {}  # what was asked once: MLflow takes 10 ms for each question

    def experiment(self, name: str) -> str:
        """The id of the experiment, made if it is not there."""
        if name in self._experiments:
            return self._experiments[name]
        if found := self._client.get_experiment_by_name(name):
            self._experiments[name] = str(found.experiment_id)
            return self._experiments[name]
        # MLflow's default is ./mlruns of whoever comes first, which may be a temporary experiment's folder.
        location = (self._root / "mlruns" / name).as_uri() if self.uri.startswith(SQLITE) else None
        self.__dict__.pop("_experiment_ids", None)
        with unless_there():  # another clone was faster
            self._experiments[name] = str(
                self._client.create_experiment(name, artifact_location=location, tags=_OF_MODELS)
            )
        return self.experiment(name)

    @cached_property
    def _experiment_ids(self) -> list[str]:
        """The ids of all experiments."""
        return [e.experiment_id for e in pages(self._client.search_experiments)]

    def find_run(self, experiment: str, fingerprint: str) -> Run | None:
        """The oldest run with this fingerprint: where two writers met, both choose the same.

        It is in `experiment`, or wherever the script that opened it put it.
        """
        mine = self._runs_of(experiment, fingerprint)
        return run_of(mine[0]) if mine else None

    def _runs_of(self, experiment: str, fingerprint: str) -> list[Any]:
        found = self._search(tag_keys.FINGERPRINT, fingerprint, self._runs_tagged, self._values_of_tag)
        return [run for run in found if run.info.experiment_id == experiment or tag_keys.DVC_INPUTS in run.data.tags]

    def live_runs(self, inputs: str) -> list[LiveRun]:
        """The finished runs that scripts opened in the stage with these inputs, oldest first."""
        found = self._search(tag_keys.DVC_INPUTS, inputs, self._runs_tagged, self._values_of_tag)
        return [
            LiveRun(
                run_of(run),
                tags.get(tag_keys.DVC_EXECUTION),
                tag_keys.FINGERPRINT in tags,
                tags.get(PARENT),
                stage_settings.parse_settings_tag(tags.get(tag_keys.COMPUTING)),
            )
            for run, tags in ((run, tag_layout.plain(run.data.tags)) for run in found)
            if run.info.status == "FINISHED" or tag_keys.MODEL_MD5 in tags  # or adopted in part
        ]

    def has_logged(self, run: Run, md5: str, size: int) -> bool:
        """Whether a script logged a file of these bytes to the run or to one below it, as an artifact or in a model."""
        made = self._client.search_logged_models([run.experiment], f"source_run_id = '{run.id}'")
        places = [self._client.get_run(run.id).info.artifact_uri, *(model.artifact_location for model in made)]
        below = map(run_of, self._runs_tagged(PARENT, run.id))
        found = (artifacts.holds(place, md5, size) for place in places)
        return any(found) or any(self.has_logged(child, md5, size) for child in below)

    def _runs_tagged(self, key: str, value: str) -> list[Any]:
        question = {"filter_string": f"tags.`{key}` = '{value}'", "order_by": ["attributes.start_time ASC"]}
        return list(pages(self._client.search_runs, experiment_ids=self._experiment_ids, **question))

    def _values_of_tag(self, key: str) -> set[str] | None:
        page = self._client.search_runs(self._experiment_ids, f"tags.`{key}` LIKE '%'", max_results=_PAGE)
        return None if page.token else {run.data.tags[key] for run in page}

    def adopt_run(self, run: Run, tags: Mapping[str, str]) -> Run:
        """Make a script's run the one that is found by its fingerprint, still to be filled."""
        first = {key: value for key, value in tags.items() if key not in (tag_keys.FINGERPRINT, tag_keys.DVC_STAGE)}
        former = tuple(filter(tag_layout.is_former, self._client.get_run(run.id).data.tags))
        known = {key: value for key, value in run.tags.items() if tag_layout.is_former(key)}  # of the script's process
        tag_migration.set_run_tags(self._client, run.id, TagChange(tag_layout.stored({**known, **first}), former))
        self._client.update_run(run.id, "RUNNING")
        self._client.set_tag(run.id, tag_keys.FINGERPRINT, tags[tag_keys.FINGERPRINT])
        self._note_created(tag_keys.FINGERPRINT, tags[tag_keys.FINGERPRINT])
        return replace(run, complete=False)

    def nest_run(self, run: Run, parent: Run) -> None:
        """Show `run` below `parent`: another of the runs that the same execution of a stage made."""
        self._client.set_tag(run.id, PARENT, parent.id)

    def delete_run(self, run: Run) -> None:
        """Put the run and those below it into MLflow's trash, where `mlflow runs restore` finds them."""
        for child in self._runs_tagged(PARENT, run.id):
            self._client.delete_run(child.info.run_id)
        self._client.delete_run(run.id)

    def restore_run(self, run_id: str) -> None:
        """Restore a deleted run."""
        self._client.restore_run(run_id)

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], time: int | None) -> Run:
        """A run that is found by its tags from its first moment on."""
        from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_USER

        shown = {MLFLOW_USER: getpass.getuser(), MLFLOW_SOURCE_NAME: tags.get(tag_keys.DVC_STAGE, "dovetail register")}
        if tag_keys.GIT_COMMIT in tags:
            shown[MLFLOW_GIT_COMMIT] = tags[tag_keys.GIT_COMMIT]
        made = self._client.create_run(experiment, time, {**shown, **tag_layout.stored(tags)}, name)
        run = Run(made.info.run_id, complete=False, experiment=experiment, new=made, tags=dict(tags))
        self._note_created(tag_keys.FINGERPRINT, tags[tag_keys.FINGERPRINT])
        if self._missing is not None:  # nobody else writes
            return run
        alike = self._runs_of(experiment, tags[tag_keys.FINGERPRINT])
        # Another machine was faster; or, under the lock, the answer was lost and MLflow's client asked again.
        for other in alike[1:]:
            is_double = self._locks and other.info.status == "RUNNING" and tag_keys.DVC_INPUTS not in other.data.tags
            if is_double or other.info.run_id == run.id:
                self._client.delete_run(other.info.run_id)
        return run_of(alike[0]) if alike and alike[0].info.run_id != run.id else run

    def fill_run(self, run: Run, content: RunContent) -> None:
        """Give the run all that it shows. Done again after an interruption it changes nothing that is there."""
        from mlflow.entities import Metric

        shown = run.new or self._client.get_run(run.id)
        started = shown.info.start_time  # one time for all: the same metric twice is one metric
        metrics = []
        for name, value in ((tag_keys.shown_name(key), value) for key, value in content.metrics.items()):
            if name not in shown.data.metrics:
                metrics.append(Metric(name, value, started, 0))
            elif shown.data.metrics[name] != value:  # the script's own curve: what counts is its last point
                last = max(self._client.get_metric_history(run.id, name), key=lambda m: (m.step, m.timestamp))
                metrics.append(Metric(name, value, last.timestamp + 1, last.step))
        lacking = params(content, shown)
        parts = in_parts(metrics, _BATCH_METRICS), in_parts(lacking, _BATCH_PARAMS), [shown_as_tables(content, shown)]
        for some, others, tags in zip_longest(*parts, fillvalue=()):
            self._client.log_batch(run.id, metrics=some, params=others, tags=tags)
        self._client.log_inputs(run.id, datasets=list(dataset_inputs(content)))
        with artifacts.writing(shown.info.artifact_uri) as folder:
            for path, file in content.artifacts.items():
                artifacts.copy(file, folder / path)
            for path, text in content.texts.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(text, encoding="utf-8")

    def finish_run(self, run: Run, ended: int | None) -> None:
        """Mark the run as complete; a script's run ended when the script did.

        Where nobody knows when it `ended` it has no end: MLflow then shows no duration, in place of none at all.
        """
        if run.ended or ended:
            self._client.set_terminated(run.id, "FINISHED", run.ended or ended)
        else:
            self._client.update_run(run.id, "FINISHED")

    def _models_of(self, run: Run, *, new: str = "") -> list[Any]:
        """The run's logged models but scripts' own; those whose upload was interrupted are removed, but for `new`."""
        made = self._client.search_logged_models([run.experiment], f"source_run_id = '{run.id}'")
        found = [model for model in made if tag_keys.MODEL_MD5 in model.tags]
        for model in found:
            if model.status != "READY" and model.model_id != new:
                self._client.delete_logged_model(model.model_id)
        return found

    def find_model(self, run: Run, md5: str) -> str | None:
        """The id of the run's logged model with these bytes; one whose upload was interrupted is removed."""
        found = self._models_of(run)
        whole = (m for m in found if m.status == "READY" and m.tags.get(tag_keys.MODEL_MD5) == md5)
        return next((str(model.model_id) for model in whole), None)

    def log_model(self, run: Run, name: str, content: ModelContent, tags: Mapping[str, str]) -> str:
        """Log the model's file, byte for byte, as a pyfunc of the run; it is READY last. Returns its id.

        Raises:
            UserError: when the card beside the model does not describe one.
        """
        plain, kind = name.replace(".", "_"), kind_of(content.file)  # a dot it takes in a registered model's name alone
        logged = self._client.create_logged_model(
            run.experiment, plain, run.id, tag_layout.stored(tags), model_type=kind
        )
        if self._locks:  # of a request whose answer was lost, and that MLflow's client repeated
            self._models_of(run, new=str(logged.model_id))
        with artifacts.writing(logged.artifact_location) as folder:
            model_package.save(folder, content, LoggedModel(logged.model_id, run.id, logged.artifact_location))
            self._packages[str(logged.model_id)] = package_digest(folder)
        self._client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)

    def link_model(self, run: Run, model_id: str) -> None:
        """Name the logged model as the run's output, once it is whole."""
        from mlflow.entities import LoggedModelOutput
        from mlflow.exceptions import MlflowException

        if not run.new and model_id in self._models_linked(run):
            return
        try:
            self._client.log_outputs(run.id, [LoggedModelOutput(model_id, step=0)])
        except MlflowException:  # also where the first answer was lost: it does not take the same twice
            if model_id not in self._models_linked(run):
                raise

    def _models_linked(self, run: Run) -> set[str]:
        outputs = self._client.get_run(run.id).outputs
        return {output.model_id for output in (outputs.model_outputs if outputs else ())}

    def describe_run(self, run_id: str, change: TagChange) -> None:
        """Set tags of a run, its description among them, with one request, then delete others."""
        tag_migration.set_run_tags(self._client, run_id, change)

    def run(self, run_id: str) -> RunDetails | None:
        """What MLflow shows of the run, if there is one."""
        with none_if_missing():
            return details_of(self._client.get_run(run_id))
        return None

    def runs_with_data(self, md5: str) -> list[RunDetails]:
        """Every run that was made of the data with this digest, at any distance, newest first."""
        question = {"experiment_ids": self._experiment_ids, "filter_string": f"dataset.digest = '{md5}'"}
        return [details_of(run) for run in pages(self._client.search_runs, **question)]

    def text(self, run_id: str, path: str) -> str | None:
        """A text artifact of the run, if it is there."""
        with none_if_missing():
            location = str(self._client.get_run(run_id).info.artifact_uri)
            if folder := artifacts.local(location):  # MLflow would be imported to say that it is not there
                return (folder / path).read_text() if (folder / path).is_file() else None
            from mlflow.artifacts import load_text

            return str(load_text(f"{location}/{path}"))
        return None

    def lineage(self, run_id: str) -> Lineage | None:
        """What the run keeps of how its model was made; None where it keeps nothing, or nothing that can be read."""
        try:
            return read_lineage(self.text(run_id, LINEAGE_FILE))
        except UnicodeDecodeError:
            return None

    def has_file(self, run_id: str, path: str) -> bool:
        """Whether the run has an artifact of this name at its top."""
        return any(file.path == path for file in self._client.list_artifacts(run_id))

    def write_text(self, run_id: str, path: str, text: str) -> None:
        """Keep a text as an artifact of the run."""
        self._client.log_text(run_id, text, path)

    def stored_md5(self, run_id: str, artifact: FileRef) -> str | None:
        """The digest of the bytes that the registry would serve for the model `artifact`, computed from its bytes."""
        outputs = self._client.get_run(run_id).outputs
        for output in outputs.model_outputs if outputs else ():
            with none_if_missing():
                location = self._client.get_logged_model(output.model_id).artifact_location
                if artifact.is_folder:
                    with artifacts.reading(location) as found:
                        return folder_model.digest(found)
                if folder := artifacts.local(location):
                    if file := packaged_model(folder):
                        return md5(str(file))
                    continue
                from mlflow.artifacts import download_artifacts, list_artifacts

                if name := model_in(Path(file.path).name for file in list_artifacts(f"{location}/data")):
                    return md5(download_artifacts(f"{location}/data/{name}"))
        return None
