"""MLflow's SQLite store read without MLflow, whose import takes as long as all else that a look takes, twice.

It answers what commands that only look ask most, as MLflow's client does; anything else, MLflow's client is made for.
So is it where the file is not of a form that is known here, or settings of MLflow's own say that it is not all.
Where there is no file there is nothing to read: a new clone, in which MLflow would have to make a store to say so.
"""

import math
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

# MLflow's number of the tables' form. A newer MLflow, which has another, is asked itself: compare the tables, run
# tests/test_sqlite_reader.py, and add it.
FORMS = frozenset({"dc11669786a5"})
_ELSEWHERE = ("MLFLOW_REGISTRY_URI", "MLFLOW_ENABLE_WORKSPACES", "MLFLOW_WORKSPACE")
_SECONDS = 20  # for a writer to be done
_BY_NAME = re.compile(r"name = '([^']*)'(?: and tag\.`([^`]*)` = '([^']*)')?")

# MLflow keeps prompts among the models, and leaves them out where nobody asks for them.
_MODELS = """
    select name from registered_models where workspace = 'default' and (?1 is null or name = ?1) and name not in
    (select name from registered_model_tags where key = 'mlflow.prompt.is_prompt' and value = 'true')
    order by name"""
_ALIASES = """
    select name, alias, version from registered_model_aliases
    where workspace = 'default' and (?1 is null or name = ?1)"""
_VERSIONS = """
    select version, run_id, creation_time, description from model_versions
    where workspace = 'default' and name = ? and current_stage != 'Deleted_Internal' and name not in
    (select name from model_version_tags where key = 'mlflow.prompt.is_prompt' and value = 'true')
    order by version desc"""
_VERSION_TAGS = "select version, key, value from model_version_tags where workspace = 'default' and name = ?"
_INFO = ("run_id", "status", "lifecycle_stage", "artifact_uri", "experiment_id", "start_time", "end_time")
_RUN = """
    select run_uuid, status, lifecycle_stage, artifact_uri, experiment_id, start_time, end_time
    from runs where run_uuid = ?"""
_TAGS = "select key, value from tags where run_uuid = ?"
_PARAMS = "select key, value from params where run_uuid = ?"
_METRICS = "select key, value, is_nan from latest_metrics where run_uuid = ?"
_OUTPUTS = """
    select destination_id from inputs
    where source_type = 'RUN_OUTPUT' and source_id = ? and destination_type = 'MODEL_OUTPUT'"""
_LOGGED_MODEL = "select artifact_location from logged_models where model_id = ? and lifecycle_stage = 'active'"


class _Page(list[Any]):
    """Answers, all on one page, as MLflow gives them."""

    token = None


def reader(file: Path, client: Callable[[], Any]) -> "SqliteReader | None":
    """What reads the store in the file; `client` makes MLflow's own client. None where that has to be asked."""
    if _is_elsewhere():
        return None
    made = SqliteReader(file, client)
    try:
        forms = made.rows("select version_num from alembic_version")
    except sqlite3.Error:  # MLflow says what is wrong with it
        return None
    return made if {form for (form,) in forms} <= FORMS and forms else None


def empty_reader(client: Callable[[], Any]) -> "EmptyReader | None":
    """What reads a store that was not made yet; `client` makes MLflow's own client. None where that has to be asked."""
    return None if _is_elsewhere() else EmptyReader(client)


def _is_elsewhere() -> bool:
    return any(os.environ.get(name) for name in _ELSEWHERE)


class SqliteReader:
    """MLflow's client as far as it is read with; what is not here is asked of MLflow's."""

    def __init__(self, file: Path, client: Callable[[], Any]) -> None:
        self._file = file
        self._make = client
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        if self._client is None:
            self._client = self._make()
        return getattr(self._client, name)

    def rows(self, question: str, value: str | None = None) -> list[tuple[Any, ...]]:
        """The answer of SQLite, read anew."""
        values = (value,) if "?" in question else ()
        with closing(sqlite3.connect(f"file:{quote(str(self._file))}?mode=ro", _SECONDS, uri=True)) as connection:
            return connection.execute(question, values).fetchall()

    def search_registered_models(self, filter_string: str | None = None, page_token: str | None = None) -> Any:
        """The registered models, or the one of a name, with their aliases."""
        match = _BY_NAME.fullmatch(filter_string) if filter_string else None
        if page_token or (filter_string and (match is None or match[2])):
            return self.__getattr__("search_registered_models")(filter_string, page_token=page_token)
        asked = match[1] if match else None
        aliases = self.rows(_ALIASES, asked)
        return _Page(
            SimpleNamespace(name=name, aliases={alias: version for of, alias, version in aliases if of == name})
            for (name,) in self.rows(_MODELS, asked)
        )

    def search_model_versions(self, filter_string: str | None = None, page_token: str | None = None) -> Any:
        """The versions of the model of a name, or those of them with a tag."""
        match = _BY_NAME.fullmatch(filter_string) if filter_string else None
        if match is None or page_token:
            return self.__getattr__("search_model_versions")(filter_string, page_token=page_token)
        name, key, value = match.groups()
        about = self.rows(_VERSIONS, name)
        tags: dict[int, dict[str, str]] = {version: {} for version, *_ in about}
        for version, tag, held in self.rows(_VERSION_TAGS, name):
            tags.setdefault(version, {})[tag] = held
        return _Page(
            SimpleNamespace(
                name=name, version=number, run_id=run, creation_timestamp=made, tags=tags[number], description=text
            )
            for number, run, made, text in about
            if key is None or tags[number].get(key) == value
        )

    def get_run(self, run_id: str) -> Any:
        """The run with its tags, params, last metrics and logged models."""
        about = self.rows(_RUN, run_id)
        if not about:
            return self.__getattr__("get_run")(run_id)  # which says so
        info = SimpleNamespace(**dict(zip(_INFO, about[0], strict=True)))
        metrics = self.rows(_METRICS, run_id)
        outputs = [SimpleNamespace(model_id=model) for (model,) in self.rows(_OUTPUTS, run_id)]
        return SimpleNamespace(
            info=info,
            data=SimpleNamespace(
                tags=dict(self.rows(_TAGS, run_id)),
                params=dict(self.rows(_PARAMS, run_id)),
                metrics={key: math.nan if is_nan else value for key, value, is_nan in metrics},
            ),
            outputs=SimpleNamespace(model_outputs=outputs),
        )

    def get_logged_model(self, model_id: str) -> Any:
        """The logged model, with where its files are."""
        found = self.rows(_LOGGED_MODEL, model_id)
        if not found:
            return self.__getattr__("get_logged_model")(model_id)
        return SimpleNamespace(model_id=model_id, artifact_location=found[0][0])


class EmptyReader(SqliteReader):
    """The same for a store that was not made yet, in which nothing was ever registered or run."""

    def __init__(self, client: Callable[[], Any]) -> None:
        super().__init__(Path(), client)

    def rows(self, question: str, value: str | None = None) -> list[tuple[Any, ...]]:  # noqa: ARG002  (SqliteReader's)
        """No rows."""
        return []

    def search_experiments(self, **_question: Any) -> Any:
        """The one that a new store has."""
        return _Page([SimpleNamespace(experiment_id="0", name="Default")])

    def search_runs(self, *_question: Any, **_options: Any) -> Any:
        """No runs."""
        return _Page()
