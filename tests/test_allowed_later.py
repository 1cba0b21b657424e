"""Names that a later commit allows, for the same bytes."""

import mlflow
import pytest
from project import facts

import dovetail


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")
def test_a_version_whose_class_a_later_commit_allows_is_promoted_loaded_and_restored(small, monkeypatch):
    small.write("mine.py", "class Mine:\n    def predict(self, rows):\n        return [1] * len(rows)\n")
    small.replace("train.py", "joblib.dump(model", "from mine import Mine; joblib.dump(Mine()")
    monkeypatch.setenv("PYTHONPATH", str(small.root))
    monkeypatch.syspath_prepend(str(small.root))
    small.run("dvc", "repro", "-q")
    small.commit("a class of my own")
    repository = dovetail.open(small.root)
    assert not repository.promote("m").promoted
    small.replace("dvc.yaml", "accuracy: {min: 0.5}", "accuracy: {min: 0.5}, pickle: {allow: [mine.Mine]}")
    # Retrained, so that the newest commit with the bytes is not the one that allows.
    small.replace("train.py", "joblib.dump(Mine()", "one = Mine(); one.again = 1; joblib.dump(one")
    assert not repository.promote("m", version=1).promoted  # nobody committed it
    small.run("dvc", "repro", "-q")
    small.commit("allowed, and trained again")
    assert repository.promote("m", version=1, dry_run=True).passed
    assert repository.promote("m", version=1).promoted
    assert "Dovetail-Allow: mine.Mine" in small.run("git", "tag", "-l", "--format=%(contents)", "m#production#1").stdout
    mlflow.set_tracking_uri(f"sqlite:///{small.root}/mlflow.db")
    assert mlflow.pyfunc.load_model("models:/m@production").predict([[0], [0]]) == [1, 1]
    before = {int(v.version): facts(v)["dovetail.package"] for v in small.store().versions()}
    small.run("rm", "-r", "mlflow.db", "mlruns")
    small.json("sync")
    assert small.store().aliases()["m"]["production"] in (1, "1")
    after = {int(v.version): facts(v)["dovetail.package"] for v in small.store().versions()}
    assert after[1] == before[1]
