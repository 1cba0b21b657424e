"""params.yaml: the published schema is the model's, and each mistake is named with its place."""

import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest
import yaml
from datasets import ROOT, config, stage, tree

from stages.common import reproducible
from stages.common.errors import StageError
from stages.common.params import Params, block, load_params


def test_the_published_schema_is_the_models():
    published = json.loads((ROOT / "params.schema.json").read_text())
    assert published == Params.model_json_schema(by_alias=True)


def test_params_yaml_keeps_the_published_schema_and_the_model():
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    schema = json.loads((ROOT / "params.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)
    load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "max_rejected: 0.5",
            "max_reject: 0.5",
            "datasets.people.clean.max_reject.*allowed there: engine, max_rejected",
        ),
        ("models:", "modles: {}\nmodels:", "'modles'.*allowed there: sources, datasets, models"),
        ("clean: {engine: polars, max_rejected: 0.5}", "clean: {}", "datasets.people.clean.max_rejected is missing"),
        ("engine: polars", "engine: dask", "datasets.people.clean.engine = 'dask'.*'polars' or 'pandas'"),
        ("dtype: int64", "dtype: integer", "columns.age.dtype = 'integer'"),
        (
            "max_rejected: 0.5",
            "max_rejected: 0.5, separator: '§'",
            "clean.separator = '§': separates no columns: write",
        ),
        ("max_rejected: 0.5", "max_rejected: 0.5, separator: '\"'", "clean.separator = '\"': separates no columns"),
        ("max_rejected: 0.5", "max_rejected: 0.5, separator: ';;'", "clean.separator = ';;': .*at most 1 character"),
        ("max_rejected: 0.5", "max_rejected: half", "datasets.people.clean.max_rejected = 'half'"),
        ("max_rejected: 0.5", "max_rejected: 1.5", "datasets.people.clean.max_rejected = 1.5.*less than or equal to 1"),
        ("data: iris", "data: irises", "models.iris.data: no dataset 'irises'; there are: people, iris"),
        ("load: sklearn.datasets.load_iris", "load: load iris", "load = 'load iris': is not an import path"),
        ("table: people, url", "table: people, path: p.csv, url", "deliver.1: needs either a path, a table or delta"),
        ("raw: data/raw/people.csv}", "raw: data/raw/people.jsonl}", "people: a copy keeps its format"),
        ("{load: sklearn.datasets.load_iris,", "{load: a.b, url: c,", "iris: needs exactly one of load, sql and url"),
        ("margin: 1.0", "margn: 1.0", "gates.champion.margn.*allowed there: metric, margin, confidence"),
        ("accuracy: {min: 0.85}", "accuracy: {min: 0.85, at: low}", "gates.accuracy.at.*allowed there: min, max, on"),
        (
            "seed: 42, stratify: true}",
            "time: day, stratify: true}",
            "models.iris.split: stratify belongs to a split at random",
        ),
        ("seed: 42, stratify: true}", "time: day, group: id}", "time and group are 2 ways to split; choose one"),
        ("seed: 42, stratify: true}", "key: [a, b, a]}", "models.iris.split: key has 'a' twice; leave one out"),
        ("  iris:\n    raw", "  i.ris:\n    raw", "'i.ris' cannot be a name: .* for example i_ris"),
        (
            "prepare: minimal",
            "prepare: minimum",
            "penguins.train.prepare = 'minimum': write auto, minimal or none, or a l",
        ),
        ("prepare: minimal", "prepare: [a b]", "penguins.train.prepare.0 = 'a b': is not an import path"),
        ("prepare: minimal", "prepare: [a.b, 5]", r"prepare.1 = 5: write an import path, or \{estimator: path"),
        ("prepare: minimal", "prepare: [{estimator: a.b, at: 1}]", "prepare.0.at' .*allowed there: estimator, params$"),
        ("seed: 42, stratify: true}", "key: 5}", "iris.split.key = 5: write a column, or a list of columns$"),
        ("seed: 42, stratify: true}", "key: [a, 5]}", "iris.split.key.1 = 5: Input should be a valid string$"),
        ("seed: 42, stratify: true}", "stratify: often}", "iris.split.stratify = 'often': write true, false or auto$"),
        ("sources:", "sources: [", "is not YAML"),
    ],
)
def test_a_mistake_is_refused_with_its_place_value_and_what_is_allowed(tmp_path, old, new, said):
    text = (ROOT / "params.yaml").read_text()
    assert old in text
    file = tmp_path / "params.yaml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(StageError) as refusal:
        load_params(file)
    message = str(refusal.value)
    assert message.startswith(str(file))
    assert re.search(said, message), message
    assert "\n" not in message


def test_a_missing_file_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(StageError, match=r"is missing; run from the repository's root"):
        load_params(tmp_path / "params.yaml")


def test_an_unknown_block_is_refused_with_those_that_exist():
    with pytest.raises(StageError, match=r"no datasets\.irys; there are: iris, people"):
        block("datasets", {"iris": 1, "people": 2}, "irys")


def test_a_stage_ends_with_2_in_one_line(tmp_path):
    tree(tmp_path, config() | {"model": {}})
    done = stage(tmp_path, "clean", "d", "--raw", "r", "--clean", "c", "--rejected", "x", "--metrics", "m")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown key 'model'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("[cxm]"))


def test_what_imports_numpy_before_a_stage_is_refused_where_bytes_are_to_be_the_same(tmp_path):
    code = "import numpy; from stages.common import reproducible; reproducible.fix()"
    env = {name: value for name, value in os.environ.items() if name not in reproducible.settings()}
    env["PYTHONPATH"] = str(ROOT / "src")

    def said(**more):
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=env | more, cwd=tmp_path, capture_output=True, text=True, check=False).stderr

    assert re.search(r"reproducible: numpy was imported before .* export OMP_NUM_THREADS='1' ", said())
    assert said(**reproducible.settings()) == ""
