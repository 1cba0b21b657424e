"""Names that a later commit allows, for the same bytes."""


def test_a_version_whose_class_a_later_commit_allows_is_promoted_loaded_and_restored(small):
    small.write("mine.py", "class Mine:\n    def predict(self, rows):\n        return [1] * len(rows)\n")
    small.replace("train.py", "joblib.dump(model", "from mine import Mine; joblib.dump(Mine()")
    env = {"PYTHONPATH": str(small.root)}
    small.run("dvc", "repro", "-q", **env)
    small.commit("a class of my own")
    assert not small.json("promote", "m", code=1, **env)["promoted"]
    small.replace("dvc.yaml", "accuracy: {min: 0.5}", "accuracy: {min: 0.5}, pickle: {allow: [mine.Mine]}")
    # Retrained, so that the newest commit with the bytes is not the one that allows.
    small.replace("train.py", "joblib.dump(Mine()", "one = Mine(); one.again = 1; joblib.dump(one")
    refused = small.json("promote", "m", "--version", "1", code=1, **env)
    assert not refused["promoted"]  # nobody committed it
    small.run("dvc", "repro", "-q", **env)
    small.commit("allowed, and trained again")
    dry = small.json("promote", "m", "--version", "1", "--dry-run", **env)
    assert dry["passed"]
    answer = small.json("promote", "m", "--version", "1", **env)
    assert answer["promoted"]
    assert "Dovetail-Allow: mine.Mine" in small.run("git", "tag", "-l", "--format=%(contents)", "m#production#1").stdout
    load = "import mlflow; print(mlflow.pyfunc.load_model('models:/m@production').predict([[0], [0]]))"
    uri = f"sqlite:///{small.root}/mlflow.db"
    assert small.run("python", "-c", load, MLFLOW_TRACKING_URI=uri, **env).stdout.strip() == "[1, 1]"
    before = {int(v.version): v.tags["dovetail.package"] for v in small.store().versions()}
    small.run("rm", "-r", "mlflow.db", "mlruns")
    small.json("sync", **env)
    assert small.store().aliases()["m"]["production"] in (1, "1")
    after = {int(v.version): v.tags["dovetail.package"] for v in small.store().versions()}
    assert after[1] == before[1]
