"""`dovetail repro`: what `dvc repro` makes, byte for byte, on several workers, whatever dies meanwhile."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import commands
import psutil
import pytest
from clusters import cluster, wait_for
from pipelines import SHAPES
from project import Project

import dovetail
from dovetail.cluster import pool, worker_task
from dovetail.cluster import workers as workers_module
from dovetail.errors import OutsideError, UserError
from dovetail.repo import dag
from dovetail.values.order import Order

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value")  # pygtrie, of DVC's use of it

# Counts how often it runs, outside of every copy; waits for a file to appear there if it is named.
STAGE = """
import os, pathlib, sys, time
name, wait = sys.argv[1], sys.argv[2:]
log = pathlib.Path(os.environ["RUNS"])
(log / f"{name}-{os.getpid()}").touch()
for file in wait:
    while not (log / file).exists():
        time.sleep(0.02)
pathlib.Path(f"{name}.out").write_text(name)
"""


@pytest.fixture(autouse=True)
def _served():
    """Stages have a process that imports DVC: it is forked."""
    with commands.serving_python():
        yield


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty repository whose stages count how often they run."""
    root = tmp_path / "repository"
    root.mkdir()
    project = Project(root)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        project.run(*command)
    project.write("stage.py", STAGE)
    project.runs = tmp_path / "runs"
    project.runs.mkdir()
    monkeypatch.setenv("RUNS", str(project.runs))
    return project


def made(root):
    """Every file of the working tree that DVC or a stage made, and git's answer to it."""
    files = (file for file in sorted(root.rglob("*")) if file.is_file() and not {".git", ".dvc"} & set(file.parts))
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def run_cache(root):
    return sorted(file.name for file in (root / ".dvc/cache/runs").rglob("*") if file.is_file())


def started(project, name=""):
    return len(list(project.runs.glob(f"{name}*-*")))


def independent(*names):
    stages = "".join(f"  {n}: {{cmd: python stage.py {n}, deps: [stage.py], outs: [{n}.out]}}\n" for n in names)
    return f"stages:\n{stages}"


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_the_workspace_is_what_dvc_repro_leaves(shape, tmp_path):
    files, commands = SHAPES[shape]
    plain = Project(tmp_path / "plain")
    plain.root.mkdir()
    plain.run("git", "init", "-q")
    plain.run("dvc", "init", "-q")
    for path, text in files.items():
        plain.write(path, text)
    for command in commands:
        plain.run(*command)
    plain.commit("one")
    side = Project(tmp_path / "side")
    shutil.copytree(plain.root, side.root)
    for text in ("1\n", "2\n", "1\n"):  # made, made of something else, and found in the run-cache
        for project in (plain, side):
            project.write("src", text)
        plain.run("dvc", "repro")
        dovetail.open(side.root).repro(workers=2)
        assert made(side.root) == made(plain.root)
        assert run_cache(side.root) == run_cache(plain.root)
    git = ("git", "status", "--porcelain")
    assert side.run(*git).stdout == plain.run(*git).stdout


def test_stages_that_do_not_wait_for_each_other_run_at_once_and_what_is_there_is_not_made_again(repository):
    repository.write(
        "dvc.yaml",
        """
stages:
  a: {cmd: python stage.py a b-*, deps: [stage.py], outs: [a.out]}
  b: {cmd: "python stage.py b; touch $RUNS/b-*", deps: [stage.py], outs: [b.out]}
""".replace("a b-*", "a go"),
    )
    repository.replace("dvc.yaml", "touch $RUNS/b-*", "touch $RUNS/go")
    answer = dovetail.open(repository.root).repro(workers=2)
    assert [(stage.stage, stage.how) for stage in answer.stages] == [("a", "ran"), ("b", "ran")]
    again = dovetail.open(repository.root).repro(workers=2)
    assert {stage.how for stage in again.stages} == {"unchanged"}
    (repository.root / "a.out").unlink()
    (repository.root / "dvc.lock").unlink()
    restored = dovetail.open(repository.root).repro(workers=2)
    assert {stage.how for stage in restored.stages} == {"restored"}
    forced = dovetail.open(repository.root).repro("a", workers=2, force=True)
    assert [(stage.stage, stage.how) for stage in forced.stages] == [("a", "ran")]
    assert (started(repository, "a"), started(repository, "b")) == (2, 1)


def test_in_a_subfolder_targets_are_what_they_are_to_dvc_there(repository):
    repository.write("src", "1\n")
    repository.write("dvc.yaml", "stages:\n  x: {cmd: cat sub/y > x, deps: [sub/y], outs: [x]}\n")
    repository.write("sub/dvc.yaml", "stages:\n  w: {cmd: cat ../src > w, deps: [../src], outs: [w]}\n"
                     "  y: {cmd: cat w > y, deps: [w], outs: [y]}\n")  # fmt: skip
    said = repository.run("dovetail", "repro", "y", "--json", cwd=repository.root / "sub").stdout
    ran = [stage["stage"] for stage in json.loads(said)["stages"] if stage["how"] == "ran"]
    assert ran == ["sub/dvc.yaml:w", "sub/dvc.yaml:y"]
    answer = dovetail.open(repository.root).repro(workers=1)
    assert [(stage.stage, stage.how) for stage in answer.stages] == [
        ("sub/dvc.yaml:w", "unchanged"), ("sub/dvc.yaml:y", "unchanged"), ("x", "ran"),
    ]  # fmt: skip


def test_what_runs_is_the_working_tree_as_it_is(repository):
    repository.write("dvc.yaml", independent("a"))
    repository.commit("one")
    repository.write("new.py", "TEXT = 'changed'\n")
    repository.write("stage.py", "from new import TEXT\nopen('a.out', 'w').write(TEXT)\n")
    dovetail.open(repository.root).repro(workers=1)
    assert (repository.root / "a.out").read_text() == "changed"
    assert repository.run("git", "count-objects").stdout == repository.run("git", "count-objects").stdout


def test_what_git_ignores_is_in_no_copy_so_its_reader_runs_here(repository):
    repository.write(".gitignore", "/secret\n/code/part\n")
    repository.write("secret", "s")
    repository.write("code/part", "p")
    repository.write("code/whole", "w")
    repository.write(
        "dvc.yaml",
        """
stages:
  a: {cmd: cat secret > a, deps: [secret], outs: [a]}
  b: {cmd: cat code/* > b, deps: [code], outs: [b]}
  c: {cmd: "echo $DVC_ROOT > c", deps: [stage.py], outs: [c], meta: {workers: false}}
  d: {cmd: cat a b c > d, deps: [a, b, c], outs: [d]}
""",
    )
    answer = dovetail.open(repository.root).repro(workers=2)
    assert {stage.stage: stage.worker for stage in answer.stages} == {
        "a": "here", "b": "here", "c": "here", "d": "this machine",
    }  # fmt: skip
    assert (repository.root / "d").read_text() == f"spw{repository.root}\n"


def test_what_runs_in_the_workspace_runs_one_at_a_time_registrations_too(repository, tmp_path):
    """DVC writes dvc.lock in place, and a registration reads it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dovetail").write_text(
        "#!/bin/sh\ntest ! -e busy && touch busy && sleep 0.2 && rm busy && echo > receipt-$2\n"
    )
    (tmp_path / "bin/dovetail").chmod(0o755)
    alone = "test ! -e busy && touch busy && sleep 0.2 && rm busy && touch ${item}"
    registers = f"PATH={tmp_path / 'bin'}:$PATH dovetail register"
    repository.write(
        "dvc.yaml",
        f"""
stages:
  alone: {{foreach: [x, y], do: {{cmd: "{alone}", deps: [stage.py], outs: [{{"${{item}}": {{cache: false}}}}]}}}}
  r:
    foreach: [a, b]
    do: {{cmd: "{registers} ${{item}}", deps: [stage.py], outs: [{{"receipt-${{item}}": {{cache: false}}}}]}}
""",
    )
    answer = dovetail.open(repository.root).repro(workers=2)
    assert {(stage.how, stage.worker) for stage in answer.stages} == {("ran", "here")}
    recorded = re.findall(r"^  (\S+):", (repository.root / "dvc.lock").read_text(), re.MULTILINE)
    assert recorded == ["alone@x", "alone@y", "r@a", "r@b"]


def test_a_failure_ends_what_waits_for_it_and_the_next_run_goes_on(repository):
    repository.write(
        "dvc.yaml",
        independent("a", "b")
        + """
  bad: {cmd: "echo why; test -e mended && touch bad", deps: [a.out, fix], outs: [bad]}
  end: {cmd: cat bad > end, deps: [bad], outs: [end]}
  far: {cmd: cat b.out > far, deps: [b.out], outs: [far]}
""",
    )
    repository.write("fix", "no")
    done = repository.run("dovetail", "repro", "--workers", "1", "--keep-going", code=2)
    assert "bad: FAILED, failed to run: echo why" in done.stdout
    assert "  │ why\n" in done.stdout
    assert "end: skipped, bad failed" in done.stdout
    locked = (repository.root / "dvc.lock").read_text()
    assert all(f"\n  {name}:" in locked for name in ("a", "b", "far"))
    assert "bad" not in locked
    repository.write("fix", "yes")
    repository.write("mended", "")
    answer = repository.json("repro", "--workers", "1")
    assert {stage["stage"]: stage["how"] for stage in answer["stages"]} == {
        "a": "unchanged", "b": "unchanged", "bad": "ran", "end": "ran", "far": "unchanged",
    }  # fmt: skip
    assert answer["failed"] == []


@pytest.mark.slow
def test_without_keep_going_no_more_is_begun_once_a_failure_is_known(repository):
    names = [f"s{number}" for number in range(6)]
    bad = "stages:\n  bad: {cmd: test -e good && cp good bad, deps: [stage.py], outs: [bad]}\n"
    repository.write("dvc.yaml", bad + independent(*names).removeprefix("stages:\n"))
    answer = repository.json("repro", "--workers", "1", code=2)
    hows = [stage["how"] for stage in answer["stages"]]
    assert hows[0] == "failed"
    assert hows[3:] == ["skipped"] * 4
    assert started(repository) <= 2
    repository.write("good", "now")
    repository.run("dovetail", "repro", "--workers", "1")
    recorded = re.findall(r"^  (\w+):", (repository.root / "dvc.lock").read_text(), re.MULTILINE)
    assert recorded == ["bad", *names]  # as dvc repro, which had stopped at the first


def test_dry_says_what_would_run_and_writes_nothing(repository):
    repository.write("dvc.yaml", independent("a", "b") + "  c: {cmd: cat a.out > c, deps: [a.out], outs: [c]}\n")
    repository.run("dovetail", "repro", "--workers", "1", "b")
    before = made(repository.root)
    said = repository.run("dovetail", "repro", "--dry").stdout
    assert said.splitlines()[:3] == ["a: would run", "b: unchanged", "c: would run"]
    assert made(repository.root) == before


@pytest.mark.slow
def test_a_stage_whose_process_dies_is_run_again_once(repository):
    repository.write("dvc.yaml", independent("a").replace("stage.py a", "stage.py a go"))
    running = subprocess.Popen(["dovetail", "repro", "--workers", "1"], cwd=repository.root)
    try:
        wait_for(lambda: started(repository) == 1)
        victim = int(next(repository.runs.glob("a-*")).name.removeprefix("a-"))
        os.killpg(os.getpgid(victim), signal.SIGKILL)
        wait_for(lambda: started(repository) == 2)
        (repository.runs / "go").touch()
        assert running.wait(120) == 0
    finally:
        running.kill()
    assert (repository.root / "a.out").read_text() == "a"
    assert list((repository.root / ".dvc/tmp/repro").iterdir()) == []


@pytest.mark.slow
def test_a_killed_coordinator_leaves_no_stage_behind_and_the_next_does_not_repeat_what_was_done(repository):
    repository.write(
        "dvc.yaml",
        independent("a")
        + """
  b: {cmd: python stage.py b go, deps: [stage.py, a.out], outs: [b.out]}
""",
    )
    running = subprocess.Popen(["dovetail", "repro", "--workers", "2"], cwd=repository.root)
    wait_for(lambda: started(repository, "b") == 1)
    running.kill()
    running.wait()
    child = next(repository.runs.glob("b-*")).name.removeprefix("b-")
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    assert not (repository.root / "b.out").exists()
    (repository.runs / "go").touch()
    repository.run("dovetail", "repro", "--workers", "2")
    assert (started(repository, "a"), started(repository, "b")) == (1, 2)
    assert [path for path in (repository.root / ".dvc/tmp/repro").iterdir() if path.is_dir()] == []


def test_what_a_killed_dvc_left_half_written_does_not_stop_the_next(repository):
    repository.write("dvc.yaml", independent("a"))
    (repository.root / ".dvc/tmp").mkdir(exist_ok=True)
    repository.write(".dvc/tmp/rwlock", '{"/some/path": {"write": {"pi')
    assert [stage.how for stage in dovetail.open(repository.root).repro(workers=1).stages] == ["ran"]


def test_a_process_that_ended_and_that_nobody_waits_for_holds_no_lock(repository):
    """As orphans stay where the first process of a container waits for none: DVC takes them for alive."""
    repository.write("dvc.yaml", independent("a"))
    repository.commit("one")
    (repository.root / ".dvc/tmp").mkdir(exist_ok=True)
    with subprocess.Popen(["true"]) as ended:
        wait_for(lambda: psutil.Process(ended.pid).status() == psutil.STATUS_ZOMBIE)
        entry = {"pid": ended.pid, "cmd": "-c"}
        locks = {"write": {str(repository.root / "a.out"): entry}, "read": {str(repository.root / "stage.py"): [entry]}}
        repository.write(".dvc/tmp/rwlock", json.dumps(locks))
        assert "is busy" in repository.run("dvc", "repro", code=255).stderr
        found = json.loads(repository.run("dovetail", "doctor", "--json", code=None).stdout)["problems"]
        assert any(f"process {ended.pid} has ended" in one["what"] for one in found)
        assert [stage.how for stage in dovetail.open(repository.root).repro(workers=1).stages] == ["ran"]


def test_an_entry_of_the_run_cache_that_a_kill_left_empty_is_filled(repository):
    """DVC itself fails on it."""
    repository.write("dvc.yaml", independent("a", "b"))
    repository.run("dvc", "repro")
    entries = [file for file in (repository.root / ".dvc/cache/runs").rglob("*") if file.is_file()]
    for file in (*entries, *repository.root.glob("*.out"), repository.root / "dvc.lock"):
        file.unlink()
    assert "NoneType" in repository.run("dvc", "repro", code=255).stderr
    answer = dovetail.open(repository.root).repro(workers=2)
    assert [stage.how for stage in answer.stages] == ["ran", "ran"]
    assert all(file.is_file() for file in entries)


@pytest.mark.slow
def test_a_process_of_the_workspace_that_dies_while_it_writes_dvcs_list_stops_no_other_stage(repository):
    repository.write(
        "dvc.yaml",
        independent("a", "b")
        + """  c: {cmd: 'python stage.py c', deps: [a.out], outs: [c.out]}
  dies:
    cmd: 'printf "{" > .dvc/tmp/rwlock; kill -9 0'
    deps: [stage.py]
    outs: [{dies.out: {cache: false}}]
""",
    )
    repository.write("stage.py", STAGE.replace("for file", "if name == 'a': time.sleep(4)\nfor file"))
    answer = dovetail.open(repository.root).repro(workers=1, keep_going=True)
    how = {stage.stage: stage.how for stage in answer.stages}
    assert how == {"a": "ran", "b": "ran", "c": "ran", "dies": "failed"}
    assert repr(answer) == "<ReproAnswer 4 stages, 1 failed>"


@pytest.mark.slow
def test_what_a_killed_run_wrote_is_put_in_order_or_given_back(repository, monkeypatch):
    repository.write("dvc.yaml", independent("a", "b"))
    repository.write("stage.py", STAGE.replace("for file", "if name == 'a': time.sleep(1)\nfor file"))
    repository.commit("one")
    shutil.copytree(repository.root, repository.root.with_name("plain"))
    Project(repository.root.with_name("plain")).run("dvc", "repro")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # a run that ends before it can put in order what it has written
        patched.setattr(dag.PlanOrder, "order_lock", killed)
        with pytest.raises(KeyboardInterrupt):
            dovetail.open(repository.root).repro("b", workers=1)
    lock = repository.root / "dvc.lock"
    assert "b:" in lock.read_text()
    lock.write_text(lock.read_text()[:-30])
    repository.write(".dvc/tmp/rwlock", "")
    dovetail.open(repository.root).repro(workers=2)
    assert made(repository.root) == made(repository.root.with_name("plain"))
    assert started(repository, "b") == 2  # here and under dvc repro
    assert not (repository.root / ".dvc/tmp/repro.unfinished").exists()


def test_a_run_killed_after_its_first_line_in_gitignore_leaves_word_of_what_stood_there(repository, monkeypatch):
    repository.write("dvc.yaml", independent("a", "b").replace("stage.py a", "stage.py a go"))
    repository.commit("one")
    restore = dag.Dag.restore

    def killed(*arguments, **how):
        restore(*arguments, **how)
        (repository.runs / "go").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(dag.Dag, "restore", killed)
        patched.setattr(dag.Dag, "finish", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            dovetail.open(repository.root).repro(workers=2)
    assert (repository.root / ".gitignore").read_text() == "/b.out\n"
    dovetail.open(repository.root).repro(workers=2)
    assert (repository.root / ".gitignore").read_text() == "/a.out\n/b.out\n"


def test_of_two_at_once_the_second_waits_and_finds_everything_done(repository):
    repository.write("dvc.yaml", independent("a", "b").replace("stage.py a", "stage.py a go"))
    command = ["dovetail", "repro", "--workers", "2"]
    first = subprocess.Popen(command, cwd=repository.root)
    wait_for(lambda: started(repository) == 2)
    second = subprocess.Popen(command, cwd=repository.root, stdout=subprocess.PIPE, text=True)
    assert second.stdout.readline().startswith("waiting for the dovetail repro of process ")
    (repository.runs / "go").touch()
    assert "2 unchanged" in second.communicate(timeout=120)[0]
    assert [first.wait(120), second.returncode] == [0, 0]
    assert (started(repository, "a"), started(repository, "b")) == (1, 1)


def test_a_stage_gets_what_it_asks_for_or_is_refused(repository):
    cores = os.cpu_count()
    greedy = independent("a", "b").replace("out]}", f"out], meta: {{resources: {{cpu: {cores}}}}}}}")
    repository.write("stage.py", STAGE.replace("for file", "assert not list(log.glob('busy')); (log / 'busy').touch(); "
                     "time.sleep(0.3); (log / 'busy').unlink()\nfor file"))  # fmt: skip
    repository.write("dvc.yaml", greedy)
    dovetail.open(repository.root).repro(workers=2)
    repository.write("dvc.yaml", greedy.replace(f"cpu: {cores}", "memory: 1000 TB"))
    repository.write("stage.py", STAGE)
    with pytest.raises(UserError, match="a asks for memory: 1e\\+15; no worker has more than") as told:
        dovetail.open(repository.root).repro(workers=2)
    assert "meta.resources.memory" in told.value.next_command
    repository.replace("dvc.yaml", "1000 TB", "much")
    with pytest.raises(UserError, match=r"a: meta\.resources\.memory: 'much' is not an amount"):
        dovetail.open(repository.root).repro(workers=2)
    repository.replace("dvc.yaml", "{memory: much}", "4")
    with pytest.raises(UserError, match=r"a: meta\.resources: 4 does not say of what"):
        dovetail.open(repository.root).repro(workers=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cluster", "tcp://127.0.0.1:1"], "no worker of tcp://127.0.0.1:1 answers"),
        (["--cluster", "nowhere"], "no worker of nowhere answers"),
        (["--cluster", "slurm:colour=red"], "slurm:colour=red: "),
        (["--cluster", "slurm:jobs=four"], "slurm:jobs=four: jobs = 'four' is not a whole number from 1 on"),
        (["--cluster", "slurm:memory=lots"], "slurm:memory=lots: memory = 'lots' is not an amount such as 8GB"),
        (["nosuch"], "nosuch"),
    ],
)
def test_what_cannot_be_reached_is_one_line(repository, options, said):
    repository.write("dvc.yaml", independent("a"))
    done = repository.run("dovetail", "repro", *options, code=None)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert "; next: " in done.stderr
    assert not started(repository)


def child_of(repository, name):
    """The process id of a stage that waits."""
    wait_for(lambda: started(repository, name) == 1)
    return int(next(repository.runs.glob(f"{name}-*")).name.rpartition("-")[2])


def above(process):
    """The processes from this one up to the first."""
    found = [process]
    while found[-1] > 1:
        found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(") ")[2].split()[1]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP])
def test_on_a_cluster_another_worker_takes_what_a_lost_one_had(signal_number, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "20s")  # by default five minutes
    repository.write("dvc.yaml", independent("a", "b").replace("stage.py a", "stage.py a go"))
    with cluster(tmp_path, "{}", "{}") as (address, workers):
        running = subprocess.Popen(["dovetail", "repro", "--cluster", address, "--json"], cwd=repository.root,
                                   stdout=subprocess.PIPE, text=True)  # fmt: skip
        child = child_of(repository, "a")
        its = above(child)
        victim = next(worker for worker in workers if worker.pid in its)
        lost = its[: its.index(victim.pid) + 1] if signal_number == signal.SIGSTOP else [victim.pid]
        for process in lost:
            os.kill(process, signal_number)
        wait_for(lambda: started(repository, "a") >= 2)
        (repository.runs / "go").touch()
        answer = json.loads(running.communicate(timeout=300)[0])
        for process in lost if signal_number == signal.SIGSTOP else ():
            os.kill(process, signal.SIGCONT)  # it comes back when nobody waits for it any more
        wait_for(lambda: not Path(f"/proc/{child}").exists())
        wait_for(lambda: not [path for path in (repository.root / ".dvc/tmp/repro").iterdir() if path.is_dir()])
    assert running.returncode == 0
    assert {stage["how"] for stage in answer["stages"]} == {"ran"}
    assert all(stage["worker"].startswith("tcp://") for stage in answer["stages"])
    assert started(repository, "b") == 1
    assert (repository.root / "a.out").read_text() == "a"


@pytest.mark.slow
def test_a_cluster_of_which_no_worker_is_left_is_named(repository, tmp_path, monkeypatch):
    """Dask waits for ever; a job queue's workers all end at their time limit."""
    monkeypatch.setattr(pool, "ALONE_SECONDS", 3)
    monkeypatch.setattr(workers_module, "LOOK_SECONDS", 0.2)
    repository.write("dvc.yaml", independent("a", "b").replace("stage.py b", "stage.py b go"))
    with cluster(tmp_path, "{}") as (address, (worker,)):

        def end_it():
            wait_for(lambda: started(repository, "b") == 1 and (repository.root / "a.out").exists())
            os.killpg(worker.pid, signal.SIGKILL)

        threading.Thread(target=end_it).start()
        with pytest.raises(OutsideError, match=f"no worker of {address} is left") as told:
            dovetail.open(repository.root).repro(cluster=address)
    assert told.value.next_command.startswith(f"dask worker {address}, then")
    recorded = (repository.root / "dvc.lock").read_text()
    assert ("path: a.out" in recorded, "path: b.out" in recorded) == (True, False)  # what was done is kept


@pytest.mark.slow
def test_where_the_scheduler_is_killed_the_rest_is_made_here(repository, tmp_path):
    repository.write(
        "dvc.yaml",
        independent("a").replace("stage.py a", "stage.py a go")
        + "  b: {cmd: python stage.py b, deps: [stage.py, a.out], outs: [b.out]}\n",
    )
    with cluster(tmp_path, "{}") as (address, _):
        port = address.rpartition(":")[2]
        running = subprocess.Popen(["dovetail", "repro", "--cluster", address, "--json"], cwd=repository.root,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        child_of(repository, "a")
        for process in psutil.process_iter(["cmdline"]):
            if "scheduler" in (words := process.info["cmdline"] or []) and port in words:
                process.kill()
        (repository.runs / "go").touch()
        out, err = running.communicate(timeout=300)
    assert (running.returncode, "Traceback" in err) == (0, False), err
    assert [stage["how"] for stage in json.loads(out)["stages"]] == ["ran", "ran"]
    assert (repository.root / "b.out").read_text() == "b"


RELEASED = threading.Event()


def wait_for_release(*_arguments):
    RELEASED.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "besides"), [({}, {"tcp://full"}), ({"gpu": 1}, set())])
def test_what_waits_for_workers_that_are_gone_goes_to_those_that_came(monkeypatch, asked, besides):
    """Of a stage that one worker could not run, Dask would wait for the others that were there then."""
    from distributed import Client, LocalCluster

    ended = SimpleQueue()
    RELEASED.clear()
    monkeypatch.setattr(pool, "_run", wait_for_release)
    settings = {"dashboard_address": "127.0.0.1:0", "processes": False, "threads_per_worker": 1, "n_workers": 0}
    with LocalCluster(**settings) as place, Client(place) as client:
        under_test = pool.Pool(client, "tcp://cluster")
        under_test.submit(SimpleNamespace(address="early"), {"fpga": 1}, frozenset(), 0, print, ended.put)
        plain = place.new_spec
        place.new_spec = {**plain, "options": {**plain["options"], "resources": asked}}
        place.scale(1)
        client.wait_for_workers(1)
        under_test.submit(SimpleNamespace(address="a"), asked, frozenset(besides), 0, print, ended.put)
        under_test.look()
        assert ended.empty()
        place.scale(0)
        wait_for(lambda: not client.scheduler_info(n_workers=-1)["workers"])
        place.new_spec = plain
        place.scale(1)
        client.wait_for_workers(1)
        under_test.look()
        assert ended.get(timeout=10).unusable == pool.ORPHANED
        RELEASED.set()


@pytest.mark.slow
def test_a_stage_whose_coordinator_is_killed_while_its_files_are_checked_out_is_not_begun(repository, tmp_path):
    repository.write("dvc.yaml", independent("a"))
    slow = tmp_path / "slow"
    slow.mkdir()
    wait = f'case "$*" in *checkout*) touch {tmp_path}/begun; sleep 10; touch {tmp_path}/ended;; esac'
    (slow / "git").write_text(f'#!/bin/sh\n{wait}\nexec {shutil.which("git")} "$@"\n')
    (slow / "git").chmod(0o755)
    with cluster(tmp_path, f"PATH={slow}:$PATH; {{}}") as (address, _):
        running = subprocess.Popen(["dovetail", "repro", "--cluster", address], cwd=repository.root)
        wait_for((tmp_path / "begun").exists)
        running.kill()
        running.wait()
        wait_for((tmp_path / "ended").exists)
        wait_for(lambda: not [*repository.root.glob(".dvc/tmp/repro/*/tree")])
    assert started(repository) == 0


@pytest.mark.slow
def test_a_killed_coordinator_leaves_no_stage_behind_on_a_cluster(repository, tmp_path):
    repository.write("dvc.yaml", independent("a").replace("stage.py a", "stage.py a go"))
    with cluster(tmp_path, "{}") as (address, _):
        running = subprocess.Popen(["dovetail", "repro", "--cluster", address], cwd=repository.root)
        child = child_of(repository, "a")
        running.kill()
        running.wait()
        wait_for(lambda: not Path(f"/proc/{child}").exists())
        (repository.runs / "go").touch()
        answer = repository.json("repro", "--cluster", address)
    assert [stage["how"] for stage in answer["stages"]] == ["ran"]
    assert answer["stages"][0]["worker"].startswith("tcp://")


@pytest.mark.slow
def test_a_stage_on_a_cluster_has_the_threads_of_its_machine_or_those_that_its_user_set(
    repository, tmp_path, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    printed = "printenv OMP_NUM_THREADS MKL_NUM_THREADS > a.out; true"
    repository.write("dvc.yaml", f"stages:\n  a: {{cmd: '{printed}', deps: [stage.py], outs: [a.out]}}\n")
    with cluster(tmp_path, "{}", nanny="--nanny") as (address, _):
        answer = repository.json("repro", "--cluster", address)
    assert answer["stages"][0]["worker"].startswith("tcp://")
    assert (repository.root / "a.out").read_text() == "1\n"


def test_a_stage_that_this_machine_cannot_run_is_not_sent_to_it_again(repository):
    repository.write(
        "dvc.yaml", independent("a").replace("stage.py a,", "stage.py a && echo No space left on device && false,")
    )
    assert repository.json("repro", "--workers", "2", code=2)["stages"][0]["how"] == "failed"
    assert started(repository) == 2  # by a worker, and in the workspace


def test_a_process_that_nobody_asks_for_a_while_ends_and_the_next_stage_gets_another():
    first = worker_task.process_of_thread()
    first.rest(3600)
    assert worker_task.process_of_thread() is first
    first.rest(0)
    wait_for(lambda: not first.is_alive)
    second = worker_task.process_of_thread()
    assert second is not first
    worker_task.end_processes()
    assert not second.is_alive


@pytest.mark.slow
def test_what_a_full_disk_of_one_worker_does_not_take_another_one_makes(repository, tmp_path):
    apart = f"unshare -m sh -c 'mount -t tmpfs none {repository.root} && {{}}'"
    if subprocess.run(apart.format("true"), shell=True, check=False, capture_output=True).returncode:
        pytest.skip("no folder can be hidden from a process here")
    big = "  {0}: {{cmd: 'touch $RUNS/{0}-$$; head -c 9000000 /dev/zero > {0}', deps: [stage.py], outs: [{0}]}}\n"
    repository.write("dvc.yaml", "stages:\n" + big.format("a") + big.format("b"))
    repository.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    small = apart.format("mkdir -p disk && mount -t tmpfs -o size=4m none disk && cd disk && {}")
    with cluster(tmp_path, apart, small) as (address, _):
        answer = repository.json("repro", "--cluster", address)
    assert [stage["how"] for stage in answer["stages"]] == ["ran", "ran"]
    assert len({stage["worker"] for stage in answer["stages"]}) == 1
    assert started(repository) == 3
    assert {(repository.root / name).stat().st_size for name in "ab"} == {9000000}


@pytest.mark.slow
def test_a_worker_with_another_version_of_a_package_that_bytes_go_by_runs_nothing(repository, tmp_path):
    (tmp_path / "other" / "polars-0.0.1.dist-info").mkdir(parents=True)
    (tmp_path / "other" / "polars-0.0.1.dist-info" / "METADATA").write_text("Name: polars\nVersion: 0.0.1\n")
    other = f"PYTHONPATH={tmp_path / 'other'}; export PYTHONPATH; {{}}"
    repository.write("dvc.yaml", independent("a"))
    with cluster(tmp_path, other, other, other, "{}") as (address, workers):
        (shared,) = repository.json("repro", "--cluster", address)["stages"]
        workers[-1].kill()
        workers[-1].wait()
        (alone,) = repository.json("repro", "--cluster", address, "--force")["stages"]
    assert shared["worker"].startswith("tcp://")
    why = f"it has polars 0.0.1, not {version('polars')}: install the same there"
    assert (alone["worker"], alone["why"]) == ("here", why)


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["uncached metrics", "folders as outs", "dvc add"])
def test_a_worker_that_does_not_see_the_repository_works_by_way_of_the_remote(shape, tmp_path):
    root = tmp_path / "side"
    apart = f"unshare -m sh -c 'mount -t tmpfs none {root} && {{}}'"
    root.mkdir()
    if subprocess.run(apart.format("true"), shell=True, check=False, capture_output=True).returncode:
        pytest.skip("no folder can be hidden from a process here")
    files, commands = SHAPES[shape]
    plain, side = Project(tmp_path / "plain"), Project(root)
    plain.root.mkdir()
    for project in (plain, side):
        project.run("git", "init", "-q")
        project.run("dvc", "init", "-q")
        project.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
        for path, text in files.items():
            project.write(path, text)
        for command in commands:
            project.run(*command)
    with cluster(tmp_path, apart) as (address, _):
        answer = side.json("repro", "--cluster", address)
    plain.run("dvc", "repro")
    assert made(side.root) == made(plain.root)
    assert run_cache(side.root) == run_cache(plain.root)
    ran = [stage["worker"] for stage in answer["stages"] if stage["how"] == "ran"]
    assert ran
    assert all(worker.startswith("tcp://") for worker in ran)


def test_an_order_names_each_once_after_what_it_waits_for_and_first_what_the_plan_names_first():
    order = Order({"a": [], "b": ["a", "elsewhere"], "c": ["a"], "d": ["b", "c"], "e": []})
    assert [order.next(), order.next(), order.next()] == ["a", "e", None]
    order.done("a")
    assert [order.next(), order.next(), order.next()] == ["b", "c", None]
    assert order.failed("b") == ["d"]
    order.done("c")
    order.done("e")
    assert order.next() is None
    assert not order.left


def queue(project, *settings):
    for number, setting in enumerate(settings):
        project.run("dvc", "exp", "run", "--queue", "-n", f"exp-{number}", "-S", setting)


def shown(project):
    """What `dvc exp show` says of each experiment, its commit and when it was made aside."""
    rows = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    found = {}
    for experiment in (one for row in rows for one in row["experiments"] or ()):
        for rev in experiment["revs"]:
            data = {key: value for key, value in (rev["data"] or {}).items() if key not in {"rev", "timestamp"}}
            executor = experiment["executor"] or {}
            found[experiment["name"]] = (executor.get("state"), executor.get("name"), rev["error"], data)
    return found


@pytest.mark.slow
def test_an_experiment_that_no_worker_can_run_is_queued_again_and_the_run_ends(repository):
    repository.write("params.yaml", "n: 0\n")
    failing = "python stage.py a ${n} && (test ${n} = 0 || (echo No space left on device && false))"
    repository.write(
        "dvc.yaml",
        f"stages:\n  a:\n    cmd: {failing}\n    deps: [stage.py]\n    params: [n]\n    outs: [a.out]\n",
    )
    for number in range(2):
        (repository.runs / str(number)).touch()
    repository.run("dvc", "repro")
    repository.commit("one")
    queue(repository, "n=1")
    (answer,) = repository.json("repro", "--experiments", "--workers", "1", code=2)["stages"]
    assert (answer["stage"], answer["how"]) == ("exp-0", "failed")
    assert answer["why"].startswith("no worker could run it, it is queued again: its disk is full")
    assert started(repository) == 2
    assert "Queued" in repository.run("dvc", "queue", "status").stdout


def states(project):
    """How far DVC's queue is with each experiment."""
    lines = project.run("dvc", "queue", "status").stdout.splitlines()
    return sorted(line.split()[-1] for line in lines if "exp-" in line)


@pytest.mark.slow
def test_queued_experiments_end_as_under_dvc_and_a_kill_loses_none(repository):
    repository.write("params.yaml", "n: 0\n")
    repository.write(
        "dvc.yaml",
        """
stages:
  a:
    cmd: python stage.py a ${n} && test ${n} != 3 && echo "m = ${n}" > m.toml
    deps: [stage.py]
    params: [n]
    outs: [a.out]
    metrics: [{m.toml: {cache: false}}]
""",
    )
    for number in range(4):
        (repository.runs / str(number)).touch()
    repository.run("dvc", "repro")
    repository.commit("one")
    plain = Project(repository.root.with_name("plain"))
    shutil.copytree(repository.root, plain.root)
    settings = ["n=1", "n=2", "n=3"]
    queue(plain, *settings)
    plain.run("dvc", "queue", "start")
    queue(repository, *settings)
    assert repository.json("repro", "--experiments", "--dry")["stages"][0]["stage"] == "exp-0"
    (repository.runs / "2").unlink()  # the second one waits, and is killed in the middle
    before = started(repository)
    running = subprocess.Popen(["dovetail", "repro", "--experiments", "--workers", "2"], cwd=repository.root)
    wait_for(
        lambda: (
            "exp-0" in repository.run("dvc", "exp", "list", "--name-only").stdout and started(repository) >= before + 2
        )
    )
    running.kill()
    running.wait()
    (repository.runs / "2").touch()
    answer = repository.json("repro", "--experiments", "--workers", "2", code=2)
    hows = {stage["stage"]: stage["how"] for stage in answer["stages"]}
    assert hows["exp-1"] == "ran"
    assert hows.get("exp-2", "failed") == "failed"
    wait_for(lambda: states(plain) == ["Failed", "Success", "Success"], 180)
    assert shown(repository) == shown(plain)
    assert states(repository) == ["Failed", "Success", "Success"]
    assert repository.json("repro", "--experiments", "--workers", "2")["stages"] == []
    assert [path for path in (repository.root / ".dvc/tmp/repro").iterdir() if path.is_dir()] == []
    assert repository.run("git", "status", "--porcelain").stdout == plain.run("git", "status", "--porcelain").stdout
