"""What must agree although it stands in different files: dvc.yaml, params.yaml, MLproject, src/stages, the lock."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
STAGES = ROOT / "src" / "stages"
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
SCRIPTED = [name for name in PIPELINE["stages"] if name != "register"]


def first_party(module):
    """The files of src/stages that a module imports, directly or not, itself included."""
    found, todo = set(), [module]
    while todo:
        file = STAGES / f"{todo.pop()}.py"
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "stages":
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stages."):
                todo.append(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("name", SCRIPTED)
def test_every_file_that_a_stage_imports_is_among_its_deps(name):
    deps = {dep for dep in PIPELINE["stages"][name]["do"]["deps"] if dep.startswith("src/stages/")}
    needed = {str(file.relative_to(ROOT)) for file in first_party("__main__") | first_party(name)}
    assert {dep for dep in deps if "cleaning/" not in dep} == needed
    assert ("src/stages/cleaning/${key}.py" in deps) == (name == "clean")


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
        assert artifact["path"] == f"models/{name}.joblib"


def test_every_dataset_has_its_script_and_its_raw_file_from_somewhere():
    sources = {source["raw"] for kind in PARAMS["sources"].values() for source in kind.values()}
    for name, dataset in PARAMS["datasets"].items():
        assert (STAGES / "cleaning" / f"{name}.py").is_file()
        assert dataset["raw"] in sources or (ROOT / f"{dataset['raw']}.dvc").is_file()


def test_the_lock_pins_everything_exactly_and_records_no_address():
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.match(r"^[\w.-]+==[\w.!+]+( ; .+)?$", line)] == []
    assert len(lines) > 100
