"""Clones and servers whose clocks are hours apart: what is first, newest and kept does not depend on them."""

import time
from datetime import UTC, datetime, timedelta

import pytest
import templates
from project import copy_of

from dovetail.promotion.promote import PromoteRequest, promote
from dovetail.repo import ledger_write
from dovetail.repo.workspace import open_workspace
from dovetail.serving.log import delta_compaction, served_rows
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.tracking.connection import Tracking

HOURS = 3 * 3600


def commit_at(project, message, seconds):
    at = f"{int(time.time()) + seconds} +0000"
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", message, GIT_AUTHOR_DATE=at, GIT_COMMITTER_DATE=at)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [-HOURS, HOURS])
def test_what_was_committed_after_the_staged_version_is_newer_whatever_the_clock_of_its_clone_says(small, seconds):
    small.run("dvc", "repro", "-q")
    commit_at(small, "one", -seconds)
    small.run("dovetail", "sync")
    small.replace("params.yaml", "w: 7", "w: 9")
    small.run("dvc", "repro", "-q", "train")
    commit_at(small, "two", seconds)
    small.run("git", "switch", "-q", "-c", "elsewhere", "HEAD~")  # `sync` finds it as a commit, not in the working tree
    small.run("dovetail", "sync", "--all")
    assert small.store().aliases() == {"m": {"staging": 2}}


@pytest.mark.slow
def test_promotions_are_in_the_order_in_which_they_were_made(tmp_path_factory, tmp_path, monkeypatch):
    """The first clone's clock is three hours ahead, that of the second, which fetched its tag, three hours behind."""
    real = time.time
    versions = copy_of(templates.versions(tmp_path_factory), tmp_path / "small")
    for version, seconds in ((1, HOURS), (2, -HOURS)):
        monkeypatch.setattr(ledger_write, "now", lambda seconds=seconds: real() + seconds)
        with open_workspace(versions.root) as workspace:
            request = PromoteRequest("m", version, force=True, reason="the clock")
            promote(workspace, Tracking(workspace.store_root), request)
    events = versions.json("history", "m")["events"]
    assert [event["version"] for event in events] == [2, 1]
    assert versions.store().aliases()["m"]["production"] == 2


def test_rows_and_labels_of_servers_ahead_and_behind_are_looked_at(tmp_path):
    now = datetime.now(UTC)
    for name, hours in (("ahead", 3), ("behind", -3)):
        log = PredictionLog(tmp_path / "m", flush_seconds=600)
        at = (now + timedelta(hours=hours)).timestamp()
        log.served(Served(name, at, 1, "predict", {"x": [1]}, b"[1]"))
        log.labelled("ahead" if name == "behind" else "behind", [1], at)
        log.close()
    window = served_rows.Window(now - timedelta(hours=4), version=1)
    assert served_rows.count(tmp_path / "m", window) == 2
    assert len(served_rows.labelled(tmp_path / "m", window, ["prediction"])) == 2
    window = served_rows.Window(now - timedelta(hours=1), version=1)
    assert len(served_rows.labelled(tmp_path / "m", window, ["prediction"])) == 1  # its label came from one behind


def test_a_server_whose_clock_is_years_ahead_forgets_nothing_that_is_kept(tmp_path, monkeypatch):
    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=1000)

    monkeypatch.setattr(delta_compaction, "datetime", Later)
    log = PredictionLog(tmp_path / "m", flush_seconds=600, keep=timedelta(days=90), as_delta=True)
    log.served(Served("r", time.time(), 1, "predict", {"x": [1]}, b"[1]"))
    log.close()
    assert len(served_rows.read(tmp_path / "m")) == 1
