"""What a notebook shows of an answer: tables and graphs, by IPython's protocol, which needs no IPython."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import templates
from project import copy_of, isolate
from test_report import HOSTILE, Elements, check_self_contained

import dovetail
from dovetail import api
from dovetail.render import notebook
from dovetail.values.answer import Answer


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = copy_of(templates.versions(tmp_path_factory), tmp_path_factory.mktemp("notebook") / "small")
        project.run("dovetail", "promote", "m", "--version", "1")
        yield dovetail.open(project.root)


def shown(answer):
    html = answer._repr_html_()
    found = Elements(html)
    assert {"script", "link", "iframe"}.isdisjoint({tag for tag, _ in found.found})
    return found


@pytest.mark.slow
def test_answers_show_as_tables_and_graphs(repository):
    for ask, element, told in (
        (repository.status, "table", "version 2"),
        (repository.list, "table", "out/m.joblib"),
        (lambda: repository.list("m"), "table", "@production"),
        (lambda: repository.lineage("m/1"), "svg", "data.csv"),
        (lambda: repository.lineage("data.csv"), "svg", "m/2"),
        (lambda: repository.show("m/1"), "svg", "accuracy ≥ 0.5"),
        (lambda: repository.history("m"), "li", "m#production#1"),
        (lambda: repository.diff("m/1", "m/2"), "table", "train.w"),
        (lambda: repository.promote("m", 2, dry_run=True), "table", "provenance.commit"),
        (lambda: repository.report("m"), "article", "m#production#1"),
        (repository.doctor, "pre", ""),
        (repository.sync, "pre", "versions"),
    ):
        found = shown(ask())
        assert element in {tag for tag, _ in found.found}, ask
        assert told in found.text.partition("} }")[2], ask


def test_an_answer_without_a_table_is_its_repr():
    assert notebook.html("TraceAnswer", {}, {}) is None


def test_in_a_process_that_opens_no_repository_nobody_shows_anything():
    code = "from dovetail.registration.status import StatusAnswer as A; print(A(())._repr_html_())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "None\n"


def test_every_answer_of_the_api_is_one():
    named = re.findall(r"    from (dovetail\.\S+) import (\w*Answer)$", Path(api.__file__).read_text(), re.MULTILINE)
    named += [("dovetail.registration.lineage", "ModelLineage"), ("dovetail.registration.lineage", "DataLineage")]
    classes = [getattr(import_module(module), name) for module, name in named if name != "LineageAnswer"]
    assert all(issubclass(one, Answer) for one in classes)
    assert set(notebook.KINDS) <= {one.__name__ for one in classes}


@pytest.mark.parametrize("kind", ["StatusAnswer", "ListAnswer", "DiffAnswer", "HistoryAnswer", "ModelLineage"])
def test_names_in_a_notebook_are_text(repository, kind):
    asked = {
        "StatusAnswer": repository.status, "ListAnswer": lambda: repository.list("m"),
        "DiffAnswer": lambda: repository.diff("m/1", "m/2"), "HistoryAnswer": lambda: repository.history("m"),
        "ModelLineage": lambda: repository.lineage("m/1"),
    }  # fmt: skip
    kept = {"time", "created", "kind"}

    def attacked(value, key=""):
        if isinstance(value, dict):
            return {name: attacked(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [attacked(inner, key) for inner in value]
        return value + HOSTILE if isinstance(value, str) and key not in kept else value

    html = notebook.html(kind, attacked(asked[kind]().as_json()), {})
    check_self_contained(html)
    assert "&lt;script&gt;alert(1)" in html
