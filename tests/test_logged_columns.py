"""A server says at once where its log cannot keep a version's columns as it was told to."""

import re
import shlex

import pytest
import templates
from project import copy_of
from serving import SPLIT, Server, point

from dovetail.errors import UserError
from dovetail.serving.engine.logged_columns import check_left_out, problem
from dovetail.serving.log.location import S3Folder
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import ServeOptions, Settings


def signature(*names):
    return Signature.of({"inputs": [{"name": name, "type": "double"} for name in names]}, ["predict"])


def settings(tmp_path, *leave_out, model="m", log_as="parquet", columns_of=None, log="here"):
    options = ServeOptions(leave_out=leave_out, log_as=log_as)
    log = tmp_path if log == "here" else log
    return Settings(
        tmp_path, model, "production", options=options, log=log, columns_of={model: None} | (columns_of or {})
    )


def test_a_server_does_not_begin_with_a_version_that_lacks_what_is_to_be_left_out(tmp_path):
    with pytest.raises(UserError) as caught:
        check_left_out(settings(tmp_path, "emial", "age", "x y"), 3, signature("e mail", "age", "size"))
    assert caught.value.message == (
        "--leave-out: m/3 has no column 'emial', did you mean 'e mail'? It has: e mail, age, size; "
        "m/3 has no column 'x y'; it has: e mail, age, size"
    )
    following = "dovetail serve m@production --leave-out 'e mail' --leave-out age --leave-out COLUMN"
    assert caught.value.next_command == following
    for good in (settings(tmp_path, "age"), settings(tmp_path, "emial", log=None)):
        check_left_out(good, 3, signature("age"))
    check_left_out(settings(tmp_path, "emial"), 3, Signature(None, None, ("predict",)))


def test_of_several_models_one_that_has_the_column_is_enough(tmp_path):
    one = settings(tmp_path, "x", "y", columns_of={"n": None})
    check_left_out(one, 1, signature("x"))
    assert not problem(one, 1, signature("x"))  # n is not loaded yet
    one.columns_of["n"] = frozenset({"y"})
    assert not problem(one, 1, signature("x"))
    one.columns_of["n"] = frozenset({"z"})
    check_left_out(one, 1, signature("x"))
    assert problem(one, 1, signature("x")) == "--leave-out: m/1 has no column 'y'; it has: x"


def test_columns_that_differ_in_case_alone_are_said_where_the_log_is_of_delta_tables(tmp_path):
    both, bucket = signature("size", "Ä", "ä"), S3Folder("s3://bucket/logs")
    said = "no Delta table holds both Ä and ä of m/2, which differ in case alone, so nothing of it is logged: "
    said += "--leave-out 'ä'"
    assert problem(settings(tmp_path, log_as="delta"), 2, both) == said
    assert problem(settings(tmp_path, log=bucket), 2, both) == said
    assert not problem(settings(tmp_path), 2, both)
    assert not problem(settings(tmp_path, "Ä", log_as="delta"), 2, both)
    assert not problem(settings(tmp_path, log_as="delta", log=None), 2, both)


@pytest.mark.slow
def test_a_misspelt_column_is_refused_and_one_that_a_later_version_lacks_is_said(tmp_path_factory, tmp_path):
    project = copy_of(templates.served(tmp_path_factory), tmp_path / "p")
    with Server(project, "--leave-out", "colr", wait=False) as server:
        assert server.process.wait(60) == 2
        refused = server.process.stderr.read().decode()
    assert "--leave-out: m/1 has no column 'colr', did you mean 'color'? It has: size, count, color, fresh" in refused
    assert refused.count("\n") == 1
    _, _, *following = shlex.split(re.search("next: dovetail (.*)", refused)[0])[1:]
    project.replace("train.py", '(OneHotEncoder(handle_unknown="ignore"), ["color"]), ', "")
    project.replace("train.py", "forest =", 'rows = rows.drop(columns="color")\nforest =')
    project.replace("train.py", '"color": "str", ', "")
    project.replace("train.py", '[[9.5, 3, "red", True], [11.0, 6, None, False]]', "[[9.5, 3, True], [11.0, 6, False]]")
    project.run("dvc", "repro", "-q", "train")
    project.commit("without color")
    project.run("dvc", "repro", "-q")
    with Server(project, *following[1:], ref=following[0]) as server:
        assert "columns" not in server.health()["problems"]
        assert server.predict().status == 200
        point(project, 3)
        server.until(lambda: server.predict(SPLIT).version == "3")
        said = "--leave-out: m/3 has no column 'color'; it has: size, count, fresh"
        assert server.health()["problems"]["columns"] == said
        assert server.end() == 0
        assert said in server.process.stderr.read().decode()
    with Server(project, *following[1:], wait=False) as server:
        assert server.process.wait(60) == 2
