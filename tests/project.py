"""Real projects in temporary folders: git, DVC, MLflow on SQLite, driven by the commands that users type."""

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import commands

from dovetail.tracking.relocate import relocate
from dovetail.values import tag_keys
from dovetail.values.tag_layout import plain, stored

ROOT = Path(__file__).resolve().parents[1]
BIN = commands.BIN
_asked = itertools.count()


def isolate(tmp_path_factory, monkeypatch):
    """A home and a git identity of its own, none of the machine's settings.

    Fixtures that outlive a test have to ask for it.
    """
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text(
        "[user]\nname = Ada Tester\nemail = ada@example.org\n[init]\ndefaultBranch = main\n"
    )
    for name in [n for n in os.environ if n.startswith(("MLFLOW_", "DVC_", "GIT_", "DOVETAIL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.setenv("MPLBACKEND", "Agg")


@dataclass
class Project:
    """A folder with a git and DVC repository in it."""

    root: Path
    env: dict = field(default_factory=dict)

    def run(self, *command, code=0, cwd=None, plain=False, **env):
        """Run a command as a user would; its output must come with the exit code that was expected; None: with any.

        `plain` keeps the fork server out of it: for what concerns how a command starts.
        """
        environment = {**os.environ, "PATH": commands.path(plain=plain), **self.env, **env}
        done = subprocess.run(
            command, cwd=cwd or self.root, env=environment, capture_output=True, text=True, check=False
        )
        if code is not None:
            assert done.returncode == code, f"{command} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def killed(self, step, *arguments, code=-signal.SIGKILL, **env):
        """Run `dovetail …`, which dies by SIGKILL before a step: a function's name, `:N` for the Nth call of it."""
        return self.run(*commands.killed(), step, *arguments, code=code, **env)

    def json(self, *command, code=0, **env):
        """The one JSON document that `dovetail … --json` prints."""
        return json.loads(self.run("dovetail", *command, "--json", code=code, **env).stdout)

    def asked_of_git(self, *command, code=0):
        """The command lines by which a command asks git, in their order."""
        with tempfile.NamedTemporaryFile() as trace:
            self.run(*command, code=code, GIT_TRACE=trace.name)
            said = Path(trace.name).read_text()
        return [line.partition(": git ")[2] for line in said.splitlines() if "trace: built-in: git " in line]

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def replace(self, path, old, new):
        text = (self.root / path).read_text()
        assert old in text
        return self.write(path, text.replace(old, new, 1))

    def commit(self, message):
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)
        return self.run("git", "rev-parse", "HEAD").stdout.strip()

    def store(self):
        """What MLflow shows, by model: runs, versions, aliases."""
        from mlflow import MlflowClient

        # MLflow keeps connections by URI: one to a file that was deleted since would show what was there.
        fresh = "./" * next(_asked)
        uri = self.env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root}/{fresh}mlflow.db"
        return Shown(MlflowClient(uri, uri))


def facts(found):
    """What Dovetail's tags say of a run or of a version, wherever MLflow keeps it."""
    return plain(found.data.tags if hasattr(found, "data") else found.tags)


def retag(client, model, version, **changed):
    """Let the tags of a version say other facts, by their names in `tag_keys`; None: say it no more."""
    told = plain(client.get_model_version(model, str(version)).tags)
    told |= {getattr(tag_keys, name.upper()): value for name, value in changed.items()}
    for key, value in stored({key: value for key, value in told.items() if value is not None}).items():
        client.set_model_version_tag(model, str(version), key, value)


@dataclass
class Shown:
    """MLflow's own answers, asked through its client."""

    client: object

    def runs(self):
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, max_results=1000))

    def versions(self):
        return sorted(self.client.search_model_versions(), key=lambda v: (v.name, int(v.version)))

    def models(self):
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        return list(self.client.search_logged_models(experiments))

    def aliases(self):
        return {model.name: dict(model.aliases) for model in self.client.search_registered_models()}

    def counts(self):
        return len(self.runs()), len(self.versions())


TRAIN = """
import json, pathlib, joblib, yaml
from sklearn.dummy import DummyRegressor
w = yaml.safe_load(open("params.yaml"))["train"]["w"]
rows = open("data.csv").read().splitlines()[1:]
pathlib.Path("out/plots").mkdir(parents=True, exist_ok=True)
model = DummyRegressor(strategy="constant", constant=w).fit([[0.0]], [0.0])
model.rows_ = rows  # other data, other bytes
joblib.dump(model, "out/m.joblib")
json.dump({"accuracy": w / 10, "size": {"rows": len(rows)}}, open("out/metrics.json", "w"))
pathlib.Path("out/plots/p.csv").write_text(f"x,y\\n1,{w}\\n")
"""

DVC_YAML = """
stages:
  train:
    cmd: python train.py
    deps: [train.py, data.csv]
    params: [train]
    outs: [out/m.joblib]
    metrics: [{out/metrics.json: {cache: false}}]
    plots: [out/plots]
  register:
    cmd: dovetail register m
    deps: [out/m.joblib, out/metrics.json, out/plots]
    outs: [{mlruns/receipts/m.json: {cache: false}}]
artifacts:
  m: {path: out/m.joblib, type: model, desc: A small model, meta: {gates: {accuracy: {min: 0.5}}}}
"""


def small_project(root):
    """A user's repository that trains in a tenth of a second: data by `dvc add`, one training script, one model."""
    project = Project(root)
    root.mkdir(parents=True, exist_ok=True)
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.write("train.py", TRAIN)
    project.write("params.yaml", "train: {w: 7}\n")
    project.write("data.csv", "a,b\n1,2\n3,4\n")
    project.write("dvc.yaml", DVC_YAML)
    project.write(".gitignore", "/mlflow.db*\n/mlruns/\n")
    project.run("dvc", "add", "-q", "data.csv")
    project.commit("first")
    return project


TWO_MODELS = """
stages:
  train: {cmd: python train.py, deps: [train.py, code], params: [train], outs: [out/m.joblib]}
  copy: {cmd: cp out/m.joblib n.joblib, deps: [code, out/m.joblib], outs: [n.joblib]}
artifacts:
  m: {path: out/m.joblib, type: model}
  n: {path: n.joblib, type: model}
"""

JUDGED = {
    "split.py": """
import csv
rows = [(i % 7, i % 11, "b" if i % 7 > 3 else "a", "xyz"[i % 3]) for i in range(200)]
for name, part in (("train", rows[60:]), ("test", rows[:60])):
    with open(f"{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([("u", "v", "label", "group"), *part])
""",
    "train.py": """
import joblib, pandas, yaml
from sklearn.tree import DecisionTreeClassifier
wrong = yaml.safe_load(open("params.yaml"))["wrong"]
rows = pandas.read_csv("train.csv")
label = rows["label"].where(rows["v"] >= wrong, "a")
joblib.dump(DecisionTreeClassifier(random_state=0).fit(rows[["u", "v"]], label), "m.joblib")
""",
    "judge.py": """
import joblib, json, pandas
rows = pandas.read_csv("test.csv")
said = joblib.load("m.joblib").predict(rows[["u", "v"]])
json.dump({"accuracy": float((said == rows["label"]).mean())}, open("metrics.json", "w"))
inputs = [{"name": name, "dtype": "int64", "nullable": False} for name in ("u", "v")]
example = {"columns": ["u", "v"], "data": [[1, 2], [5, 3]]}
json.dump({"inputs": inputs, "output": {"dtype": "str"}, "example": example}, open("card.json", "w"))
""",
    "dvc.yaml": """
stages:
  split: {cmd: python split.py, deps: [split.py], outs: [train.csv, test.csv]}
  train: {cmd: python train.py, deps: [train.py, train.csv], params: [wrong], outs: [m.joblib]}
  judge:
    cmd: python judge.py
    deps: [judge.py, test.csv, m.joblib]
    outs: [card.json]
    metrics: [{metrics.json: {cache: false}}]
  register:
    cmd: dovetail register m
    deps: [m.joblib, card.json, metrics.json]
    params: [gates]
    outs: [{mlruns/receipts/m.json: {cache: false}}]
artifacts:
  m: {path: m.joblib, type: model, meta: {card: card.json, gates: "${gates}"}}
""",
    "params.yaml": "wrong: 0\ngates: {champion: {target: label}}\n",
    ".gitignore": "/mlflow.db*\n/mlruns/\n",
}


def judged_project(root):
    """A repository whose model is a classifier, judged on a test part: `wrong` in params.yaml makes it worse."""
    project = Project(root)
    root.mkdir(parents=True, exist_ok=True)
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    for name, text in JUDGED.items():
        project.write(name, text)
    project.run("dvc", "repro", "-q")
    project.commit("first")
    return project


def copy_tree(target):
    """What a clone of this tree would hold, uncommitted changes included."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    project = Project(target)
    project.run("git", "init", "-q")
    project.commit("as it is")
    return project


def set_aside(project):
    """A project whose store is to be copied with it: one that was moved is corrected, so nothing may lie there."""
    (project.root / "mlruns").rename(project.root.with_name("mlruns"))
    return project.root


def copy_of(template, target):
    """A copy of what was set aside, with its store, cache and experiments; a remote it has in common with others."""
    shutil.copytree(template, target, symlinks=True)
    shutil.copytree(template.with_name("mlruns"), target / "mlruns")
    assert relocate(target / "mlflow.db", target) == [str(template)]
    return Project(target)


def _numbers():
    """Ports below those that systems give out by themselves: each worker has its own, and each run begins elsewhere."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    numbers = range(20_000 + 3000 * worker, 23_000 + 3000 * worker)
    first = os.getpid() % len(numbers)
    yield from (*numbers[first:], *numbers[:first])


_ports = _numbers()


def free_port():
    """A port for what is started on it seconds later; never one that was given before."""
    for port in _ports:
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
