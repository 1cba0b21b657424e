"""`dovetail init` makes a repository that exists one that Dovetail registers models of, and changes nothing else."""

import pytest
from next_commands import ends, following

from dovetail.errors import UserError
from dovetail.scaffold.init import _name
from dovetail.scaffold.yaml_section import add_entry, add_lines

PLAIN = """\
# our pipeline
stages:
    train:   # four spaces, as its author likes
        cmd: 'python train.py'
        deps: [train.py, data.csv.dvc]
        outs: [out/m.joblib]
        metrics:
        - out/metrics.json: {cache: false}

# the end
"""


@pytest.fixture
def plain(small):
    """A DVC repository that knows nothing of Dovetail; its .gitignore lacks the newline at its end."""
    small.write("dvc.yaml", PLAIN.replace(".dvc]", "]"))
    small.write(".gitignore", "/.venv")
    small.write("params.yaml", "train: {w: 7}\n")
    small.run("dvc", "repro", "-q")
    small.commit("no dovetail")
    return small


def test_init_shows_what_is_missing_and_writes_it_only_when_asked(plain):
    before = plain.run("git", "status", "--porcelain").stdout
    done = plain.run("dovetail", "init", code=1)
    assert "+        cmd: dovetail register m" in done.stdout
    assert "+/mlruns/" in done.stdout
    assert "next: run the same command again with --yes" in done.stderr
    assert plain.run("git", "status", "--porcelain").stdout == before
    answer = plain.json("init", "--yes")
    assert answer["written"]
    text = (plain.root / "dvc.yaml").read_text()
    assert "    train:   # four spaces, as its author likes" in text
    assert text.startswith("# our pipeline\n")
    assert "# the end" in text
    assert (plain.root / ".gitignore").read_text() == "/.venv\n/mlflow.db*\n/mlruns/\n"
    plain.run("dvc", "repro", "-q")
    assert plain.store().aliases() == {"m": {"staging": "1"}} or plain.store().aliases() == {"m": {"staging": 1}}
    assert plain.store().runs()[0].data.metrics
    again = plain.run("dovetail", "init")
    assert again.stdout == "m: nothing to do\n"


def test_a_name_that_no_model_can_have_is_refused_with_the_command_that_gives_one(plain):
    said = plain.run("dovetail", "init", "_my model", "--yes", code=2).stderr
    assert "'_my model' is not a valid model name" in said
    following = said.strip().rpartition("next: ")[2].split()
    assert following == ["dovetail", "init", "my-model", "--path", "out/m.joblib"]
    assert plain.json(*following[1:], "--yes")["written"]


def test_a_model_is_adopted_under_a_name_with_a_slash(plain):
    assert plain.json("init", "pipelines/iris", "--yes")["written"]
    plain.run("dvc", "repro", "-q")
    assert plain.store().aliases() == {"pipelines.iris": {"staging": 1}}
    assert plain.run("dovetail", "init", "pipelines/iris").stdout == "pipelines/iris: nothing to do\n"


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("out/model.joblib", "churn", "churn"),
        ("best_model.pkl", "Credit Risk (2)", "Credit-Risk-2"),
        ("clf-final.joblib", "été", "t"),
        ("model.pkl", "…", "model"),
        ("models/iris.joblib", "churn", "iris"),
        ("model_of_iris.pkl", "churn", "model_of_iris"),
        ("out/ä.joblib", "churn", "model"),
    ],
)
def test_a_file_that_is_called_as_any_model_s_gives_the_folder_s_name(tmp_path, path, folder, name):
    assert _name(path, tmp_path / folder) == name


def test_a_class_of_ones_own_is_proposed_to_be_allowed(plain):
    plain.write("mine.py", "class Mine:\n    def predict(self, rows):\n        return [1] * len(rows)\n")
    plain.replace("train.py", "joblib.dump(model", "from mine import Mine; joblib.dump(Mine()")
    plain.run("dvc", "repro", "-q")
    env = {"PYTHONPATH": str(plain.root)}
    answer = plain.json("init", "fine", "--yes", **env)
    assert answer["allow"] == ["mine.Mine"], answer
    plain.run("dvc", "repro", "-q", **env)
    assert list(plain.store().aliases()) == ["fine"]
    assert "staging" in plain.store().aliases()["fine"]


def test_a_model_with_code_in_it_is_refused_by_name_and_nothing_is_written(plain):
    lambdas = "import cloudpickle; model.key = lambda x: x; cloudpickle.dump(model, open('out/m.joblib', 'wb'))"
    plain.replace("train.py", 'joblib.dump(model, "out/m.joblib")', lambdas)
    plain.run("dvc", "repro", "-q")
    before = (plain.root / "dvc.yaml").read_text()
    done = plain.run("dovetail", "init", "--yes", code=2)
    assert "it holds builtins.code, which nothing can allow; next: write an estimator that holds no code" in done.stderr
    assert (plain.root / "dvc.yaml").read_text() == before


def test_several_models_or_none_are_named_with_the_command_that_chooses(plain):
    plain.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out/m.joblib, out/other.pkl]")
    done = plain.run("dovetail", "init", code=2)
    said = "several files may be models: out/m.joblib, out/other.pkl"
    assert following(done.stderr, said) == ["dovetail init m --path out/m.joblib"]
    assert ends(plain, "init", said).stdout == "m: nothing to do\n"
    plain.run("git", "checkout", "-q", "dvc.yaml")
    plain.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out/text.txt]")
    assert "no output of a stage looks like a model" in plain.run("dovetail", "init", code=2).stderr


def test_a_model_of_a_nested_dvc_yaml_is_registered_from_there(plain):
    plain.run("mkdir", "sub")
    for name in ("train.py", "params.yaml", "data.csv", "data.csv.dvc", "dvc.yaml"):
        plain.run("mv", name, f"sub/{name}")
    plain.run("rm", "-rf", "out", "dvc.lock")
    plain.run("dvc", "repro", "-q", "-R", "sub")
    assert plain.json("init", "--yes")["changes"][0]["path"] == "sub/dvc.yaml"
    plain.run("dvc", "repro", "-q", "-R", "sub")
    assert plain.store().counts() == (1, 1)
    assert (plain.root / "mlruns/receipts/m.json").exists()


@pytest.mark.slow
def test_a_folder_is_made_a_repository_of_git_and_dvc_if_the_user_says_so(plain):
    plain.run("rm", "-rf", ".git", ".dvc", "dvc.lock")
    done = plain.run("dovetail", "init", code=2)
    assert "is not a git and DVC repository; next: dovetail init --yes (or: git init && dvc init)" in done.stderr
    assert not (plain.root / ".git").exists()
    done = plain.run("dovetail", "init", "--yes")
    assert "git init && dvc init" in done.stderr
    assert "written; next: dvc repro" in done.stdout
    assert plain.run("dovetail", "init").stdout == "m: nothing to do\n"
    plain.run("dvc", "repro", "-q")
    plain.commit("adopted")
    assert plain.json("doctor")["problems"] == []


def test_a_repository_of_dvc_alone_gets_git_and_one_of_git_alone_gets_dvc_at_its_root(plain):
    plain.run("rm", "-rf", ".git", ".dvc")
    plain.run("dvc", "init", "-q", "--no-scm")
    assert "done in" in plain.run("dovetail", "init", "--yes").stderr
    assert "no_scm" not in (plain.root / ".dvc/config").read_text()
    assert ".dvc/cache" not in plain.run("git", "status", "--porcelain", "-uall").stdout
    plain.run("rm", "-rf", ".dvc")
    (plain.root / "deep").mkdir()
    assert "dvc init" in plain.run("dovetail", "init", "--yes", cwd=plain.root / "deep").stderr
    assert (plain.root / ".dvc").is_dir()
    assert not (plain.root / "deep/.dvc").exists()


def test_what_init_leaves_to_the_user_is_named_with_its_remedy(plain):
    plain.run("dvc", "remote", "add", "-q", "far", "gdrive://folder")
    plain.replace("train.py", "import json", "import mlflow\nmlflow.set_tracking_uri('http://other:5000')\nimport json")
    answer = plain.json("init", "--yes")
    plugin, script = answer["findings"]
    assert plugin["what"].startswith("remote far: ")
    assert plugin["next"].startswith("python -m pip install dvc-gdrive")
    assert script["what"] == "train.py:3 sets the tracking URI to 'http://other:5000'"
    assert script["next"].startswith("delete line 3 of train.py")
    assert "python -m pip install dvc-gdrive" in plain.run("dovetail", "init").stdout


def test_a_model_that_cannot_be_read_is_refused_before_anything_is_written(plain):
    (plain.root / "out/m.joblib").write_bytes(b"\x89HDF\r\n\x1a\n")
    before = plain.run("git", "status", "--porcelain").stdout
    done = plain.run("dovetail", "init", "--yes", code=2)
    assert "out/m.joblib cannot be registered as it is: it is an HDF5 file" in done.stderr
    assert "next: let the stage write ONNX" in done.stderr
    assert plain.run("git", "status", "--porcelain").stdout == before


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "stages:\n  a:\n    cmd: x\n"),
        ("vars: [p.yaml]\n", "vars: [p.yaml]\n\nstages:\n  a:\n    cmd: x\n"),
        ("stages:\n  b:\n    cmd: y", "stages:\n  b:\n    cmd: y\n  a:\n    cmd: x\n"),
        (
            "stages:\n\n    # why\n    b: {cmd: y}\n# behind\nparams: [q.yaml]\n",
            "stages:\n\n    # why\n    b: {cmd: y}\n    a:\n        cmd: x\n# behind\nparams: [q.yaml]\n",
        ),
        ("\ufeffstages:\n  b: {cmd: y}\n", "\ufeffstages:\n  b: {cmd: y}\n  a:\n    cmd: x\n"),
        ("stages: {b: {cmd: y}} # why\n", "stages: {b: {cmd: y}, a: {cmd: x}} # why\n"),
        ("stages: {\n  b: {cmd: y},  # why\n}\n", "stages: {\n  b: {cmd: y},  # why\n a: {cmd: x}}\n"),
        ("{artifacts: {m: {path: x}}}\n", "{artifacts: {m: {path: x}}, stages: {a: {cmd: x}}}\n"),
    ],
)
def test_an_entry_is_added_behind_the_others(text, wanted):
    assert add_entry(text, "stages", "a", "cmd: x", "dvc.yaml") == wanted


@pytest.mark.parametrize("text", ["'stages':\n  b: {cmd: y}\n", "stages: &a {b: {cmd: y}}\nartifacts: *a\n"])
def test_a_section_that_an_entry_cannot_be_added_to_is_refused(text):
    with pytest.raises(UserError, match=r"write it as a block, or add by hand: a: \{cmd: x\}"):
        add_entry(text, "stages", "a", "cmd: x", "dvc.yaml")


def test_lines_are_added_once():
    assert add_lines("a\nb", ["b", "c"]) == "a\nb\nc\n"
    assert add_lines("", ["b"]) == "b\n"
    assert add_lines("b\n", ["b"]) == "b\n"


def test_line_ends_and_bytes_that_are_not_utf_8_stay_as_they_are(plain):
    yaml = plain.root / "dvc.yaml"
    yaml.write_bytes(yaml.read_bytes().replace(b"\n", b"\r\n"))
    (plain.root / ".gitignore").write_bytes(b"# caf\xe9\n/.venv")
    assert plain.json("init", "--yes")["written"]
    lines = yaml.read_bytes().splitlines(keepends=True)
    assert all(line.endswith(b"\r\n") for line in lines)
    assert (plain.root / ".gitignore").read_bytes() == b"# caf\xe9\n/.venv\n/mlflow.db*\n/mlruns/\n"
