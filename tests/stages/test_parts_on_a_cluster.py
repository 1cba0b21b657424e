"""Ranges on a real Dask cluster of two workers on the loopback: the bytes of one process, whoever dies."""

import json
import os
import pickle
import signal
import time

import psutil
import pytest
import yaml
from clusters import cluster, wait_for
from datasets import AGE, config, left_behind, stage, started, tree
from test_parts import OPTIONS, contents, csv_of, folder_of
from test_search import to_search, trained

from stages import clean
from stages.common.errors import OutsideError
from stages.parts import cluster as on_cluster
from stages.parts import range_process
from stages.training import trials

pytestmark = pytest.mark.slow  # a scheduler and two workers start
ROWS = [(f"n{number % 7}", number % 140, number) for number in range(60)]
COLUMNS = {**AGE, "name": {"dtype": "str"}, "id": {"dtype": "int64", "unique": True}}


@pytest.fixture(scope="module")
def dask(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("dask"), "{}", "{}") as started:
        yield started


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder whose stages are a copy, with raw parts, and what one process makes of them."""
    folder = tree(tmp_path_factory.mktemp("project ü"), config(COLUMNS, raw="raw/", part_rows=10))
    content = yaml.safe_load((folder / "params.yaml").read_text())
    split = {"key": "id", "test_size": 0.3}
    content["models"]["m"] = {"data": "d", "target": "name", "split": split, "train": {"estimator": "a.b"}, "gates": {}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    files = {f"{part}.csv": csv_of(ROWS[part : part + 20], ("name", "age", "id")) for part in (0, 18, 40)}
    folder_of(folder / "raw", files)
    return folder


def scripted(folder, *lines):
    body = "\n    ".join(("import os, time", "from pathlib import Path", *lines, "return frame"))
    (folder / "src" / "stages" / "cleaning" / "d.py").write_text(f"def clean(frame):\n    {body}\n")


def made(folder, **env):
    done = stage(folder, "clean", "d", *OPTIONS, **env)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not left_behind(folder)
    assert not list(folder.rglob("*.tmp"))
    return [contents(folder / name) for name in ("c", "r")] + [(folder / "m.json").read_bytes()]


@pytest.fixture(scope="module")
def wanted(project):
    """What one process makes."""
    scripted(project)
    found = made(project, PARTS_WORKERS="1")
    assert len(found[0]) == 6
    assert set(json.loads(found[2])["reasons"]) == {"id: unique"}
    return found


def test_the_bytes_are_those_of_one_process_and_a_process_that_dies_is_replaced(project, wanted, dask):
    """A worker that had the script of before would not die."""
    assert made(project, PARTS_CLUSTER=dask[0]) == wanted
    once = "if not Path('died').exists() and not os.environ.get('PARTS_CLUSTER'):"  # on a worker, that is
    scripted(project, once, "    Path('died').touch()", "    os.kill(os.getpid(), 9)")
    assert made(project, PARTS_CLUSTER=dask[0]) == wanted
    assert (project / "died").exists()


def test_rows_are_split_on_it_likewise(project, wanted, dask):
    options = ("--clean", "c", "--train", "train", "--test", "test")
    found = []
    for env in ({"PARTS_WORKERS": "1"}, {"PARTS_CLUSTER": dask[0]}):
        assert stage(project, "split", "m", *options, **env).returncode == 0
        found.append([contents(project / name) for name in ("train", "test")])
    assert len(found[0][0]) == len(wanted[0])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("does", "code", "said"),
    [
        ("raise ValueError('no')", 2, "cleaning/d.py failed: ValueError: no; correct it"),
        ("os.kill(os.getpid(), 9)", 3, "died (-9), perhaps for want of memory; see to it, or unset PARTS_CLUSTER"),
    ],
)
def test_what_goes_wrong_on_a_worker_is_told_in_one_line(project, dask, does, code, said):
    scripted(project, "if not os.environ.get('PARTS_CLUSTER'):", f"    {does}")
    done = stage(project, "clean", "d", *OPTIONS, PARTS_CLUSTER=dask[0])
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)
    assert said in done.stderr
    assert not left_behind(project)


def test_after_the_one_who_asks_is_killed_midway_the_next_run_makes_the_same_bytes(project, wanted, dask):
    """Both its workers were at work then."""
    waits = "while not (os.environ.get('PARTS_CLUSTER') or Path('go on').exists()):"
    scripted(project, waits, "    Path(f'at work {os.getpid()}').touch()", "    time.sleep(0.05)")
    asking = started(project, "clean", "d", *OPTIONS, PARTS_CLUSTER=dask[0])
    wait_for(lambda: len(list(project.glob("at work *"))) == len(dask[1]))
    asking.kill()
    asking.wait()
    (project / "go on").touch()
    assert made(project, PARTS_CLUSTER=dask[0]) == wanted


def test_a_search_on_it_finds_the_model_that_one_process_finds(tmp_path, dask, monkeypatch):
    content = to_search(tmp_path)
    alone = trained(tmp_path, content, {}, monkeypatch)
    assert trained(tmp_path, content, {"PARTS_CLUSTER": dask[0]}, monkeypatch) == alone


def test_no_cluster_at_the_address_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(on_cluster, "_ANSWER_SECONDS", 0.5)
    with (
        pytest.raises(
            OutsideError, match=r"PARTS_CLUSTER = tcp://127\.0\.0\.1:9 does not answer .*dask scheduler"
        ) as refused,
        on_cluster.open_cluster("tcp://127.0.0.1:9", "stages.clean", tmp_path),
    ):
        pass
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("module", "package"), [(clean, "polars"), (trials, "polars"), (trials, "scikit-learn")])
def test_other_packages_on_a_worker_are_refused(module, package):
    here = range_process.packages(range_process.deciding(module.__name__))
    assert range_process.read(range_process.answer(pickle.dumps((len, "ab")), here)) == 2
    refused = range_process.answer(b"", here.replace(f"{package} ", f"{package} 0."))
    said = rf"has {package} .* instead of {package} 0\..*: install the same on all machines"
    with pytest.raises(OutsideError, match=said):
        range_process.read(refused)
    assert pickle.loads(refused)[0] is None


def test_a_worker_that_is_killed_midway_changes_no_byte(project, wanted, dask):
    """Last, for there is one worker fewer then. Its process goes on for a while, as that of a lost machine does."""
    begun = time.time()
    once = (
        "try:",
        "    if os.environ.get('PARTS_CLUSTER'):",
        "        raise FileExistsError",
        "    os.mkdir('killed')",
    )
    killed = ("except FileExistsError:", "    pass", "else:", "    os.kill(os.getppid(), 9)", "    time.sleep(2)")
    scripted(project, *once, *killed)
    assert made(project, PARTS_CLUSTER=dask[0]) == wanted
    assert sorted(worker.poll() is None for worker in dask[1]) == [False, True]
    (left,) = [psutil.Process(worker.pid) for worker in dask[1] if worker.poll() is None]
    wait_for(lambda: not [child for child in left.children(recursive=True) if child.create_time() > begun])


def test_a_cluster_whose_last_worker_is_gone_is_told_in_one_line(tmp_path, monkeypatch):
    """The scheduler lives, and Dask keeps what it was asked for until a worker comes."""
    for name, seconds in {"_LOOK_SECONDS": 0.1, "_ALONE_SECONDS": 0.5}.items():
        monkeypatch.setattr(on_cluster, name, seconds)
    with (
        cluster(tmp_path, "{}") as (address, (worker,)),
        on_cluster.open_cluster(address, "stages.clean", tmp_path) as opened,
    ):
        answers = opened.map(time.sleep, [0, 1000])
        assert next(answers) is None
        os.killpg(worker.pid, signal.SIGKILL)
        with pytest.raises(
            OutsideError, match=r"no worker is left; start one: dask worker tcp://.*, then run it"
        ) as told:
            next(answers)
    assert (told.value.exit_code, "\n" in str(told.value)) == (3, False)
