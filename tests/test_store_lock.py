"""The turn to write of a model in a store that clones share."""

import threading
import time
from contextlib import ExitStack

import mlflow
import pytest
from clusters import wait_for
from mlflow import MlflowClient
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from dovetail.errors import Busy, TurnLost
from dovetail.registration.projection import project
from dovetail.registration.register import record
from dovetail.repo.workspace import open_workspace
from dovetail.tracking import store_lock
from dovetail.tracking.store import Run, Store
from dovetail.values.tag_keys import TURN_BEAT


@pytest.fixture
def client(tmp_path):
    return MlflowClient(f"sqlite:///{tmp_path}/shared.db", f"sqlite:///{tmp_path}/shared.db")


def names(client):
    return [model.name for model in client.search_registered_models()]


def test_one_has_it_at_a_time_and_nothing_of_it_stays(client, monkeypatch):
    monkeypatch.setattr(store_lock, "_PAUSE", 0.01)
    inside, most, all_ask = [], [], threading.Barrier(4)

    def work(owner):
        all_ask.wait(60)
        with store_lock.held(client, "m", owner):
            inside.append(owner)
            time.sleep(0.1)  # the others ask ten times
            most.append(len(inside))
            inside.remove(owner)

    threads = [threading.Thread(target=work, args=(f"clone{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert names(client) == []


class Beats:
    """A clock that goes on by a tenth of a second each time that the holder has said that it lives."""

    def __init__(self, client, name):
        self._beat = lambda: client.get_registered_model(name).tags[TURN_BEAT]
        self._now = 0

    def monotonic(self):
        return self._now

    def sleep(self, _):
        before = self._beat()
        wait_for(lambda: self._beat() != before)
        self._now += 0.1


def test_what_a_killed_process_left_behind_is_taken_over_and_a_living_ones_is_not(client, monkeypatch):
    monkeypatch.setattr(store_lock, "_PAUSE", 0.01)
    monkeypatch.setattr(store_lock, "_BEATS_EVERY", 0.05)
    monkeypatch.setattr(store_lock, "_LEFT_BEHIND", 0.5)
    client.create_registered_model("dovetail.turn.m", {"dovetail.turn.owner": "killed"})
    with store_lock.held(client, "m", "mine"):
        with store_lock.held(client, "other", "mine"):
            assert names(client) == ["dovetail.turn.m", "dovetail.turn.other"]
        monkeypatch.setattr(store_lock, "_MOST", 1.5)
        monkeypatch.setattr(store_lock, "time", Beats(client, "dovetail.turn.m"))
        with (
            pytest.raises(Busy, match="another clone has been writing model m"),
            store_lock.held(client, "m", "another"),
        ):
            pass
    assert names(client) == []


def test_one_that_is_given_back_while_mlflow_looks_who_has_it_is_asked_for_again(client, monkeypatch):
    """MLflow's own race: the name is taken, and gone when it asks what has it."""
    found = SqlAlchemyStore.get_registered_model

    def given_back(store, name):
        monkeypatch.setattr(SqlAlchemyStore, "get_registered_model", found)
        store.delete_registered_model(name)
        return found(store, name)

    client.create_registered_model("dovetail.turn.m", {"dovetail.turn.owner": "another"})
    monkeypatch.setattr(SqlAlchemyStore, "get_registered_model", given_back)
    with store_lock.held(client, "m", "mine"):
        assert names(client) == ["dovetail.turn.m"]
    assert names(client) == []


class Far(MlflowClient):
    """It deletes after a while, as through a slow net: what it looked at before may be another's by then."""

    def delete_registered_model(self, name):
        time.sleep(0.3)
        super().delete_registered_model(name)


@pytest.mark.slow
def test_all_that_wait_for_what_was_left_behind_take_it_over_one_at_a_time(client, tmp_path, monkeypatch):
    monkeypatch.setattr(store_lock, "_BEATS_EVERY", 0.1)
    monkeypatch.setattr(store_lock, "_LEFT_BEHIND", 15)
    client.create_registered_model("dovetail.turn.m", {"dovetail.turn.owner": "killed"})
    inside, most, lost = [], [], []

    def work(number):
        far = Far(*[f"sqlite:///{tmp_path}/shared.db"] * 2)
        with store_lock.held(far, "m", f"clone{number}") as mine:
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.5)  # long enough for those who wait to delete it
            lost.append(not mine.is_mine())
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, lost) == ([1] * 5, [False] * 5)
    assert names(client) == []


@pytest.mark.slow
def test_who_slept_leaves_the_turn_to_who_took_it_over(client, monkeypatch):
    monkeypatch.setattr(store_lock, "_PAUSE", 0.01)
    monkeypatch.setattr(store_lock, "_LEFT_BEHIND", 0.3)
    monkeypatch.setattr(store_lock, "_BEATS_EVERY", 2)  # it sleeps until then
    asleep, awake = ExitStack(), ExitStack()
    first = asleep.enter_context(store_lock.held(client, "m", "asleep"))
    monkeypatch.setattr(store_lock, "_BEATS_EVERY", 3600)
    second = awake.enter_context(store_lock.held(client, "m", "awake"))
    with pytest.raises(TurnLost, match="another clone writes model m"):
        first.check()
    before = client.get_registered_model("dovetail.turn.m").tags
    time.sleep(2.5)
    assert client.get_registered_model("dovetail.turn.m").tags == before  # it keeps alive its own alone
    asleep.close()
    assert second.is_mine()
    awake.close()
    assert names(client) == []


def test_who_slept_makes_no_version(client, tmp_path, monkeypatch):
    monkeypatch.setattr(store_lock, "_LEFT_BEHIND", 0.3)
    monkeypatch.setattr(store_lock, "_BEATS_EVERY", 3600)
    store = Store(client, tmp_path / "repository", f"sqlite:///{tmp_path}/shared.db")
    logged = client.create_logged_model("0").model_id
    with store.locked("m"), store_lock.held(client, "m", "another"), pytest.raises(TurnLost):
        store.create_version("m", logged, Run("r", complete=True, experiment="0"), {}, None)
    assert names(client) == []


def test_what_was_left_behind_in_taking_over_is_taken_over_as_well(client, monkeypatch):
    """Somebody was killed between saying that it would delete it, and doing so."""
    monkeypatch.setattr(store_lock, "_PAUSE", 0.01)
    monkeypatch.setattr(store_lock, "_LEFT_BEHIND", 0.3)
    client.create_registered_model("dovetail.turn.m", {"dovetail.turn.owner": "killed"})

    class Killed(MlflowClient):
        def delete_registered_model(self, _):
            raise KeyboardInterrupt

    killed = Killed(client.tracking_uri, client.tracking_uri)
    with pytest.raises(KeyboardInterrupt), store_lock.held(killed, "m", "killed, too"):
        pass
    assert len(names(client)) == 2
    with store_lock.held(client, "m", "mine"):
        assert names(client) == ["dovetail.turn.m"]
    assert names(client) == []


class Slept(Store):
    """It sleeps once, before the version is made: another clone takes over, and is gone again."""

    slept = False

    def link_model(self, run, model_id):
        super().link_model(run, model_id)
        if not self.slept:
            self.slept = True
            self.client.delete_registered_model("dovetail.turn.m")
            with store_lock.held(self.client, "m", "another"):
                pass


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # of an import of MLflow's
def test_who_slept_takes_the_turn_anew_and_completes_what_was_begun(small, client, tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path}/shared.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)  # MLflow asks it itself, of a logged model
    store = Slept(client, small.root, uri)
    with open_workspace(small.root) as workspace:
        projection = project(workspace.tree, workspace.tree.model("m"), workspace.root)
        done = record(store, projection).done
        assert (done.version, done.version_created, store.slept) == (1, True, True)
        assert record(store, projection).done.version_created is False
    small.env["MLFLOW_TRACKING_URI"] = uri
    assert small.store().counts() == (1, 1)
    assert names(client) == ["m"]
