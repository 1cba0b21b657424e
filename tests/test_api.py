"""The Python API: the same verbs as the command line, the same answers, nothing imported before it is needed."""

import inspect
import json
import subprocess
import sys

import click
import pytest

import dovetail
from dovetail.cli import main
from dovetail.errors import NotARepository

ELSEWHERE = {
    "serve",
    "new",
    "demo",
    "ui",
}  # a server is a process, not an answer; a new project is no method of a repository


def test_the_public_names_are_those_that_are_documented():
    assert sorted(dovetail.__all__) == ["DovetailError", "Repository", "new", "open"]
    assert all(getattr(dovetail, name).__doc__ for name in dovetail.__all__)


def test_every_command_is_a_method_and_every_public_method_has_types_and_a_docstring():
    methods = dict(inspect.getmembers(dovetail.Repository, inspect.isfunction))
    assert {name.replace("-", "_") for name in set(main.commands) - ELSEWHERE} <= set(methods)
    for name, method in methods.items():
        if not name.startswith("_"):
            assert method.__doc__, name
            assert "return" in method.__annotations__ or name == "close", name


@pytest.mark.parametrize("name", sorted(set(main.commands) - ELSEWHERE - {"monitor", "doctor"}))
def test_a_method_takes_what_its_command_takes(name):
    """Under the names that are typed; what only concerns the terminal stays there."""
    typed = {
        max((o.lstrip("-").replace("-", "_") for o in parameter.opts), key=len)
        for parameter in main.commands[name].params
        if isinstance(parameter, click.Option)
    } - {"json", "markdown", "mermaid"}
    renamed = {"all": "everything", "with": "data", "from": "base"}
    taken = set(inspect.signature(getattr(dovetail.Repository, name.replace("-", "_"))).parameters)
    assert {renamed.get(option, option) for option in typed} <= taken


def test_importing_it_imports_nothing_heavy():
    code = "import dovetail, sys; print(sorted({'mlflow', 'dvc', 'pandas', 'numpy', 'click'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"


@pytest.mark.slow
def test_the_answers_are_those_of_the_command_line(registered):
    repository = dovetail.open(registered.root)
    assert repository.root == registered.root
    for command, answer in (
        (("status",), repository.status()),
        (("lineage", "m/1"), repository.lineage("m/1")),
        (("diff", "m/1", "workspace"), repository.diff("m/1", "workspace")),
        (("doctor",), repository.doctor()),
        (("gc",), repository.gc()),
        (("promote", "m", "--dry-run"), repository.promote("m", dry_run=True)),
    ):
        said = registered.run("dovetail", *command, "--json", code=None).stdout
        assert json.dumps(answer.as_json(), indent=2, ensure_ascii=False) + "\n" == said, command
        assert "\n" not in repr(answer), command
        assert len(repr(answer)) < 200, command  # a cell of a notebook shows it whole


@pytest.mark.slow
def test_what_a_method_changed_the_next_one_sees(registered):
    repository = dovetail.open(registered.root)
    assert repository.promote("m", reason="tried by hand").promoted
    assert [event.kind for event in repository.history("m").events] == ["promote"]
    assert [model.production.version for model in repository.status().models] == [1]
    assert not repository.sync().aliases


@pytest.mark.slow
def test_a_notebook_that_trained_by_many_threads_registers_what_needs_them(small):
    lightgbm = "lightgbm.train({'verbose': -1}, lightgbm.Dataset(numpy.eye(50), [0.0] * 50), 2)"
    small.replace("train.py", 'joblib.dump(model, "out', f'import lightgbm, numpy; {lightgbm}.save_model("out')
    small.run("dvc", "repro", "-q", "train")
    cells = f"import dovetail, lightgbm, numpy; {lightgbm}; print(dovetail.open().register().as_json()[0]['aliases'])"
    script = small.write("cells.py", cells)  # without a guard, as scripts are
    done = small.run("python", script.name, plain=True, OMP_NUM_THREADS="2")
    assert done.stdout.splitlines() == ["['staging']"]


def test_a_folder_without_a_repository_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(NotARepository, match="git init && dvc init"):
        dovetail.open(tmp_path)


@pytest.mark.slow
def test_a_promotion_writes_the_file_that_a_server_trusts(registered, tmp_path):
    repository = dovetail.open(registered.root)
    assert not repository.promote("m", dry_run=True, trust=tmp_path / "trust.json").promoted
    assert not (tmp_path / "trust.json").exists()
    assert repository.promote("m", trust=tmp_path / "trust.json").promoted
    assert "m@production" in (tmp_path / "trust.json").read_text()
