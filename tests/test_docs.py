"""The documents name what exists, and all of it."""

import ast
import inspect
import pkgutil
import re

import click
import pytest
import yaml
from documents import DOCUMENTS, FENCED, blocks
from project import ROOT

import dovetail
from dovetail import errors
from dovetail.cli import main
from dovetail.values import readable_tags, tag_keys, tag_layout
from stages.common.params import Params

REFERENCE = (ROOT / "docs/reference/commands.md").read_text()
NAMED_IN_EXAMPLES = ("pets", "NAME")
FOLDERS = [ROOT / name for name in ("", "src", "src/dovetail", "src/dovetail/serving")]
MADE = (".venv/", "build/", "/dev/")  # not in git, or not this project's
KEY_OF_PARAMS = "models.iris.train.params.n_estimators"

COMMANDS = [(None, main), *main.commands.items()]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name or "dovetail" for name, _ in COMMANDS])
def test_every_command_and_every_flag_has_help_and_is_in_the_reference(name, command):
    assert command.help
    assert name is None or f"\n### {name}\n" in REFERENCE
    for option in (p for p in command.params if isinstance(p, click.Option)):
        assert option.help
        assert f"`{max(option.opts, key=len)}" in REFERENCE or f" {max(option.opts, key=len)} " in REFERENCE


def test_the_make_targets_that_are_named_exist_and_each_is_explained():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())
    named = {name for file in DOCUMENTS for name in re.findall(r"(?:`|^)make (\w+)", file.read_text(), re.MULTILINE)}
    assert named == targets


@pytest.mark.parametrize("file", sorted((ROOT / ".github/workflows").iterdir()), ids=lambda file: file.name)
def test_a_workflow_calls_make_targets_that_exist_and_nothing_else_but_github(file):
    targets = set(re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    jobs = yaml.safe_load(file.read_text())["jobs"].values()
    scripts = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    called = {name for script in scripts for name in re.findall(r"^make (\w+)", script)}
    assert called
    assert called <= targets
    assert all(script.startswith("make ") or "gh pr " in script for script in scripts)


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_links_and_named_files_exist(file):
    text = FENCED.sub("", file.read_text())
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")]
    named = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+)`", text)
    assert [link for link in links if not (file.parent / link).exists()] == []
    assert [path for path in named if not (ROOT / path).exists() and not path_is_an_example(path)] == []


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_the_files_and_modules_of_which_people_who_change_the_code_read_exist(page):
    words = re.findall(r"`([\w./-]+)`", FENCED.sub("", (ROOT / page).read_text()))
    files = {word for word in words if "/" in word or word.endswith(".py")}
    named = {word for word in words if re.fullmatch(r"[a-z_]+(\.[A-Za-z_]+)+", word)} - files - {KEY_OF_PARAMS}
    named = {word for word in named if not word.endswith((".json", ".lock", ".md", ".toml", ".yaml"))}
    assert len(files) > 10
    assert named
    own = {file for file in files if not file.startswith(MADE) and not path_is_an_example(file)}
    assert [file for file in sorted(own) if not any((folder / file).exists() for folder in FOLDERS)] == []
    assert [name for name in sorted(named) if not is_in_the_code(name)] == []


def is_in_the_code(name):
    """Whether a module, or what stands in one, is called so, in full or from `dovetail` on."""
    for full in (name, f"dovetail.{name}"):
        try:
            pkgutil.resolve_name(full)
        except (ImportError, AttributeError):
            continue
        return True
    return False


def test_the_tree_of_errors_has_every_error():
    """It is what the reference says of `kind`."""
    known = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    assert set(re.findall(r"^[\s│├└─]*([A-Z]\w+)  ", errors.__doc__, re.MULTILINE)) == known


@pytest.mark.parametrize("name", ["retrain", "monitor", "promote", "diff", "predict"])
def test_the_python_reference_shows_the_defaults_that_python_has(name):
    page = (ROOT / "docs/reference/python.md").read_text()
    written = re.search(rf"^Repository\.{name}(\(.*)$", page, re.MULTILINE)
    if written is None:
        pytest.fail(f"{name} is not in the reference")
    shown = ast.parse(f"def f{written[1]}: ...").body[0].args
    names = shown.args[len(shown.args) - len(shown.defaults) :] + shown.kwonlyargs
    pairs = zip(names, shown.defaults + shown.kw_defaults, strict=True)
    defaults = {one.arg: ast.literal_eval(value) for one, value in pairs if isinstance(value, ast.Constant)}
    there = inspect.signature(getattr(dovetail.Repository, name)).parameters
    assert defaults.pop("tell", ...) is ...
    assert defaults == {key: there[key].default for key in defaults}


def path_is_an_example(path):
    return any(name in path for name in NAMED_IN_EXAMPLES)


def test_every_tag_is_in_the_table():
    table = (ROOT / "docs/reference/tags.md").read_text()
    listed = set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE))
    former = {
        tag.replace("<path>", "")
        for tag in re.findall(r"`(dovetail\.[\w.<>]+)`(?:, one each)? \|$", table, re.MULTILINE)
    }
    known = {str(value) for name, value in vars(tag_keys).items() if name.isupper()}
    keys = {value for value in known if value.startswith(("dovetail.", "mlflow."))}
    assert former == {key for key in keys if tag_layout.is_former(key)}
    places = {*tag_layout.TOGETHER, *tag_layout.ALONE.values(), tag_layout.DATA}
    assert listed == keys - former | places | {*readable_tags.KEYS}


def test_the_blocks_to_be_added_are_valid():
    pages = ("docs/howto/add-a-dataset.md", "docs/howto/add-a-model.md")
    added = [yaml.safe_load(text) for page in pages for language, text in blocks(page) if language == "yaml"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    halves = [name for block in added for name in block if name in params]
    assert halves == ["datasets", "models"]
    for block in added:
        for half in block.keys() & params.keys():
            params[half] |= block[half]
    assert Params.model_validate(params).models["pets"].data == "pets"


def test_the_readme_is_read_in_one_go():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 160
