"""Long work on a store: others get their turn, and what is remembered to be absent is not what they made since."""

import threading
import time

import pytest

from dovetail.system import locks
from dovetail.system.locks import write_lock
from dovetail.tracking.connection import open_store
from dovetail.tracking.known_missing import KnownMissing

TAGS = {"dovetail.fingerprint": "mine", "dovetail.model.md5": "d" * 32}


def test_every_item_comes_once_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_TURN", 0)
    monkeypatch.setattr(locks, "_PAUSE", 0)
    portions = [list(turn) for turn in locks.take_turns(tmp_path, range(3))]
    assert portions == [[0], [1], [2]]
    assert list(locks.take_turns(tmp_path, [])) == []


def test_who_waits_for_the_lock_gets_it_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_TURN", 0.1)
    log = []

    def other():
        with write_lock(tmp_path):
            log.append("other")

    waiting = threading.Thread(target=other)
    for turn in locks.take_turns(tmp_path, range(8)):
        for item in turn:
            if item == 0:
                waiting.start()
            time.sleep(0.06)
            log.append(item)
    waiting.join()
    assert "other" in log[:-1]
    assert [item for item in log if item != "other"] == list(range(8))


def test_all_there_is_is_read_only_after_some_questions_were_answered_with_nothing():
    asked = []
    missing = KnownMissing(lambda: asked.append("all") or {"a"})
    for _ in range(7):
        missing.note_miss()
    assert not asked
    assert not missing.has("b")
    for _ in range(7):
        missing.note_miss()
    assert asked == ["all"]
    assert missing.has("b")
    assert not missing.has("a")
    missing.note_created("b")
    assert not missing.has("b")


def test_where_there_is_too_much_to_read_nothing_is_known_to_be_absent():
    missing = KnownMissing(lambda: None)
    for _ in range(20):
        missing.note_miss()
    missing.note_created("a")
    assert not missing.has("b")


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False], ids=["the repository's own store", "a store elsewhere"])
def test_what_another_made_is_found_as_soon_as_the_lock_was_given_away(tmp_path, monkeypatch, own):
    root = tmp_path / "project"
    root.mkdir()
    if not own:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    with open_store(root) as store, open_store(root) as other:
        place = store.experiment("m")
        with store.remembering_missing():
            assert not any(store.find_run(place, f"f{number}") for number in range(10))
            assert store.live_runs("mine") == []
            theirs = other.create_run(place, "theirs", TAGS, None)
            # The lock keeps this from happening in the store of one's own; elsewhere no lock does.
            assert (store.find_run(place, "mine") is None) is own
        with store.remembering_missing():
            assert store.find_run(place, "mine") == theirs
            assert not any(store.find_run(place, f"f{number}") for number in range(10))
            made = store.create_run(place, "late", {**TAGS, "dovetail.fingerprint": "late"}, None)
            assert store.find_run(place, "late") == made
            assert store.find_version("m", TAGS["dovetail.model.md5"]) is None
            model = store.find_model(made, "d")
            assert model is None
