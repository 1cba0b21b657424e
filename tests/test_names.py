"""Names that DVC takes: each path can be registered, each name of a model is taken or refused before anything moves."""

import hashlib
import shutil

import pytest
from gto.constants import assert_name_is_valid
from mlflow.utils.validation import _validate_model_name, _validate_tag_name

from dovetail.values.registered_name import can_be_registered, registered_name
from dovetail.values.tag_keys import Provenance, shown_name
from dovetail.values.tag_layout import plain, stored

PATHS = [
    "data.csv", "year=2024.csv", "data (1).csv", "a+b.csv", "a_b.csv", "a=b.csv", "données/é.csv", "é/" * 300 + "x.csv",
    "s3://bucket/a.csv", "../beside/a.csv", "a\nb.csv", "x/" + "y" * 255, "…", "a:0123456789abcdef", " ", "..",
    "\udce9.csv",
]  # fmt: skip


def test_each_path_is_tagged_as_mlflow_takes_it_and_read_back():
    data = {path: f"md5 of {path!r}" for path in PATHS}
    tags = stored(Provenance("f", "m", data).tags())
    for key, value in tags.items():
        _validate_tag_name(key)
        value.encode()
    assert Provenance.parse(plain(tags), PATHS).data == data


def test_the_tag_that_each_data_file_had_before_is_still_read():
    digest = hashlib.sha256(b"a+b.csv").hexdigest()[:16]
    tags = Provenance("f", "m", {}).tags() | {"dovetail.data.data.csv": "d", f"dovetail.data.a_b.csv:{digest}": "e"}
    for found in (tags, plain(stored(plain(tags)))):
        assert Provenance.parse(plain(found), ["data.csv", "a+b.csv"]).data == {"data.csv": "d", "a+b.csv": "e"}


@pytest.mark.parametrize("key", [*PATHS, "a/../b", "/x", "trailing/", "k" * 300])
def test_each_key_of_a_param_has_a_name_that_mlflow_takes(key):
    name = shown_name(key)
    _validate_tag_name(name)
    assert len(name) <= 250


@pytest.mark.slow
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


def test_a_model_whose_file_has_a_name_that_is_no_address_is_well(small):
    name = "a #1, 50%41?.joblib"
    for path in ("train.py", "dvc.yaml"):
        small.write(path, (small.root / path).read_text().replace("[out/m.joblib", f'["out/{name}"'))
    small.replace("train.py", "out/m.joblib", f"out/{name}")
    small.replace("dvc.yaml", "path: out/m.joblib", f'path: "out/{name}"')
    small.run("dvc", "repro", "-q", "train")
    assert small.json("register")[0]["aliases"] == ["staging"]
    assert not [one for one in small.json("doctor", code=None)["problems"] if "model file" in one["why"]]
    assert small.json("lineage", "m")["artifact"]["verified"] is True


@pytest.mark.parametrize("name", ["my model", "a:b", "a//b", "..", "_m", "m@x", "a/b.c", "x" + "é" * 100])
def test_a_name_that_no_registry_takes_is_refused_with_one_that_it_does(small, name):
    small.replace("dvc.yaml", "artifacts:\n", f"artifacts:\n  {name!r}: {{path: out/m.joblib, type: model}}\n")
    said = small.run("dovetail", "register", "m", code=2).stderr
    assert repr(name) in said
    meant = said.partition("rename it under artifacts: ")[2].strip()
    assert can_be_registered(meant)
    assert not (small.root / "mlflow.db").exists()


DVC_NAMES = [
    "m", "a/b", "pipelines/iris", "a-b", "a_b", "A/b", "a/b/c", "x" * 200, "x" * 201, "x" * 201 + "y", "x/" * 300 + "y",
]  # fmt: skip


@pytest.mark.parametrize("name", DVC_NAMES)
def test_each_name_that_dvc_takes_has_one_of_its_own_in_the_registry(name):
    assert_name_is_valid(name)  # GTO's, which DVC asks
    registered = registered_name(name)
    assert can_be_registered(name)
    _validate_model_name(registered)
    assert len(f".{registered}.json.tmp".encode()) <= 255  # as its receipt is written
    assert registered_name(registered) == registered
    assert [other for other in DVC_NAMES if registered_name(other) == registered] == [name]
    again = registered.replace(".", "/")  # a name that is made to meet it
    assert again == name or registered_name(again) != registered or "." not in registered


@pytest.mark.slow
def test_a_model_with_a_slash_in_its_name_goes_all_the_way(small):
    name, seen = "pipelines/iris", "pipelines.iris"
    small.replace("dvc.yaml", "  m: {path", f"  {name}: {{path")
    small.replace("dvc.yaml", "register m", f"register {name}")
    small.replace("dvc.yaml", "receipts/m.", f"receipts/{seen}.")
    small.run("dvc", "repro", "-q")
    small.commit("a model of a pipeline")
    assert [one["model"] for one in small.json("status", name)["models"]] == [seen]
    assert small.json("promote", name)["tag"] == f"{name}#production#1"
    assert small.run("git", "tag").stdout.split() == [f"{name}#production#1", f"{name}@v1.0.0"]
    small.run("dvc", "artifacts", "get", ".", name, "--stage", "production", "-o", "taken.joblib")
    assert (small.root / "taken.joblib").read_bytes() == (small.root / "out/m.joblib").read_bytes()
    (small.root / "taken.joblib").unlink()
    for ref in (f"{name}@production", f"HEAD:{name}"):  # the other forms: tests/test_reference.py
        assert small.json("lineage", ref)["artifact"]["path"] == "out/m.joblib"
    assert small.json("show", f"{name}@production")["version"] == 1
    assert small.json("diff", f"HEAD:{name}", f"{name}/1") is not None
    assert [event["alias"] for event in small.json("history", name)["events"]] == ["production"]
    assert [one["model"] for one in small.json("list", name)["models"]] == [seen]
    assert small.json("reproduce", name)["verdict"] == "identical"
    for file in ("mlflow.db", "mlruns"):
        place = small.root / file
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    small.run("dovetail", "sync")
    assert small.store().aliases()[seen] == {"production": 1, "staging": 1}
    assert [one for one in small.json("doctor", code=None)["problems"] if one["severity"] == "error"] == []


def test_two_names_of_one_registered_model_are_refused(small):
    entries = "".join(f"  {name}: {{path: out/m.joblib, type: model}}\n" for name in ("a.b", "a/b"))
    small.replace("dvc.yaml", "artifacts:\n", f"artifacts:\n{entries}")
    said = small.run("dovetail", "register", code=2).stderr
    assert "declares a model 'a/b', which is 'a.b' of dvc.yaml" in said
    assert "rename one of them under artifacts: a-b" in said
