"""What a version was trained and tested on, found by its lineage: what served data is compared with."""

import gzip
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import DovetailError, MissingFile, UnknownReference
from dovetail.gates import rules
from dovetail.promotion import test_set, trial
from dovetail.promotion.comparison import SCORES, default_metric
from dovetail.promotion.test_set import TestSet
from dovetail.promotion.trial import PackageTrial
from dovetail.registration.resolve import TrackedModel, commit_of
from dovetail.repo.git_values import Commit
from dovetail.repo.workspace import Workspace
from dovetail.serving.log.sampling import draw
from dovetail.tracking.store import Store
from dovetail.values.lineage import FileRef, Lineage
from dovetail.values.table_names import is_table

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 100_000  # of the training data and of what was served; more rows change no verdict
_SEED = 0


@dataclass(frozen=True)
class TrainingData:
    """What a version was trained on.

    Attributes:
        table: The columns that the model takes, of at most MOST_ROWS rows.
        path: The path in the repository; of several files all, with commas between them.
        md5: The digests, likewise.
        rows: How many there are.
    """

    table: "pd.DataFrame"
    path: str
    md5: str
    rows: int


@dataclass(frozen=True)
class TestPredictions:
    """What the version predicts of its test set and what is true there, of shape (rows,); and the metric's name.

    `of_probabilities` says that the version answers with those of numbered classes; `predicted` has the likeliest.
    """

    predicted: Any
    actual: Any
    metric: str
    of_probabilities: bool = False


@dataclass(frozen=True)
class Baseline:
    """What a version is compared with.

    Attributes:
        subject: The version.
        inputs: The columns that the model takes; none where it does not say so.
        trained: Its training data.
        tested: Its test set; a text says why there is none.
    """

    subject: TrackedModel
    inputs: Sequence[str]
    trained: TrainingData
    tested: TestPredictions | str


def baseline(workspace: Workspace, store: Store, subject: TrackedModel) -> Baseline:
    """What the version was trained and tested on.

    Raises:
        DataUnavailable: when the training data is not available.
        UnknownReference: when no stage that made the model read a table.
    """
    assert subject.version is not None
    inputs, _ = store.columns(subject.model, subject.version)
    commit = commit_of(workspace, subject.lineage)
    trained = _trained(workspace, subject, inputs, commit)
    asked: Any = {}
    tree = workspace.at(commit) if commit else workspace.tree
    if subject.model in tree.models:
        asked = tree.model(subject.model).gates
    champion = rules.settings(asked, rules.CHAMPION)
    tests = test_set.find(workspace, subject.lineage, inputs, champion["target"])
    if isinstance(tests, str):
        return Baseline(subject, inputs, trained, tests)
    allow = tuple(rules.settings(asked, rules.PICKLE)["allow"])
    tested = _tested(workspace, store, subject, tests, (champion["metric"], allow))
    return Baseline(subject, inputs, trained, tested)


def _tested(
    workspace: Workspace,
    store: Store,
    subject: TrackedModel,
    tests: TestSet,
    settings: tuple[str | None, tuple[str, ...]],
) -> TestPredictions | str:
    metric, allow = settings
    artifact = subject.lineage.artifact
    stored = store.stored_md5(subject.run.id, artifact)
    if stored != artifact.md5:
        return f"the registry holds md5 {stored}, not {artifact.md5}"
    source = f"models:/{subject.model}/{subject.version}"
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        try:
            file = workspace.storage.readable(artifact, Path(folder))
        except DovetailError as error:
            return error.message
        found = trial.start(PackageTrial(store.uri, source, str(file), allow, tests.table, timed=False)).result()
    if found.predicted is None:
        return f"the model does not predict its test set: {found.error or found.refused}"
    predicted, actual = test_set.plain(found.predicted), tests.actual
    metric = metric if metric in SCORES and metric else default_metric(actual, predicted)
    return TestPredictions(predicted, actual, metric, found.of_probabilities)


def _trained(workspace: Workspace, subject: TrackedModel, inputs: Sequence[str], commit: Commit | None) -> TrainingData:
    made = subject.lineage
    tables, refs, rows = [], [], 0
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        for ref in (ref for ref, role in made.data.items() if role == "training"):
            found = list(_files(workspace, ref))
            for file in found:
                table, size = _table(workspace.storage.locate(file, commit, Path(folder)), file.path, inputs)
                if table is not None:
                    tables.append(table)
                    rows += size
                    refs += [ref] if ref not in refs else []
    if not tables:
        raise _no_table(made, subject)
    import pandas as pd

    table = pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]
    table = table.sample(MOST_ROWS, random_state=_SEED) if len(table) > MOST_ROWS else table
    return TrainingData(table, ", ".join(ref.path for ref in refs), ", ".join(ref.md5 for ref in refs), rows)


def _no_table(made: Lineage, subject: TrackedModel) -> UnknownReference:
    read = ", ".join(ref.path for ref, role in made.data.items() if role == "training") or "nothing that DVC keeps"
    return UnknownReference(
        f"{subject.model}/{subject.version} was trained on no table with its columns: its stage read {read}",
        f"dovetail lineage {subject.model}/{subject.version}",
    )


def _files(workspace: Workspace, ref: FileRef) -> Iterator[FileRef]:
    """The tables that a dependency is or contains."""
    for file in workspace.storage.files(ref) if ref.is_folder else (ref,):
        if is_table(file.path):
            yield file


def _table(file: Path, name: str, inputs: Sequence[str]) -> tuple["pd.DataFrame | None", int]:
    """The columns that the model takes (all, where that is unknown) and the number of rows; None where one is missing.

    Raises:
        MissingFile: when the file is not what its name says.
    """
    import pandas as pd
    import pyarrow as pa

    shown, packed = name.lower().removesuffix(".gz"), name.lower().endswith(".gz")
    try:
        if shown.endswith((".parquet", ".pq")):
            return _parquet(file, inputs)
        with gzip.open(file) if packed else file.open("rb") as content:
            if shown.endswith((".jsonl", ".ndjson")):
                table = pd.read_json(content, lines=True)
            else:
                table = pd.read_csv(content, sep="\t" if shown.endswith(".tsv") else ",")
    except (ValueError, OSError, EOFError, zlib.error, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise MissingFile(f"{name} cannot be read as a table: {why}", "dovetail doctor") from error
    table.columns = table.columns.map(str)
    if not set(inputs) <= set(table.columns):
        return None, 0
    return table[list(inputs) or list(table.columns)], len(table)


def _parquet(file: Path, inputs: Sequence[str]) -> tuple["pd.DataFrame | None", int]:
    """The same of a Parquet file, sampled row group by row group: a big file is never in memory as a whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as content:
        names = content.schema_arrow.names
        if not set(inputs) <= set(names):
            return None, 0
        columns, rows = list(inputs) or names, content.metadata.num_rows
        groups = (content.read_row_group(group, columns=columns) for group in range(content.num_row_groups))
        empty = content.schema_arrow.empty_table().select(columns)
        return pa.concat_tables([empty, *draw(groups, rows, MOST_ROWS)]).to_pandas(), rows
