"""MLflow is a view: it can be deleted and comes back the same, from whatever git and DVC still hold."""

import shutil

import pytest
from project import Project, copy_of, facts, set_aside
from templates import made_once


@pytest.fixture(scope="session")
def template(_small_template, tmp_path_factory):
    def make(folder):
        project = Project(folder / "small")
        shutil.copytree(_small_template, project.root, symlinks=True)
        project.run("dvc", "remote", "add", "-q", "-d", "store", str(project.root.with_name("remote")))
        for w in (7, 8, 3):
            project.write("params.yaml", f"train: {{w: {w}}}\n")
            project.run("dvc", "repro", "-q", "register")
            project.commit(f"w = {w}")
        project.run("dvc", "exp", "run", "-q", "--temp", "-n", "nine", "-S", "train.w=9")
        project.run("dovetail", "sync", "--all")  # the descriptions name the commits, which came after `register`
        set_aside(project)

    return made_once(tmp_path_factory, "history", make) / "small"


@pytest.fixture
def history(template, tmp_path):
    """Three commits with a version each, the last below the gate, and an experiment."""
    return copy_of(template, tmp_path / "small")


# What only the machine knew that registered it: docs/identity.md.
OF_ITS_MAKING = {
    "dovetail.git.commit", "dovetail.git.dirty", "dovetail.dvc.stage", "dovetail.env.md5", "dovetail.computing.md5",
    "mlflow.source.git.commit", "mlflow.source.name", "mlflow.user",
}  # fmt: skip


def view(project):
    """All that must be the same in a view made anew; ids and times of writing are MLflow's own."""
    shown = project.store()

    def lasting(found):
        return sorted((key, value) for key, value in facts(found).items() if key not in OF_ITS_MAKING)

    runs = sorted(
        (
            r.info.run_name,
            lasting(r),
            sorted(r.data.params.items()),
            sorted(r.data.metrics.items()),
            sorted((i.dataset.name, i.dataset.digest) for i in r.inputs.dataset_inputs),
            r.info.status,
            [f.path for f in shown.client.list_artifacts(r.info.run_id, "out/plots")],
        )
        for r in shown.runs()
    )
    versions = [(v.version, v.description, lasting(v)) for v in shown.versions()]
    experiments = sorted(experiment.name for experiment in shown.client.search_experiments())
    return {"runs": runs, "versions": versions, "aliases": shown.aliases(), "experiments": experiments}


def forget(project):
    (project.root / "mlflow.db").unlink()
    shutil.rmtree(project.root / "mlruns")


def test_the_view_comes_back_the_same_after_it_was_deleted(history):
    before = view(history)
    assert [len(before[key]) for key in ("runs", "versions")] == [4, 3]
    assert before["aliases"] == {"m": {"staging": 2}}
    forget(history)
    answer = history.json("sync", "--all")
    assert view(history) == before
    assert answer["runs"] == {"created": 4, "present": 0}
    assert answer["aliases"] == [{"model": "m", "alias": "staging", "from": None, "to": 2}]
    assert answer["problems"] == []


@pytest.mark.slow
def test_an_experiment_that_became_a_commit_comes_back_under_its_name_and_a_promotion_with_its_alias(history):
    history.run("dvc", "exp", "apply", "-q", "nine")
    history.commit("applied")
    history.run("dovetail", "register", "m")
    history.run("dovetail", "promote", "m", "--version", "1", "--force", "--reason", "to see it come back")
    history.run("dovetail", "sync", "--all")
    before = view(history)
    assert [run[0] for run in before["runs"]].count("nine") == 1
    assert before["aliases"] == {"m": {"production": 1, "staging": 4}}
    forget(history)
    assert history.json("sync", "--all")["problems"] == []
    assert view(history) == before


@pytest.mark.slow
def test_it_is_idempotent_and_without_all_leaves_experiments_alone(history):
    forget(history)
    history.json("sync")
    again = history.json("sync")
    assert (again["runs"], again["versions"]) == ({"created": 0, "present": 3}, {"created": 0, "present": 3})
    assert history.store().counts() == (3, 3)


def test_restored_runs_have_the_times_of_their_commits(history):
    forget(history)
    history.run("dovetail", "sync")
    times = {int(t) * 1000 for t in history.run("git", "log", "--format=%ct").stdout.split()}
    assert {run.info.start_time for run in history.store().runs()} <= times


def test_the_restored_model_has_the_very_bytes(history):
    forget(history)
    history.run("dovetail", "sync")
    stored = {file.read_bytes() for file in (history.root / "mlruns").rglob("m.joblib")}
    assert (history.root / "out/m.joblib").read_bytes() in stored
    assert len(stored) == 3


@pytest.mark.slow
def test_a_branch_that_is_not_checked_out_is_found_with_all(history):
    history.run("git", "checkout", "-q", "-b", "other", "HEAD~2")
    history.run("dvc", "checkout", "-q")
    history.write("params.yaml", "train: {w: 5}\n")
    history.run("dvc", "repro", "-q", "train")
    history.commit("on another branch")
    history.run("git", "checkout", "-q", "main")
    history.run("dvc", "checkout", "-q")
    assert history.json("sync")["runs"]["created"] == 0
    assert history.json("sync", "--all")["runs"]["created"] == 1


@pytest.mark.slow
def test_killed_on_the_way_and_run_again_it_completes(history):
    before = view(history)
    forget(history)
    steps = "create_run", "log_inputs", "copy:2", "finalize_logged_model", "create_model_version"
    for step in (*steps, "set_registered_model_alias"):
        history.killed(step, "sync", "--all")
    history.run("dovetail", "sync", "--all")
    assert view(history) == before


@pytest.mark.slow
def test_bytes_that_nobody_has_are_passed_over_unless_a_ref_names_them_and_the_rest_is_done(history):
    lost = history.store().versions()[0].tags["dovetail.model.md5"]
    (history.root / f".dvc/cache/files/md5/{lost[:2]}/{lost[2:]}").unlink()
    commit = history.run("git", "log", "-S", lost, "--format=%H", "--", "dvc.lock").stdout.split()[-1]
    forget(history)
    answer = history.json("sync")
    assert answer["versions"]["created"] == 2
    assert answer["problems"] == []
    assert answer["passed_over"] == [f"m of commit {commit[:8]}"]
    assert "passed over: 1 models of older commits" in history.run("dovetail", "sync").stdout
    history.run("git", "commit", "-q", "--allow-empty", "-m", "nothing of DVC")
    history.run("git", "branch", "kept", commit)
    history.run("git", "switch", "-q", "kept")
    history.run("git", "commit", "-q", "--allow-empty", "-m", "nor here")
    history.run("git", "switch", "-q", "-")
    (problem,) = history.json("sync", code=1)["problems"]
    assert lost in problem["why"]
    assert "dvc push" in problem["next"]


def test_bytes_come_from_the_remote_when_the_cache_is_empty(history, tmp_path):
    history.run("dvc", "remote", "modify", "--local", "store", "url", str(tmp_path / "remote"))
    history.run("dvc", "push", "-q", "--all-commits")
    clone = Project(tmp_path / "clone")
    history.run("git", "clone", "-q", ".", str(clone.root))
    clone.run("dvc", "remote", "modify", "--local", "store", "url", str(tmp_path / "remote"))
    answer = clone.json("sync")
    assert answer["versions"] == {"created": 3, "present": 0}
    assert answer["problems"] == []


def test_a_shallow_clone_says_what_is_missing(history, tmp_path):
    clone = Project(tmp_path / "clone")
    history.run("git", "clone", "-q", "--depth", "1", f"file://{history.root}", str(clone.root))
    clone.run("dvc", "cache", "dir", "--local", str(history.root / ".dvc/cache"))
    answer = clone.json("sync", code=1)
    assert answer["versions"]["created"] == 1
    assert "git fetch --unshallow" in answer["problems"][0]["next"]


@pytest.mark.slow
def test_a_store_whose_folder_was_moved_is_mended(history, tmp_path):
    here = Project(tmp_path / "elsewhere")
    history.root.rename(here.root)
    answer = here.json("sync", "--all")
    assert answer["mended"] == [str(history.root)]
    assert (answer["runs"]["created"], answer["problems"]) == (0, [])
    assert here.json("lineage", "m")["artifact"]["verified"] is True
    here.run("python", "-c", "import mlflow.artifacts as a; a.download_artifacts('models:/m/1')")
    assert here.json("sync", "--all")["mended"] == []


@pytest.mark.parametrize(
    "broken", ["stages: [", "stages:\n  train: {cmd: '${nothing}'}\nartifacts: {m: {path: '${no}'}}\n"]
)
def test_a_commit_that_cannot_be_read_is_listed_and_the_rest_is_done(small, broken):
    kept = (small.root / "dvc.yaml").read_text()
    small.write("dvc.yaml", broken)
    sha = small.commit("broken")
    small.write("dvc.yaml", kept)
    small.commit("mended")
    answer = small.json("sync", code=1)
    assert answer["versions"]["created"] == 1
    (problem,) = answer["problems"]
    assert problem["what"] == f"commit {sha[:8]}"
    assert sha[:8] in problem["next"]


def test_a_version_made_before_its_commit_is_not_made_again(small):
    small.run("dvc", "repro", "-q", "register")
    small.commit("afterwards")
    answer = small.json("sync")
    assert (answer["runs"]["created"], answer["versions"]["created"]) == (0, 0)
