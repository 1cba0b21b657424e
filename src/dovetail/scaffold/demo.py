"""A project that plays the tour by itself: the commands that a user would type, in order, with commentary."""

import csv
import importlib.util
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dovetail.errors import OutsideError, UserError, one_line
from dovetail.system import loopback
from dovetail.tracking.connection import ENV_TRACKING_URI
from dovetail.values.answer import Answer

_DATA, _MODEL, _PAGE = "apples.csv", "apples", "build/drift.html"
_ROWS, _ASKED = 400, 200
_NEEDED = {"polars": "pipeline", "sklearn": "pipeline", "skrub": "pipeline", "pandera": "pipeline", "uvicorn": "serve"}
_IDENTITY = {"NAME": "Dovetail's demo", "EMAIL": "demo@example.org"}  # of commits and tags, where git knows none
_LINES = 14  # of what a command prints, unless a step says which of them tell the story
_READY = 60.0  # seconds for the server
_WIDTH = 100
_BEGINNING = """It takes a minute or two, needs no network and touches nothing else. Each line that begins with $ is
a command that you could type yourself."""
_NEW = f"""{_DATA} has {_ROWS} apples: weight, firmness, colour, and the sort that is to be predicted. `new` looks
at it and writes a git and DVC repository: a pipeline, and params.yaml with the schema that the data seem to
have."""
_REPRO = """DVC runs each stage once: clean against the schema, split, train, evaluate. The last one, `register`,
shows the result in MLflow: a run, a version, and the alias `staging`, because the model is better than guessing."""
_COMMIT = """dvc.lock has the digest of every file that went in and came out. Committed, this state can be
restored."""
_PROMOTE = """`production` never moves by itself. Gates are asked first: is the data there, does the model load
behind the kernel's walls and answer, is it no worse than the one before? The verdicts go into a git tag, and
MLflow's alias follows."""
_SERVE = """The server speaks MLflow's protocol, and goes where `production` goes. We ask it for one apple. Then for
many, weighed on a new scale that shows 60 grams too much, as it happens."""
_MONITOR = """What was asked is kept in monitoring/. Is it still what the model was trained on? The exit code, here
1, is what a scheduler reads."""
_LINEAGE = """From the version back to the bytes of the raw table, by digests, whatever lies in the folder today."""


@dataclass(frozen=True, slots=True)
class DemoRequest:
    """Where the project goes: a folder that is not there or empty; default: a new temporary one."""

    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class DemoStep:
    """A command that was played: what was typed, its exit code, how long it took."""

    command: str
    exit_code: int
    seconds: float


@dataclass(frozen=True, slots=True, repr=False)
class DemoAnswer(Answer):
    """What was played, and where it lies."""

    project: str
    model: str
    page: str
    prediction: str
    steps: tuple[DemoStep, ...]

    def __repr__(self) -> str:
        return f"<DemoAnswer {self.project}: {self.model}, {len(self.steps)} commands>"

    def as_json(self) -> dict[str, Any]:
        """The answer of `dovetail demo --json`."""
        steps = [{"command": step.command, "exit_code": step.exit_code, "seconds": step.seconds} for step in self.steps]
        return {
            "project": self.project, "model": self.model, "page": self.page, "prediction": self.prediction,
            "steps": steps,
        }  # fmt: skip


def demo(request: DemoRequest, tell: Callable[[str], None]) -> DemoAnswer:
    """Play it; `tell` hears every line, commands beginning with `$`.

    Raises:
        UserError: when the folder is not empty, or an extra is not installed.
        OutsideError: when a command fails that should not.
    """
    if missing := sorted({extra for module, extra in _NEEDED.items() if not importlib.util.find_spec(module)}):
        extras = ",".join(missing)
        raise UserError(f"the demo needs the extras {extras}", f'python -m pip install "dovetail-ml[{extras}]"')
    folder = request.folder or Path(tempfile.mkdtemp(prefix="dovetail-demo-"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} already exists and is not empty", "dovetail demo")
    folder.mkdir(parents=True, exist_ok=True)
    return _Demo(folder.resolve(), tell).play()


class _Demo:
    """One play: where it happens, what was typed so far."""

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self._project = folder / _MODEL
        self._env = _environment(folder)
        self._steps: list[DemoStep] = []

    def play(self) -> DemoAnswer:
        """Every step, in order."""
        self._say(f"A demo in {self._folder}", _BEGINNING)
        _write_apples(self._folder / _DATA)
        self._say("1. A table becomes a project", _NEW)
        self._run("dovetail", "new", _MODEL, "--data", _DATA, "--target", "sort", where=self._folder)
        self._say("2. The pipeline runs", _REPRO)
        self._run("dvc", "repro", shown=r"^Running stage|: run ")
        self._say("3. git remembers it", _COMMIT)
        self._run("git", "add", "--all")
        self._run("git", "commit", "--quiet", "--message", "A first model")
        self._run("dovetail", "status")
        self._say("4. Promotion", _PROMOTE)
        self._run("dovetail", "promote", _MODEL, "--reason", "the first")
        self._run("dovetail", "history", _MODEL)
        self._say("5. Serving", _SERVE)
        prediction = self._serve()
        self._say("6. Drift", _MONITOR)
        self._run("dovetail", "monitor", _MODEL, "--html", _PAGE, codes=(1,))
        self._say("7. Where does production come from?", _LINEAGE)
        self._run("dovetail", "lineage", f"{_MODEL}@production", shown=r"^\S*─|@production|data/")
        self._say("That was it", "All of it is yours to play with:")
        for line in (
            f"  cd {shlex.quote(str(self._project))}",
            "  dovetail ui apples            MLflow's pages of the model",
            f"  {_PAGE}              what drifted, as a page for the browser",
            f"  dovetail reproduce {_MODEL}     production, made again and compared byte by byte",
            f"  dovetail retrain {_MODEL} …     labelled rows become a candidate on a branch",
            f"Done with it? Delete {self._folder}",
        ):
            self._tell(line)
        page = self._project / _PAGE
        return DemoAnswer(str(self._project), _MODEL, str(page), prediction, tuple(self._steps))

    def _say(self, title: str, text: str) -> None:
        for line in ("", title, *textwrap.wrap(" ".join(text.split()), _WIDTH)):
            self._tell(line)

    def _run(self, *command: str, shown: str = "", codes: tuple[int, ...] = (0,), where: Path | None = None) -> None:
        """Run a command and tell what it prints: its first lines, or those that `shown` finds."""
        self._tell(f"$ {shlex.join(command)}")
        begin = time.monotonic()
        done = subprocess.run(
            command, cwd=where or self._project, env=self._env, capture_output=True, text=True, check=False
        )
        self._steps.append(DemoStep(shlex.join(command), done.returncode, round(time.monotonic() - begin, 1)))
        if done.returncode not in codes:
            raise OutsideError(
                f"{shlex.join(command)} failed: {one_line(done.stderr or done.stdout)}", f"look into {self._project}"
            )
        lines = [line for line in done.stdout.splitlines() if line.strip() and re.search(shown, line)]
        for line in lines if shown else lines[:_LINES]:
            self._tell(f"    {line if len(line) <= _WIDTH else line[: _WIDTH - 1] + '…'}")
        if not shown and len(lines) > _LINES:
            self._tell(f"    … {len(lines) - _LINES} more lines")

    def _serve(self) -> str:
        """Start a server, ask it, end it; what it said of the one apple."""
        with self._server() as address:
            header = ",".join(_COLUMNS)
            one = f"{header}\n181.5,7.2,red\n"
            self._tell(f"$ curl -s {address}/invocations -H 'Content-Type: text/csv' \\")
            self._tell(f"      --data-binary $'{header}\\n181.5,7.2,red'")
            prediction = _post(address, one)
            self._tell(f"    {prediction}")
            rows = [f"{weight + 60:.1f},{firmness},{colour}" for weight, firmness, colour, _ in _apples(_ASKED, seed=1)]
            _post(address, "\n".join([header, *rows]))
            self._tell(f"    … and {_ASKED} more, from the new scale")
        return prediction

    @contextmanager
    def _server(self) -> Iterator[str]:
        command = ["dovetail", "serve", f"{_MODEL}@production", "--port", "0"]
        self._tell(f"$ {shlex.join(command)} &")
        begin = time.monotonic()
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(command, cwd=self._project, env=self._env, stdout=said, stderr=said)
            try:
                while not (found := re.search(r"is version .+ on (http://\S+)", _text(said))):
                    if process.poll() is not None or time.monotonic() - begin > _READY:
                        raise OutsideError(
                            f"{shlex.join(command)} failed: {one_line(_text(said))}", shlex.join(command)
                        )
                    time.sleep(0.1)
                self._tell(f"    {_text(said).strip().splitlines()[-1]}")
                yield found[1]
            finally:
                process.send_signal(signal.SIGTERM)  # it writes what it remembers, and ends
                process.wait()
        self._steps.append(DemoStep(shlex.join(command), process.returncode, round(time.monotonic() - begin, 1)))


_COLUMNS = ("weight (g)", "firmness", "colour")


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read())


def _post(address: str, rows: str) -> str:
    request = urllib.request.Request(f"{address}/invocations", rows.encode(), {"Content-Type": "text/csv"})  # noqa: S310  (our own server's address)
    with loopback.opened(request, _READY) as response:
        return str(response.read().decode())


def _environment(folder: Path) -> Mapping[str, str]:
    """The environment of the commands: this installation's first on PATH, a store of its own, an identity for git."""
    env = {name: value for name, value in os.environ.items() if name != ENV_TRACKING_URI}
    ours = shutil.which("dovetail")
    if not ours or not Path(ours).with_name("python").exists():  # no active environment: dvc would find another python
        env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    known = subprocess.run(["git", "var", "GIT_COMMITTER_IDENT"], cwd=folder, env=env, capture_output=True, check=False)
    if known.returncode:
        env |= {f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in _IDENTITY.items()}
    return env


def _apples(count: int, seed: int) -> Iterator[tuple[float, float, str, str]]:
    """Apples of three sorts: (weight, firmness, colour, sort)."""
    draw = random.Random(seed)  # noqa: S311  (a demo's data)
    sorts = (("Boskoop", 210, 8.0, "green"), ("Gala", 150, 7.0, "red"), ("Elstar", 170, 6.0, "red"))
    for _ in range(count):
        sort, weight, firmness, colour = draw.choice(sorts)
        seen = colour if draw.random() < 0.9 else draw.choice(("red", "green", "yellow"))  # noqa: PLR2004
        yield round(draw.gauss(weight, 12), 1), round(draw.gauss(firmness, 0.5), 1), seen, sort


def _write_apples(file: Path) -> None:
    draw = random.Random(2)  # noqa: S311
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("label", *_COLUMNS, "sort"))
        for number, (weight, firmness, colour, sort) in enumerate(_apples(_ROWS, seed=0)):
            shown = "NA" if draw.random() < 0.05 else firmness  # noqa: PLR2004  (as tables are)
            writer.writerow((f"A-{number:04}", weight, shown, colour, sort))
