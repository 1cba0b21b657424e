"""A model that is served, and servers of it: real processes, real HTTP."""

import contextlib
import http.client
import json
import os
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass

import commands
from project import BIN, Project, free_port

FILES = {
    "train.py": """
import joblib, json, numpy, pandas, yaml
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
params = yaml.safe_load(open("params.yaml"))
random = numpy.random.default_rng(0)
rows = pandas.DataFrame({
    "size": numpy.where(random.random(200) < 0.1, numpy.nan, random.normal(10, 3, 200)),
    "count": random.integers(0, 9, 200),
    "color": random.choice(["red", "blue", None], 200),
    "fresh": random.random(200) < 0.5,
})
label = numpy.where((rows["count"] > 4) ^ rows["fresh"], "yes", "no")
label = numpy.char.add(params["name"] + ":", label.astype(str))
rows["color"] = rows["color"].astype("str")
forest = RandomForestClassifier(params["trees"], random_state=0, n_jobs=params["jobs"])
parts = make_column_transformer(
    (SimpleImputer(), ["size"]), (OneHotEncoder(handle_unknown="ignore"), ["color"]), remainder="passthrough"
)
joblib.dump(make_pipeline(parts, forest).fit(rows, label), "m.joblib")
kinds = {"size": "float64", "count": "int64", "color": "str", "fresh": "bool"}
inputs = [{"name": n, "dtype": k, "nullable": n == "color"} for n, k in kinds.items()]
example = {"columns": list(kinds), "data": [[9.5, 3, "red", True], [11.0, 6, None, False]]}
json.dump({"inputs": inputs, "output": {"dtype": "str"}, "example": example}, open("card.json", "w"))
""",
    "dvc.yaml": """
stages:
  train: {cmd: python train.py, deps: [train.py], params: [name, trees, jobs], outs: [m.joblib, card.json]}
  register:
    cmd: dovetail register m
    deps: [m.joblib, card.json]
    outs: [{mlruns/receipts/m.json: {cache: false}}]
artifacts:
  m: {path: m.joblib, type: model, meta: {card: card.json}}
""",
    "params.yaml": "name: one\ntrees: 20\njobs: 1\n",
    ".gitignore": "/mlflow.db*\n/mlruns/\n",
}
COLUMNS = ("size", "count", "color", "fresh")
ROWS = [[9.5, 3, "red", True], [11.25, 6, None, False], [8.0, 8, "blue", True], [None, 1, "green", False]]
SPLIT = {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}


def served_project(root):
    """Two versions of a model, whose answers begin with their names: `one`, in production, and `two`."""
    project = Project(root)
    root.mkdir(parents=True)
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    for name, text in FILES.items():
        project.write(name, text)
    project.commit("first")
    for version in ("one", "two"):
        project.replace("params.yaml", (root / "params.yaml").read_text().splitlines()[0], f"name: {version}")
        project.run("dvc", "repro", "-q", "train")
        project.commit(version)
        project.run("dvc", "repro", "-q")
        project.commit(f"{version} registered")
    point(project, 1)
    return project


def point(project, version):
    """Let production name a version, as MLflow's own client does it."""
    project.store().client.set_registered_model_alias("m", "production", str(version))


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def version(self):
        return self.headers["x-dovetail-version"]


class Server:
    """A server of the project's model m.

    `plain` keeps the fork server out of it: what `children` finds are the processes themselves, which can be stopped.
    """

    def __init__(self, project, *args, ref="m@production", wait=True, plain=False, patience=180, **env):
        start = [BIN / "dovetail"] if plain else commands.starting("dovetail")
        command = [*start, "serve", ref, "--port", "0", "--poll", "0.2", *args]
        self.process = subprocess.Popen(
            [str(part) for part in command], cwd=project.root, env={**os.environ, **project.env, **env},
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.said = ""
        if wait:
            self.hear(patience)

    def hear(self, seconds=180):
        """Wait until it says where it is."""
        self.said = self._line(seconds)
        self.port = int(re.search(r":(\d+)$", self.said)[1])

    def _line(self, seconds):
        ready, _, _ = select.select([self.process.stderr], [], [], seconds)
        line = self.process.stderr.readline().decode().strip() if ready else ""
        assert " is version " in line, line + self.process.stderr.read().decode() if line else "silent"
        return line

    def connection(self, seconds=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)

    def ask(self, path, body=None, headers=None, method=None, seconds=240):
        with contextlib.closing(self.connection(seconds)) as connection:
            return ask(connection, path, body, headers, method)

    def predict(self, body=SPLIT, **headers):
        return self.ask("/invocations", body, headers)

    def health(self):
        return self.ask("/health").json

    def metric(self, name):
        """The sum of all series of that name."""
        lines = self.ask("/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))

    def until(self, condition, seconds=180):
        """Wait for something that is to come."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"{self.health()}"
            time.sleep(0.05)
        return found

    def children(self, module):
        """The process ids of the server's processes that run a module."""
        import psutil

        found = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in matching(found, lambda child: any(module in part for part in child.cmdline()))]

    @contextlib.contextmanager
    def stopped(self, module):
        """In the block the process of a plain server that runs a module does nothing; its process id."""
        (pid,) = self.children(module)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def end(self, number=signal.SIGTERM):
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process.stderr.close()


def ask(connection, path, body=None, headers=None, method=None):
    """One request on a connection that is kept."""
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    default = {"content-type": "application/json"} if content is not None else {}
    connection.request(method or ("GET" if content is None else "POST"), path, content, {**default, **(headers or {})})
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


HELD = """
import os, sys, time
if {"dovetail.serving.engine.model_process", "dovetail.serving.engine.fork_server"} & set(sys.orig_argv):
    from dovetail.system import sandbox
    enter = sandbox.enter
    def wait(*arguments, **more):
        while os.path.exists(FILE):
            time.sleep(0.02)
        enter(*arguments, **more)
    sandbox.enter = wait
"""


class Hold:
    """While it holds, a process of a server that has its `env` reads no model: what lasts for a moment, lasts on."""

    def __init__(self, folder):
        folder.mkdir()
        self._file = folder / "hold"
        (folder / "sitecustomize.py").write_text(HELD.replace("FILE", repr(str(self._file))))
        self.env = {"PYTHONPATH": str(folder)}

    def __enter__(self):
        self._file.touch()
        return self

    def __exit__(self, *_):
        self._file.unlink()


def matching(processes, condition):
    """The processes for which it holds; one that has just ended is none of them."""
    import psutil

    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [process] if condition(process) else []
    return found


@contextlib.contextmanager
def mlflow_server(project):
    """`mlflow models serve` of the same model; its port."""
    port = free_port()
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
           "MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db"}  # fmt: skip
    command = ["mlflow", "models", "serve", "-m", "models:/m@production", "-p", str(port), "--env-manager", "local"]
    process = subprocess.Popen(command, cwd=project.root, env=env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    try:
        for _ in range(3000):
            with contextlib.suppress(OSError):
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                    ask(connection, "/ping")
                break
            assert process.poll() is None, "it ended"
            time.sleep(0.1)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
