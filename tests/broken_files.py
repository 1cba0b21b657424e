"""Ways in which people break files, as hypothesis strategies, and a project in which to do it in process."""

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import traceback
from dataclasses import dataclass
from pathlib import Path

import yaml
from click.testing import CliRunner
from hypothesis import strategies as st

from dovetail.cli import main
from dovetail.errors import DovetailError

FILES = (
    "params.yaml", "dvc.yaml", "dvc.lock", ".dvc/config", ".dvc/config.local", "extra.csv.dvc", "card.json",
    "mlruns/receipts/m.json", "extra.csv.added", "metrics.json", ".gitignore",
)  # fmt: skip
IN_GIT = tuple(file for file in FILES if not file.startswith(("mlruns", ".dvc/config.local")))
VERBS = {
    "status": ["status"],
    "lineage": ["lineage", "m"],
    "lineage of an old commit": ["lineage", "HEAD~1:m"],
    "diff": ["diff"],
    "diff with an old commit": ["diff", "HEAD~1", "workspace"],
    "history": ["history", "m"],
    "register": ["register", "m"],
    "promote": ["promote", "m", "--dry-run"],
    "rollback": ["rollback", "m", "--reason", "a test"],
    "sync": ["sync"],
    "sync of all": ["sync", "--all"],
    "doctor": ["doctor"],
    "gc": ["gc"],
    "monitor": ["monitor", "m/1"],
    "retrain": ["retrain", "m", "--with", "new.csv", "--into", "extra.csv", "--dry-run"],
}
HUGE = "9" * 6000
MARK = "a number of 6,000 digits"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 7)
)
CONFLICT = "<<<<<<< HEAD\n{0}=======\n{0}>>>>>>> other\n"
WHOLE = (
    "", "hello\n", "[]\n", "- a\n- b\n", "5\n", "null\n", "{", "z: &z [*z]\n", "x: 2020-13-45\n",
    LAUGHS, f"x: {HUGE}\n",
    "a: 1\na: 2\n",
    "? [a]\n: 1\n", "1: 2\n", "schema: '9.9'\n", "\t a: 1\n", '{"a": 1, "a": 2}', f'{{"a": {HUGE}}}',
    "NaN", '{"a": 1e999}', "[" * 2000, "!!python/object:os.system {}\n", "<<: 5\n", "? {a: b}\n: 1\n", "- *nobody\n",
)  # fmt: skip
ODD = (
    None, True, 5, 1.5, "hello", "", [], {}, ["a"], {"a": "b"}, {1: 2}, [[1]], [{"path": 5}], MARK, float("nan"),
    "\x00", "../../up", "${nobody}", -1,
)  # fmt: skip
LINKS = ("folder", "dangling link", "link to itself")


class Slow(BaseException):
    """A case that took longer than a user waits; no Exception, so that nobody takes it for one of theirs."""


def _path_to_part(value, choose):
    """The path to a part of nested values."""
    path = []
    while isinstance(value, dict | list) and value:
        key = choose(sorted(value, key=str) if isinstance(value, dict) else range(len(value)))
        path.append(key)
        value = value[key]
        if choose((True, True, False)) is False:
            break
    return path


@st.composite
def contents(draw, file, text):
    """What lies at `file` after somebody broke it: bytes, or one of LINKS."""

    def choose(options):
        return draw(st.sampled_from(list(options)))

    def part():
        value = json.loads(text) if file.endswith("json") else yaml.safe_load(text)
        path = _path_to_part(value, choose)
        odd = choose(ODD)
        if not path:
            return yaml.safe_dump(odd).replace(MARK, HUGE).encode()
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = odd
        if file.endswith("json"):
            return json.dumps(value).replace(f'"{MARK}"', HUGE).encode()
        return yaml.safe_dump(value, width=1000).replace(MARK, HUGE).encode()

    structured = [part] * 6 if file.endswith(("yaml", "json", "lock", ".dvc")) else []
    put_in = ("\t", "\x00", "<<<<<<< HEAD\n", ":", "{", "&a ", "*a ", '"', "- ")
    at = draw(st.integers(0, max(len(text) - 1, 0)))
    how = choose(
        [
            text[:at].encode(),
            CONFLICT.replace("{0}", text).encode(),
            (text[:at], put_in, text[at:]),
            ("", WHOLE, ""),
            (text, WHOLE, ""),
            b"\xef\xbb\xbf" + text.encode(),
            text.replace("\n", "\r\n").encode(),
            text.encode("utf-16"),
            text.encode() + b"\xff\xfe\x00\x80",
            (text + text).encode(),
            *((link, None, None) for link in LINKS),
            *structured,
        ]
    )
    if isinstance(how, bytes):
        return how
    if callable(how):
        return how()
    before, options, after = how
    if options is None:
        return before
    return (before + choose(options) + after).encode()


@st.composite
def cases(draw, texts):
    """(verb, file, whether in an old commit only, content)."""
    old = draw(st.booleans())
    file = draw(st.sampled_from(IN_GIT if old else FILES))
    return draw(st.sampled_from(list(VERBS))), file, old, draw(contents(file, texts[file]))


@dataclass
class Broken:
    """A project in which files are broken one at a time, each put right again after."""

    root: Path
    head: str
    texts: dict

    @classmethod
    def of(cls, project):
        """Of the judged project: with a promotion, a table that retraining may add rows to, and two commits."""
        project.write("extra.csv", "u,v,label\n1,2,a\n3,4,b\n")
        project.run("dvc", "add", "-q", "extra.csv")
        project.write("extra.csv.added", "a1\nb2\n")
        project.write("new.csv", "u,v,label\n5,6,b\n")
        project.replace("dvc.yaml", "deps: [split.py]", "deps: [split.py, extra.csv]")
        project.run("dvc", "repro", "-q")
        project.commit("more")
        assert project.json(*VERBS["retrain"])["rows"]["added"] == 1  # it reads what is broken below
        project.run("dovetail", "promote", "m", "--force", "--reason", "a test")
        project.write(".dvc/config.local", "")
        texts = {file: (project.root / file).read_text() for file in FILES}
        return cls(project.root, project.run("git", "rev-parse", "HEAD").stdout.strip(), texts)

    def git(self, *args):
        done = subprocess.run(["git", *args], cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def put(self, file, content):
        """Let `content`, as `contents` makes it, lie at `file`."""
        place = self.root / file
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        if content == "folder":
            place.mkdir()
            (place / "inside").write_text("x")
        elif content == "dangling link":
            place.symlink_to("nowhere")
        elif content == "link to itself":
            place.symlink_to(place.name)
        else:
            place.write_bytes(content)

    @contextlib.contextmanager
    def broken(self, file, content, *, old):
        """`content` at `file` during the block, in the working tree or only in the commit before HEAD."""
        try:
            self.put(file, content)
            if old:
                self.git("add", "-A", "-f", file)
                self.git("commit", "-qm", "broken", "--allow-empty")
                self.put(file, self.texts[file].encode())
                self.git("add", "-A", "-f", file)
                self.git("commit", "-qm", "restored", "--allow-empty")
            yield
        finally:
            self.put(file, self.texts[file].encode())
            if old:
                self.git("reset", "-q", "--hard", self.head)

    def told(self, verb):
        """The exit code and the words of a verb, as a user gets them."""
        done = CliRunner().invoke(main, VERBS[verb])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.output

    def state(self):
        """What a command that refuses must leave as it is: what git sees, its refs, and MLflow's rows."""
        seen = (("status", "--porcelain"), ("for-each-ref",))
        said = [subprocess.run(["git", *ask], cwd=self.root, capture_output=True, check=True).stdout for ask in seen]
        with contextlib.closing(sqlite3.connect(self.root / "mlflow.db")) as store:
            return (*said, *store.iterdump())

    def asked(self, verb, *, limit=120):
        """Run a verb in process, the safety net off; what is wrong with how it ended, or None."""

        def slow(*_):
            raise Slow

        signal.signal(signal.SIGALRM, slow)
        signal.alarm(limit)
        try:
            done = CliRunner().invoke(main, ["--traceback", *VERBS[verb]], catch_exceptions=False)
        except DovetailError as error:
            said = str(error)
            is_line = "\n" not in said and len(said) <= 1000
            return None if is_line else f"{type(error).__name__} of several lines, or too long: {said[:80]!r}"
        except Slow:
            return f"took more than {limit} s"
        except Exception as error:  # noqa: BLE001  (it is what is looked for)
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "/src/dovetail/" in f.filename]
            last = frames[-1]
            return f"{type(error).__name__} in {Path(last.filename).name}:{last.name}"
        finally:
            signal.alarm(0)
        return None if done.exit_code in (0, 1) else f"exit code {done.exit_code}"
