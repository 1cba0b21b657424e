"""The turn to write of a model in a store that clones share."""

import threading

import pytest
from mlflow import MlflowClient
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from dovetail.errors import Busy
from dovetail.tracking import turn


@pytest.fixture
def client(tmp_path):
    return MlflowClient(f"sqlite:///{tmp_path}/shared.db", f"sqlite:///{tmp_path}/shared.db")


def names(client):
    return [model.name for model in client.search_registered_models()]


def test_one_has_it_at_a_time_and_nothing_of_it_stays(client, monkeypatch):
    monkeypatch.setattr(turn, "_PAUSE", 0.01)
    inside, most = [], []

    def work(owner):
        with turn.held(client, "m", owner):
            inside.append(owner)
            most.append(len(inside))
            inside.remove(owner)

    threads = [threading.Thread(target=work, args=(f"clone{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
    assert names(client) == []


def test_what_a_killed_process_left_behind_is_taken_over_and_a_living_ones_is_not(client, monkeypatch):
    monkeypatch.setattr(turn, "_PAUSE", 0.01)
    monkeypatch.setattr(turn, "_BEATS_EVERY", 0.05)
    monkeypatch.setattr(turn, "_LEFT_BEHIND", 0.5)
    monkeypatch.setattr(turn, "_MOST", 1.5)
    client.create_registered_model("dovetail.turn.m", {"dovetail.turn.owner": "killed"})
    with turn.held(client, "m", "mine"):
        with turn.held(client, "other", "mine"):
            assert names(client) == ["dovetail.turn.m", "dovetail.turn.other"]
        with pytest.raises(Busy, match="another clone has been writing model m"), turn.held(client, "m", "another"):
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
    with turn.held(client, "m", "mine"):
        assert names(client) == ["dovetail.turn.m"]
    assert names(client) == []
