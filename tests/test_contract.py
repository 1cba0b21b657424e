"""What must agree although it stands in different files: dvc.yaml, params.yaml, MLproject, src/stages, the lock."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from pydantic_core import PydanticUndefined

from dovetail.gates import rules
from stages.common import gates

ROOT = Path(__file__).resolve().parents[1]
STAGES = ROOT / "src" / "stages"
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
SCRIPTED = [name for name in PIPELINE["stages"] if name != "register"]


def first_party(module):
    """The files of src/stages that a module imports, directly or not, itself included."""
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        file = STAGES / f"{name.replace('.', '/')}.py"
        if not file.is_file():  # a folder, or a name in a module that is itself among those to look at
            continue
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "stages":
                place = node.module.removeprefix("stages").lstrip(".")
                todo += [place, *(f"{place}.{alias.name}".lstrip(".") for alias in node.names)]
            elif isinstance(node, ast.Import):
                assert not [alias for alias in node.names if alias.name.partition(".")[0] == "stages"]
    return found


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_file_that_a_stage_imports_is_among_its_deps_or_in_a_folder_there(name):
    deps = {ROOT / dep for dep in PIPELINE["stages"][name]["do"]["deps"] if dep.startswith("src/stages/")}
    scripts = STAGES / "cleaning"
    assert (scripts in deps) == (name == "clean")
    files = first_party("__main__") | first_party(name)
    assert STAGES / f"{name}.py" in files
    covering = {file: {dep for dep in deps if dep == file or dep in file.parents} for file in files}
    assert [file for file, by in covering.items() if not by] == []
    assert deps - {scripts} == set().union(*covering.values())  # nothing that the stage does not need


def test_a_change_of_one_stage_alone_concerns_no_other():
    """Its script, and a folder that holds what it alone imports, stand in its deps and in nobody else's."""
    readers = {}
    for name in SCRIPTED:
        for dep in PIPELINE["stages"][name]["do"]["deps"]:
            readers.setdefault(dep, []).append(name)
    for name in SCRIPTED:
        assert readers[f"src/stages/{name}.py"] == [name]
    assert readers["src/stages/evaluation"] == ["evaluate"]
    assert readers["src/stages/validation"] == ["clean"]
    assert set(readers["src/stages/data"]).isdisjoint(readers["src/stages/modelling"])


def test_no_bytecode_counts_as_a_change_of_a_folder():
    assert "__pycache__/" in (ROOT / ".dvcignore").read_text().splitlines()


def as_rules(model):
    """A gate's keys and defaults as `dovetail.gates.rules` writes them."""
    defaults = {name: field.get_default(call_default_factory=True) for name, field in model.model_fields.items()}
    return {
        name: None if default is PydanticUndefined else tuple(default) if isinstance(default, list) else default
        for name, default in defaults.items()
    }


def test_gates_have_the_same_keys_and_defaults_in_params_yaml_and_in_dovetail():
    """Two rooms that may not know each other state them both."""
    blocks = {
        "baseline": gates.BaselineGate,
        "data": gates.DataGate,
        "signature": gates.SignatureGate,
        "provenance": gates.ProvenanceGate,
        "pickle": gates.PickleGate,
        "serving": gates.ServingGate,
        "champion": gates.ChampionGate,
    }
    assert set(gates.Gates.model_fields) == set(rules.KINDS)
    for kind, model in blocks.items():
        assert as_rules(model) == dict(rules.KINDS[kind])
        assert gates.Gates.model_fields[kind].annotation == (model | None)
    assert as_rules(gates.Gate) == dict(rules.BOUNDS)
    assert as_rules(gates.SliceGate) == dict(rules.SLICE)


def test_stages_and_scripts_have_the_same_names():
    main = ast.parse((STAGES / "__main__.py").read_text())
    listed = next(
        ast.literal_eval(node.value)
        for node in ast.walk(main)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STAGES"
    )
    assert list(listed) == SCRIPTED
    for name in SCRIPTED:
        assert (STAGES / f"{name}.py").is_file()
        assert f"python src/stages {name} ${{key}}" in PIPELINE["stages"][name]["do"]["cmd"]


def test_mlproject_has_an_entry_point_for_each_stage():
    entries = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert set(entries) - {"main", "experiment"} == set(PIPELINE["stages"])
    for name in PIPELINE["stages"]:
        assert entries[name]["command"] == f"dvc repro {name}@{{key}}"


def test_an_artifact_is_the_file_that_its_train_stage_writes():
    for name, artifact in PIPELINE["artifacts"].items():
        assert name in PARAMS["models"]
        assert artifact["path"] == f"models/{name}.${{model_format}}"


def test_every_dataset_has_its_raw_file_from_somewhere_and_every_script_its_dataset():
    sources = {source["raw"] for kind in PARAMS["sources"].values() for source in kind.values()}
    for name, dataset in PARAMS["datasets"].items():
        assert dataset["raw"] in sources or (ROOT / f"{dataset['raw']}.dvc").is_file(), name
    scripts = {script.stem for script in (STAGES / "cleaning").glob("*.py")} - {"__init__"}
    assert scripts <= set(PARAMS["datasets"])


@pytest.mark.parametrize(("lock", "least"), [("requirements.lock", 100), ("requirements-docs.lock", 30)])
def test_a_lock_pins_everything_exactly_and_records_no_address(lock, least):
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.match(r"^[\w.-]+==[\w.!+]+( ; .+)?$", line)] == []
    assert len(lines) > least


ROOMS = ROOT / "src" / "dovetail"
FILES = [file for file in ROOMS.rglob("*.py") if file.name != "__init__.py"]


def test_two_files_have_one_name_only_where_they_are_two_sides_of_one_thing():
    places = {}
    for file in FILES:
        places.setdefault(file.name, set()).add(file.parent.relative_to(ROOMS).parts[0] if file.parent != ROOMS else "")
    shared = {name: rooms for name, rooms in places.items() if len(rooms) > 1}
    # `render` shows what the verb of that name answers; the value `lineage` is what the verb `lineage` tells.
    alone = {name: rooms - {"render"} for name, rooms in shared.items()}
    assert {name for name, rooms in alone.items() if len(rooms) > 1} == {"lineage.py"}
    assert all("render" in rooms for name, rooms in shared.items() if name != "lineage.py")


def test_no_file_is_long_without_a_reason_in_it():
    long = [
        file for folder in (ROOMS, STAGES) for file in folder.rglob("*.py") if len(file.read_text().splitlines()) > 300
    ]
    without = [file for file in long if "longer than" not in ast.get_docstring(ast.parse(file.read_text()))]
    assert without == []


def test_the_rooms_are_those_that_the_architecture_names():
    named = set(re.findall(r"^\| \d? ?\| `(\w+)/`", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE))
    assert named == {folder.name for folder in ROOMS.iterdir() if (folder / "__init__.py").is_file()}
