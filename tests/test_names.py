"""Names that DVC takes: each path can be registered, each name of a model is taken or refused before anything moves."""

import pytest
from mlflow.utils.validation import _validate_tag_name

from dovetail.values.tag_keys import DATA_PREFIX, Provenance, data_key, shown_name

PATHS = [
    "data.csv", "year=2024.csv", "data (1).csv", "a+b.csv", "a_b.csv", "a=b.csv", "données/é.csv", "é/" * 300 + "x.csv",
    "s3://bucket/a.csv", "../beside/a.csv", "a\nb.csv", "x/" + "y" * 255, "…", "a:0123456789abcdef", " ", "..",
    "\udce9.csv",
]  # fmt: skip


def test_each_path_has_a_tag_key_of_its_own_that_mlflow_takes_and_that_is_read_back():
    data = {path: f"md5 of {path!r}" for path in PATHS}
    tags = Provenance("f", "m", data).tags()
    assert len({key for key in tags if key.startswith(DATA_PREFIX)}) == len(PATHS)
    for key in tags:
        _validate_tag_name(key)
        assert len(key) <= 250
    assert Provenance.parse(tags, PATHS).data == data
    assert data_key("data/sub dir/x-1.csv") == "dovetail.data.data/sub dir/x-1.csv"  # as it always was


def test_a_tag_key_of_before_is_still_read():
    tags = Provenance("f", "m", {}).tags() | {"dovetail.data.data.csv": "d"}
    assert Provenance.parse(tags, ["data.csv"]).data == {"data.csv": "d"}


@pytest.mark.parametrize("key", [*PATHS, "a/../b", "/x", "trailing/", "k" * 300])
def test_each_key_of_a_param_has_a_name_that_mlflow_takes(key):
    name = shown_name(key)
    _validate_tag_name(name)
    assert len(name) <= 250


def test_every_path_that_dvc_takes_is_registered_and_explained(small):
    names = ["year=2024.csv", "data (1).csv", "a+b.csv", "é.csv", "deep/" * 50 + "x.csv"]
    for name in names:
        small.write(name, f"of {name}\n")
    small.run("dvc", "add", "-q", *names)
    small.replace("dvc.yaml", "deps: [train.py, data.csv]", f"deps: {['train.py', 'data.csv', *names]}")
    small.replace("dvc.yaml", "  m: {path", "  m.v2: {path: out/m.joblib, type: model}\n  m: {path")
    small.run("dvc", "repro", "-q")
    small.run("dovetail", "register")
    answer = small.json("lineage", "m")
    assert {entry["path"] for entry in answer["data"]} == {"data.csv", *names}
    assert small.json("lineage", "year=2024.csv")["versions"]
    assert {version.name for version in small.store().versions()} == {"m", "m.v2"}


@pytest.mark.parametrize("name", ["my model", "a:b", "a/b", "..", "_m", "m@x"])
def test_a_name_that_no_registry_takes_is_refused_with_one_that_it_does(small, name):
    small.replace("dvc.yaml", "artifacts:\n", f"artifacts:\n  {name!r}: {{path: out/m.joblib, type: model}}\n")
    said = small.run("dovetail", "register", "m", code=2).stderr
    assert repr(name) in said
    assert "rename it under artifacts: " in said
    assert not (small.root / "mlflow.db").exists()
