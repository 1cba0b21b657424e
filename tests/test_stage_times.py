"""A run in MLflow lasts as long as the stage that made its model, where that was seen; elsewhere it says nothing."""

import shutil
import sys
import time

import pytest

from dovetail.registration import stage_times
from dovetail.repo.workspace import open_workspace
from dovetail.values.span import Span

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value")  # pygtrie, of DVC's use of it
WEEK = 7 * 24 * 3_600_000  # milliseconds: what is copied was made at any time before


def forget(project):
    (project.root / "mlflow.db").unlink()
    shutil.rmtree(project.root / "mlruns")


def times(project):
    (run,) = (run for run in project.store().runs() if run.data.params["train.w"] == "8")
    assert run.info.status == "FINISHED"
    return run.info.start_time, run.info.end_time


@pytest.mark.slow
def test_a_run_lasts_as_long_as_its_stage_also_when_it_is_made_anew_and_elsewhere_nobody_says(small):
    small.replace("train.py", "import json, pathlib", "import time; time.sleep(1.5)\nimport json, pathlib")
    small.write("params.yaml", "train: {w: 8}\n")  # other bytes: of the same DVC keeps those that it had
    before = time.time()
    small.run("dvc", "repro", plain=True)
    began, ended = times(small)
    assert before * 1000 - 50 <= began < began + 1500 <= ended
    written = (small.root / "out/m.joblib").stat().st_mtime
    assert ended <= written * 1000 + 50  # not when it was registered
    commit = small.commit("slow")
    small.run("dvc", "repro", "--force", "--single-item", "register", plain=True)
    small.run("dovetail", "sync")
    assert times(small) == (began, ended)
    forget(small)
    small.run("dovetail", "sync")
    assert times(small) == (began, ended)

    forget(small)
    shutil.rmtree(small.root / ".dvc/tmp")  # what no clone has
    small.run("dovetail", "sync")
    committed = int(small.run("git", "show", "-s", "--format=%ct", commit).stdout) * 1000
    assert times(small) == (committed, None)


@pytest.mark.slow
def test_dovetail_repro_says_how_long_each_stage_took(small):
    small.replace("train.py", "import json, pathlib", "import time; time.sleep(0.5)\nimport json, pathlib")
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dovetail", "repro", "--workers", "2")
    began, ended = times(small)
    assert 500 <= ended - began < 30_000


@pytest.mark.parametrize(
    "python",
    [[], [sys.executable, "-m"], [sys.executable, "-P", "-m"], [sys.executable, "-W", "ignore", "-X", "utf8", "-m"]],
)
def test_a_stage_sees_when_dvc_began_however_it_was_started(small, python):
    """With `-P`, as `dovetail repro --experiments` and `retrain` start it."""
    told = "from dovetail.repo.running_stage import dvc_began; open('told.txt', 'w').write(str(dvc_began()))"
    small.write("told.py", told)
    small.write("dvc.yaml", "stages: {told: {cmd: python told.py, outs: [told.txt]}}\n")
    before = time.time()
    small.run(*python, "dvc", "repro", "-q", "told", plain=True)
    assert before - 0.05 <= float((small.root / "told.txt").read_text()) <= time.time()


def test_a_stage_that_the_run_cache_brought_back_was_not_seen(small):
    with open_workspace(small.root) as workspace:
        lineage = workspace.tree.lineage(workspace.tree.model("m"))
        outs, now = lineage.maker.outs, round(time.time() * 1000)
        assert stage_times.of_outs(workspace, outs, now) is None
        seen = stage_times.of_outs(workspace, outs, now - WEEK)
        assert now - WEEK <= seen.began <= seen.ended <= now
        later = stage_times.of_outs(workspace, outs, now - WEEK, [lineage.maker])  # as if another one ended then
        assert later.began == pytest.approx(seen.ended, abs=2000)
        assert later.ended == seen.ended


def test_what_was_kept_is_the_stages_with_these_inputs_and_outputs_alone(small):
    with open_workspace(small.root) as workspace:
        lineage = workspace.tree.lineage(workspace.tree.model("m"))
        assert stage_times.known(small.root, lineage) is None
        stage_times.keep(small.root, lineage.maker, Span(5, 9))
        assert stage_times.known(small.root, lineage) == Span(5, 9)
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "train")
    with open_workspace(small.root) as workspace:
        assert stage_times.known(small.root, workspace.tree.lineage(workspace.tree.model("m"))) is None


@pytest.mark.parametrize("kept", [None, [], [1], [9, 5], ["1", "2"], [0, 4], {"began": 1}, [1, 2, 3]])
def test_what_is_no_span_is_none(kept):
    assert Span.from_json(kept) is None


def test_what_a_span_keeps_comes_back():
    assert Span.from_json(Span(5, 9).as_json()) == Span(5, 9)
