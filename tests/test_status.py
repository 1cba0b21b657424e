"""Where git, DVC and MLflow disagree, and the command that ends it."""


def test_nothing_registered_yet(small):
    (model,) = small.json("status", code=1)["models"]
    assert model["workspace"]["version"] is None
    assert model["workspace"]["committed"] is True
    assert model["workspace"]["pushed"] is None
    assert model["problems"][0]["next"] == "dovetail register m"


def test_in_sync(small):
    small.run("dvc", "repro", "-q", "register")
    (model,) = small.json("status")["models"]
    assert model["in_sync"] is True
    assert model["workspace"]["md5"] == model["staging"]["md5"]
    assert model["production"] == {"version": None, "md5": None}


def test_uncommitted_and_unpushed_are_said_and_the_commands_mend_it(small, tmp_path):
    small.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    small.write("params.yaml", "train: {w: 8}\n")
    small.run("dvc", "repro", "-q", "register")
    (model,) = small.json("status", code=1)["models"]
    assert [p["next"] for p in model["problems"]] == ["git add -A && git commit", "dvc push"]
    small.commit("now")
    small.run("dvc", "push", "-q")
    (model,) = small.json("status")["models"]
    assert (model["workspace"]["committed"], model["workspace"]["pushed"]) == (True, True)


def test_a_model_changed_behind_dvcs_back_is_said(small):
    small.run("dvc", "repro", "-q", "register")
    (small.root / "out/m.joblib").unlink()
    small.write("out/m.joblib", "other")
    done = small.run("dovetail", "status", code=1)
    assert "is not what dvc.lock records" in done.stdout
    assert "dvc repro" in done.stdout


def test_before_any_dvc_lock_is_committed(small):
    small.run("git", "rm", "-q", "--cached", "dvc.lock")
    small.run("git", "commit", "-q", "--amend", "-m", "without a lock\u2028 and with an odd line end")
    (model,) = small.json("status", code=1)["models"]
    assert model["workspace"]["committed"] is False
    assert small.json("sync")["versions"]["created"] == 1
