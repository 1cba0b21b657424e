"""What the fork server runs is a process as any other: held against what Python itself makes of the same script."""

import contextlib
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest
from commands import BIN
from project import Project

from dovetail.serving.engine import frames

SCRIPTS = {
    "exit code": "raise SystemExit(3)",
    "exit code past 255": "raise SystemExit(259)",
    "a last word": "raise SystemExit('no')",
    "nothing": "raise SystemExit",
    "a traceback": "1 / 0",
    "an interruption": "raise KeyboardInterrupt",
    "a signal": "os.kill(os.getpid(), signal.SIGTERM)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "at once": "os._exit(7)",
    "at its end": "atexit.register(print, 'bye'); print('hello')",
    "a thread goes on": "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "without a newline": "sys.stdout.write('a'); sys.stderr.write('b')",
    "to a closed pipe": "os.close(1); print('lost')",
    "standard input": "print(sys.stdin.read().upper())",
    "arguments": "print(sys.argv[1:], __name__, Path(sys.argv[0]) == Path(__file__))",
    "path": "print(Path(sys.path[0]) == Path(__file__).parent, Path.cwd())",
    "main": "print(sys.modules['__main__'].os is os, sys.executable, sys.flags)",
    "environment": "print({k: v for k, v in sorted(os.environ.items()) if not k.startswith('_')})",
    "what C sees of it": "os.system('echo $ASKED')",
    "umask": "print(os.umask(0))",
    "signals": "print([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)])",
    "no signal waits": "print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "group": "print(os.getpgrp() == os.getpid(), os.getsid(0))",
    "threads": "print(threading.active_count(), multiprocessing.current_process().name)",
    "files": "print(sorted(os.listdir('/proc/self/fd'))[:4], sys.stdout.isatty(), sys.stdout.encoding)",
    "a process of its own": "print(subprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True).stdout)",
}
IMPORTS = "import atexit, multiprocessing, os, signal, subprocess, sys, threading, time\nfrom pathlib import Path\n"


@pytest.fixture
def served(tmp_path):
    """Scripts as the server runs them, and as Python does."""
    if not (shims := os.environ.get(commands.SHIMS)):
        pytest.skip("without the fork server")
    (tmp_path / "commands.socket").symlink_to(Path(shims, "commands.socket"))

    def script(code, name="it"):
        file = tmp_path / f"{name}.py"
        file.write_text(f"{IMPORTS}{code}\n")
        shutil.copy(Path(shims, "dovetail"), tmp_path / name)
        (tmp_path / f"{name}.script").symlink_to(file)
        return [[tmp_path / name], [sys.executable, file]]

    return script


def run(command, *arguments, **options):
    return subprocess.run([*command, *arguments], check=False, **{"capture_output": True, "text": True, **options})


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_does_as_in_a_process_of_its_own(served, tmp_path, name):
    (tmp_path / "here").mkdir()
    how = {"cwd": tmp_path / "here", "input": "word", "env": {**os.environ, "ASKED": "é x"}, "umask": 0o027}
    ours, theirs = (run(command, "a", "-b", **how) for command in served(SCRIPTS[name]))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert ours.stderr.splitlines()[-1:] == theirs.stderr.splitlines()[-1:]


def parent(command, **options):
    return int(run(command, **options).stdout)


def test_what_one_command_does_to_its_process_no_other_one_sees(served):
    shown = """
import logging, mlflow, random, numpy, locale, gc
print(mlflow.get_tracking_uri() == "sqlite:///elsewhere.db", os.environ.get("LEFT"), logging.getLogger("x").handlers,
      logging.getLogger().level, sys.path.count("left"), gc.get_threshold(), Path.cwd() == Path("/"), os.umask(0o22))
"""
    spoil = f"""
{shown}
mlflow.set_tracking_uri("sqlite:///elsewhere.db"); os.environ["LEFT"] = "1"; sys.path.append("left"); os.chdir("/")
logging.getLogger("x").addHandler(logging.StreamHandler()); logging.getLogger().setLevel(1); gc.set_threshold(5)
os.umask(0o77); sys.modules["json"] = None; mlflow.MlflowClient = None
"""
    spoiling, (ours, theirs) = served(spoil, "spoil")[0], served(f"{shown}import json; mlflow.MlflowClient.__name__")
    before = run(spoiling)
    after = run(ours)
    assert (before.returncode, after.returncode, after.stderr) == (0, 0, "")
    assert before.stdout == after.stdout == run(theirs).stdout


def test_two_commands_draw_other_random_numbers(served):
    command, _ = served("import random, numpy, uuid; print(random.random(), numpy.random.rand(), uuid.uuid4())")
    first, second = (run(command).stdout.split() for _ in range(2))
    assert not set(first) & set(second)


def test_the_library_and_its_tracker_are_there_and_nothing_that_does_not_survive_a_fork(served):
    command, _ = served("print([n in sys.modules for n in ('mlflow', 'dvc.repo', 'dovetail.cli', 'polars', 'pygit2')])")
    assert run(command).stdout == "[True, True, True, False, False]\n"
    command, _ = served("import polars; print(polars.DataFrame({'a': range(9999)}).lazy().sum().collect().item())", "p")
    assert run(command).stdout == "49985001\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_arrives(served, number):
    command, _ = served("""
signal.signal(int(sys.argv[1]), lambda n, _: (print(n, flush=True), os._exit(9)))
print("ready", flush=True)
time.sleep(60)
""")
    with subprocess.Popen([*command, str(int(number))], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert (process.communicate()[0], process.returncode) == (f"{int(number)}\n", 9)


@pytest.mark.parametrize("session", [False, True])
def test_who_is_killed_takes_the_command_along(served, session):
    command, _ = served("print(os.getpid(), flush=True); time.sleep(60)")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=session) as process:
        pid = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_group_is_interrupted_as_a_whole(served):
    command, _ = served("print(1, flush=True); time.sleep(60)")
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


def test_nested_calls_are_served_and_what_decides_on_imports_has_a_process_of_its_own(served, tmp_path):
    direct, _ = served("print(os.getppid())")
    nested, _ = served("sys.exit(os.system('it'))", "outer")
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    server = parent(direct)
    assert parent(nested, env=env) == server
    for name in ("PYTHONPATH", "PYTHONHASHSEED", "LC_ALL", "OMP_NUM_THREADS"):
        assert parent(direct, env={**env, name: "2"}) != server


@pytest.mark.parametrize(
    ("there", "served_here"),
    [("mine.py", True), ("mine-1.dist-info/METADATA", True), ("mine-1.dist-info/entry_points.txt", False),
     ("yaml.py", False), ("sitecustomize.py", False), ("PyYAML-1.dist-info/METADATA", False)],
)  # fmt: skip
def test_a_folder_of_the_users_is_searched_and_one_that_shadows_a_library_is_for_a_process_of_its_own(
    served, tmp_path, there, served_here
):
    (tmp_path / "mine" / there).parent.mkdir(parents=True)
    (tmp_path / "mine" / there).write_text("")
    (tmp_path / "mine" / "yaml.txt").write_text("no module")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "mine")}
    name = there.partition(".")[0]
    ours, theirs = served(f"print(sys.path[1:3])\ntry: print(__import__({name!r}).__file__)\nexcept ImportError: pass")
    assert run(ours, env=env).stdout == run(theirs, env=env).stdout
    direct, _ = served("print(os.getppid())", "direct")
    assert (parent(direct, env=env) == parent(direct)) == served_here


def test_a_stage_s_script_is_served_and_whatever_else_python_is_asked_is_not(served, tmp_path):
    direct, _ = served("print(os.getppid())")
    project = Project(tmp_path)
    code = "print(__file__, sys.argv, sys.path[0], os.getppid())"
    (tmp_path / "stage.py").write_text(IMPORTS + code)
    *shown, server = project.run("python", "stage.py", "x").stdout.split()
    assert shown == project.run("python", "stage.py", "x", plain=True).stdout.split()[:-1]
    assert int(server) == parent(direct)
    for command in (["-c", f"__file__ = 0\n{IMPORTS}{code}"], ["-B", "stage.py"], ["-m", "stage"]):
        assert project.run("python", *command).stdout.split()[-1] == str(os.getpid())


def test_a_stage_of_the_reference_project_is_served_by_a_process_that_has_imported_polars(served, tmp_path):
    project = Project(tmp_path)
    code = "import polars; print(Path(__file__).absolute(), sys.argv, Path(sys.path[0]).absolute()"
    sums = "polars.DataFrame({'a': range(9999)}).lazy().sum().collect().item(), polars.thread_pool_size()"
    project.write("src/stages/__main__.py", f"first = 'polars' in sys.modules\n{code}, {sums}, first)")
    project.replace("src/stages/__main__.py", "first", f"{IMPORTS}first")
    shown, plain = (project.run("python", "src/stages", "train", "x", plain=how).stdout for how in (False, True))
    assert (shown, shown.split()[-1]) == (plain.replace("False", "True"), "True")
    before = parent(served("print(os.getppid())")[0])
    project.write("src/stages/__main__.py", "import os, sys; print(os.getppid()); sys.exit(3)")
    assert int(project.run("python", "src/stages", code=3).stdout) not in (before, os.getpid())
    for name in ("PYTHONPATH", "POLARS_MAX_THREADS", "MPLBACKEND"):
        assert int(project.run("python", "src/stages", code=3, **{name: "1"}).stdout) == os.getpid()


def test_a_script_that_imports_mlflow_imports_all_of_it_and_the_plugin_and_is_a_child_of_its_caller(served, tmp_path):
    project = Project(tmp_path)
    before = "before = [n for n in sys.modules if n.partition('.')[0] in ('mlflow', 'dovetail')]"
    shown = "print(before, os.environ['MLFLOW_TRACKING_URI'], psutil.Process().parents()[0].pid == int(sys.argv[1]))"
    project.write("stage.py", f"{IMPORTS}{before}\nimport mlflow, psutil\n{shown}\nprint(os.getppid())")
    stage = {"DVC_STAGE": "train", "DVC_ROOT": str(tmp_path)}
    *said, server = project.run("sh", "-c", "python stage.py $$; true", **stage).stdout.splitlines()
    assert said == [f"[] sqlite:///{tmp_path}/mlflow.db True"]
    assert int(server) == parent(served("print(os.getppid())")[0])


@pytest.mark.slow
def test_a_new_store_is_the_one_that_mlflows_migrations_make(small):
    def dump(**how):
        small.run("dovetail", "sync", "--all", **how)
        with contextlib.closing(sqlite3.connect(small.root / "mlflow.db")) as store:
            tables = store.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
            versions = store.execute("SELECT version_num FROM alembic_version").fetchall()
        (small.root / "mlflow.db").unlink()
        return sorted(sorted(re.findall(r"\w+", str(row))) for row in tables), versions  # their order is by chance

    assert dump() == dump(plain=True)


def test_the_process_of_a_model_is_served_with_the_file_that_it_was_given():
    python = Path(os.environ.get(commands.SHIMS) or BIN, "python")
    ours, theirs = socket.socketpair()
    command = [python, "-P", "-m", "dovetail.serving.engine.model_process", str(theirs.fileno())]
    environment = {**os.environ, **dict.fromkeys(commands.THREADS, "1")}
    with (
        ours,
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment, start_new_session=True) as process,
    ):
        theirs.close()
        ours.sendall(frames.request(("load", "nowhere", "", (), None)))
        assert b"nowhere" in ours.recv(4096)
        assert str(python) in Path(f"/proc/{process.pid}/cmdline").read_text()  # not another Python in its place
        ours.shutdown(socket.SHUT_WR)
        assert (process.wait(30), ours.recv(1)) == (0, b"")


def test_a_module_is_run_as_python_runs_it(tmp_path):
    project = Project(tmp_path)
    project.write("dvc.py", "raise SystemExit('a module of the user')")
    for module, text in (
        ("dvc", "usage: dvc"),
        ("dovetail.serving.engine.alias_watch", "IndexError: list index out of range"),
    ):
        ours, plain = (project.run("python", "-P", "-m", module, code=None, plain=how) for how in (False, True))
        assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
        assert text in ours.stdout + ours.stderr
        assert "RuntimeWarning" not in ours.stderr  # as where something has imported it before
        assert ours.stderr.splitlines()[-1:] == plain.stderr.splitlines()[-1:]


def test_a_user_gets_the_entry_points_themselves(tmp_path):
    """Not the shims, where a test asks for a plain process."""
    for name in ("dovetail", "dvc"):
        assert shutil.which(name, path=commands.path(plain=True)) == str(BIN / name)
    project = Project(tmp_path)
    for plain in (True, False):
        done = project.run("dovetail", "--version", plain=plain)
        assert done.stdout.strip() == "0.1.0"
        assert project.run("dovetail", "nothing", plain=plain, code=2).stderr.endswith("No such command 'nothing'.\n")
        assert "not inside of a DVC" in project.run("dvc", "status", plain=plain, code=253).stderr
