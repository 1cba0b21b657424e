"""What must agree although it stands in different files: dvc.yaml, params.yaml, MLproject, src/stages, the lock."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from pydantic_core import PydanticUndefined

from dovetail.gates import rules
from dovetail.render import short as render_short
from dovetail.values import environment, short, table_names, tables
from stages.common import gates
from stages.parts.range_process import deciding

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
import stage_deps  # noqa: E402

STAGES = ROOT / "src" / "stages"
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
SCRIPTED = [name for name in PIPELINE["stages"] if name != "register"]


@pytest.mark.parametrize("name", ["clean", "evaluate"])  # of each half the one that imports most
def test_every_file_that_a_stage_imports_is_among_its_deps_or_in_a_folder_there(name):
    """The imports as Python follows them, in a process that has imported nothing else."""
    code = (
        f"import sys; sys.path.insert(0, 'src'); import stages.{name}\n"
        "for module in list(sys.modules.values()): print(getattr(module, '__file__', None))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {Path(line).resolve() for line in done.stdout.splitlines() if line.startswith(f"{STAGES}/")}
    deps = {ROOT / dep for dep in PIPELINE["stages"][name]["do"]["deps"] if dep.startswith("src/stages/")}
    assert STAGES / f"{name}.py" in imported & deps
    assert [file for file in imported - {STAGES / "__init__.py"} if not deps & {file, *file.parents}] == []


def test_deps_on_the_stages_are_written_by_a_script_and_not_by_hand(tmp_path):
    """dvc.yaml agrees with it; it follows a new import, within a function, too, and leaves all else as it is."""
    text = (ROOT / "dvc.yaml").read_text()
    assert stage_deps.written(text, STAGES) == text
    stages = tmp_path / "src" / "stages"
    shutil.copytree(STAGES, stages, ignore=shutil.ignore_patterns("__pycache__"))
    with (stages / "split.py").open("a") as split:
        split.write("\n\ndef later():\n    from stages.reports.page import page\n    return page\n")
    (stages / "reports").mkdir()
    (stages / "reports" / "page.py").write_text("from stages import ingest\npage = ingest\n")
    before, after = Counter(text.splitlines()), Counter(stage_deps.written(text, stages).splitlines())
    assert sorted(after - before) == [f"        - src/stages/{dep}" for dep in ("data", "ingest.py", "reports")]
    assert not before - after


def test_what_shows_answers_shortens_digests_as_the_library_does():
    """`render` imports nothing of the library but itself, so it has the length a second time."""
    assert render_short.SHORT == short.SHORT


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


@pytest.mark.parametrize(
    ("lock", "least"),
    [
        ("requirements.lock", 100),
        ("requirements-docs.lock", 30),
        ("requirements-s3.lock", 5),
        ("requirements-jupyter.lock", 20),
        ("requirements-triton.lock", 5),
    ],
)
def test_a_lock_pins_everything_exactly_and_records_no_address(lock, least):
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.match(r"^[\w.-]+==[\w.!+]+( ; .+)?$", line)] == []
    assert len(lines) > least


ROOMS = ROOT / "src" / "dovetail"
FILES = [file for file in ROOMS.rglob("*.py") if file.name != "__init__.py"]


def test_every_answer_has_a_short_repr_of_its_own():
    """As a cell of a notebook shows it; a dataclass makes one of all its fields otherwise."""
    answers = [
        one
        for file in FILES
        for one in ast.walk(ast.parse(file.read_text()))
        if isinstance(one, ast.ClassDef) and "Answer" in {getattr(base, "id", "") for base in one.bases}
    ]
    assert len(answers) > 20
    for one in answers:
        assert "__repr__" in {part.name for part in one.body if isinstance(part, ast.FunctionDef)}, one.name
        assert any("repr=False" in ast.unparse(mark) for mark in one.decorator_list), one.name


def test_two_files_have_one_name_only_where_they_are_two_sides_of_one_thing():
    places = {}
    for file in FILES:
        places.setdefault(file.name, set()).add(file.parent.relative_to(ROOMS).parts[0] if file.parent != ROOMS else "")
    shared = {name: rooms for name, rooms in places.items() if len(rooms) > 1}
    # `render` shows what the verb of that name answers, `cli` has commands by what they are for; the
    # value `lineage` is what the verb `lineage` tells.
    alone = {name: rooms - {"render", "cli"} for name, rooms in shared.items()}
    assert {name for name, rooms in alone.items() if len(rooms) > 1} == {"lineage.py"}
    assert all(rooms & {"render", "cli"} for name, rooms in shared.items() if name != "lineage.py")


def test_no_file_is_long_without_a_reason_in_it():
    long = [
        file for folder in (ROOMS, STAGES) for file in folder.rglob("*.py") if len(file.read_text().splitlines()) > 300
    ]
    without = [file for file in long if "longer than" not in ast.get_docstring(ast.parse(file.read_text()))]
    assert without == []


def test_the_rooms_are_those_that_the_architecture_names():
    named = set(re.findall(r"^\| \d? ?\| `(\w+)/`", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE))
    assert named == {folder.name for folder in ROOMS.iterdir() if (folder / "__init__.py").is_file()}


def test_what_is_a_table_by_its_name_has_a_reader():
    assert tables.READERS.keys() == table_names.ROWS


@pytest.mark.parametrize("has_browser", [True, False])
def test_ci_looks_at_pages_with_a_browser_or_says_that_there_is_none(tmp_path, has_browser):
    """What it calls stands in for itself: no `apt-get` here, and a `make` that says whether a browser is needed."""
    for name in ("bash", "dirname", "id", "sleep"):
        (tmp_path / name).symlink_to(shutil.which(name))
    programs = {"make": 'echo "make $1 $NEEDS_BROWSER"'} | ({"chromium": ":"} if has_browser else {})
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!{shutil.which('bash')}\n{line}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [tmp_path / "bash", ROOT / ".ci/run"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    if has_browser:
        assert done.stdout.splitlines() == ["make check 1", "make test 1"]
    else:
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.endswith("next: apt-get install chromium\n")


def test_what_workers_of_either_kind_compare_is_the_same():
    """The stages, which know nothing of the library, compare a part of it for their own work."""
    of_stages = {name for module in ("stages.rows.kernel", "stages.training.trials") for name in deciding(module)}
    assert of_stages <= environment.deciding().keys()
