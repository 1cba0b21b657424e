"""One clean-up: nothing goes that a branch, tag, experiment, version or alias needs, nor by `dvc gc` afterwards."""

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from next_commands import alternatives, typed
from project import Project, isolate, small_project

from dovetail.repo.git import Git
from dovetail.system.locks import REPRO, RETRAIN, exclusive

CACHE = ".dvc/cache/files/md5"


def train(project, w, *, commit=True):
    """Train with `w`; the digests of what was made: model, metrics, plots and what is in them."""
    project.write("params.yaml", f"train: {{w: {w}}}\n")
    project.run("dvc", "repro", "-q", "train")
    before = digests_of(project)
    if commit:
        project.commit(f"w = {w}")
    return before


def digests_of(project):
    """What the working tree's dvc.lock names as outs of train, with what is in the folder."""
    import yaml

    outs = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]["train"]["outs"]
    found = {out["md5"] for out in outs}
    for md5 in [md5 for md5 in found if md5.endswith(".dir")]:
        found |= {entry["md5"] for entry in json.loads(place(project, md5).read_text())}
    return found


def place(project, md5, folder=CACHE):
    return project.root / folder / md5[:2] / md5[2:]


def cached(project, folder=CACHE):
    root = project.root / folder
    return {file.parent.name + file.name for file in root.rglob("*") if file.is_file()}


def back(project, rev="main"):
    project.run("git", "checkout", "-q", "--force", rev)
    project.run("dvc", "checkout", "-q")


def doomed(answer):
    return {row["md5"] for row in answer["delete"]}


def orphan(project, w=4):
    """Train and forget it."""
    made = train(project, w, commit=False)
    project.run("git", "checkout", "-q", ".")
    project.run("dvc", "checkout", "-q")
    return made


def on_a_deleted_branch(project, w=5):
    project.run("git", "checkout", "-q", "-b", "other")
    made = train(project, w)
    back(project)
    project.run("git", "branch", "-qD", "other")
    return made


@pytest.fixture(scope="module")
def estate(tmp_path_factory):
    """Versions of three commits, one promoted; an experiment, a removed one, a deleted branch, a dead end."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = small_project(tmp_path_factory.mktemp("estate") / "small")
        project.made = {name: train(project, w) for name, w in {"seven": 7, "eight": 8}.items()}
        project.run("dovetail", "promote", "m")
        project.made["nine"] = train(project, 9)
        project.run("dovetail", "sync")
        project.made["branch"] = on_a_deleted_branch(project)
        project.made["dead end"] = orphan(project)
        for name, w in (("six", 6), ("three", 3)):
            project.run("dvc", "exp", "run", "-q", "--temp", "-n", name, "-S", f"train.w={w}", "train")
        project.run("dvc", "exp", "remove", "-q", "three")
        yield project


def test_the_plan_shows_what_goes_and_why_and_changes_nothing(estate):
    before = cached(estate)
    answer = estate.json("gc")
    assert cached(estate) == before
    by_digest = {row["md5"]: row for row in answer["delete"]}
    kept = estate.made["seven"] | estate.made["eight"] | estate.made["nine"]
    assert not by_digest.keys() & kept
    assert by_digest.keys() >= (estate.made["branch"] | estate.made["dead end"]) - kept
    assert len(by_digest) == 3 * len(estate.made["seven"])  # those two, and the removed experiment
    assert answer["bytes"] == sum(place(estate, md5).stat().st_size for md5 in by_digest)
    branch = by_digest[next(iter(estate.made["branch"] - kept))]
    assert "no branch, tag or experiment holds" in branch["why"]
    assert "nor does any commit" in by_digest[next(iter(estate.made["dead end"] - kept))]["why"]
    paths = [row["what"] for row in answer["delete"]]
    assert sorted(set(paths)) == ["out/m.joblib", "out/metrics.json", "out/plots", "out/plots/p.csv"]
    assert {"experiment six", "branch main", "m version 1 @production", "m version 2"} <= {
        k["what"] for k in answer["keep"]
    }
    assert answer["looked_at"] == ["cache", "mlflow"]


def test_it_says_beforehand_what_dvc_gc_would_make_unrecoverable(estate):
    warnings = {warning["what"]: warning for warning in estate.json("gc")["warnings"]}
    assert "-w and -a (-aT keeps it)" in warnings["m version 1 @production"]["why"]
    assert "dvc push" in warnings["m version 1 @production"]["next"]
    assert "-w, -a and -T" in warnings["m version 2"]["why"]
    assert not any(warning["blocks"] for warning in warnings.values())


def test_promotions_are_told_from_git_where_mlflow_has_no_store(estate, tmp_path):
    answer = estate.json("gc", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/none.db")
    assert not doomed(answer) & (estate.made["seven"] | estate.made["eight"] | estate.made["nine"])
    assert len(answer["delete"]) == 3 * len(estate.made["seven"])
    (warning,) = [w for w in answer["warnings"] if "@production" in w["what"]]
    assert "(-aT keeps it)" in warning["why"]
    assert not (tmp_path / "none.db").exists()


def test_what_a_killed_process_left_half_written_goes_a_day_later(registered):
    """DVC writes beside an object and renames it: killed meanwhile, gigabytes stay that `dvc gc` does not see."""
    root = registered.root / CACHE
    folder = next(path for path in root.iterdir() if path.is_dir())
    old, young = [root / ".links.tmp", folder / ".half.tmp"], folder / ".being-written.tmp"
    for file in (*old, young):
        file.write_bytes(b"half")
    for file in old:
        os.utime(file, times=(time.time() - 90_000,) * 2)
    before = cached(registered)
    assert {(row["what"], row["md5"], row["size"]) for row in registered.json("gc")["delete"]} == {
        (str(file), None, 4) for file in old
    }
    assert cached(registered) == before
    assert registered.json("gc", "--force")["bytes"] == 8
    assert (cached(registered), young.exists()) == (before - {f"{f.parent.name}{f.name}" for f in old}, True)
    assert registered.json("gc")["delete"] == []


@pytest.mark.slow
def test_a_promoted_version_survives_it_and_dvc_gc_afterwards(estate):
    plan = doomed(estate.json("gc"))
    before = cached(estate)
    assert estate.json("gc", "--force")["deleted"] is True
    assert cached(estate) == before - plan
    assert (estate.json("gc")["delete"], estate.json("gc", "--force")["bytes"]) == ([], 0)
    estate.run("dvc", "gc", "-aTf")
    lineage = estate.json("lineage", "m@production")
    assert lineage["artifact"]["verified"] is True
    assert lineage["data"][0]["available"] == ["cache"]
    load = "import mlflow.artifacts as a; a.download_artifacts('models:/m@production')"
    estate.run("python", "-c", load, MLFLOW_TRACKING_URI=f"sqlite:///{estate.root}/mlflow.db")
    shutil.rmtree(estate.root / "out")
    back(estate, "m@v1.0.0")
    assert digests_of(estate) == estate.made["eight"]
    assert (estate.root / "out/plots/p.csv").read_text() == "x,y\n1,8\n"
    assert "up to date" in estate.run("dvc", "status", "train").stdout


@pytest.mark.slow
def test_the_command_that_the_warning_names_lets_it_survive_any_dvc_gc(estate, tmp_path):
    back(estate)
    with_remote(estate, tmp_path)
    (warning,) = [w for w in estate.json("gc")["warnings"] if w["what"] == "m version 1 @production"]
    assert "--local" in warning["next"]  # the remote came after the commits, and DVC reads each commit's own config
    estate.run("bash", "-c", warning["next"])
    assert [w for w in estate.json("gc", "--cloud", "--force")["warnings"] if w["what"].startswith("m version")] == []
    estate.run("dvc", "gc", "-wf")
    assert not estate.made["eight"] - estate.made["nine"] & cached(estate)
    shutil.rmtree(estate.root / "out")
    estate.run("git", "checkout", "-q", "--force", "m@v1.0.0")
    estate.run("dvc", "pull", "-q")
    assert digests_of(estate) == estate.made["eight"]
    assert "up to date" in estate.run("dvc", "status", "train").stdout


def test_versions_are_told_from_git_where_mlflow_is_gone(small):
    made = train(small, 8)
    train(small, 9)
    gone = orphan(small)
    answer = small.json("gc", "--force")
    assert doomed(answer) == gone - made
    assert made <= cached(small)
    assert any(entry["what"].startswith("a model at commit") for entry in answer["keep"])
    assert not (small.root / "mlflow.db").exists()


def test_data_in_the_middle_of_a_branch_that_no_model_read_goes(small):
    def add(text):
        small.write("extra.csv", text)
        small.run("dvc", "add", "-q", "extra.csv")
        return small.commit(text)

    first = add("first")
    add("second")
    answer = small.json("gc")
    (row,) = answer["delete"]
    assert (row["what"], row["size"]) == ("extra.csv", len("first"))
    assert first[:8] in row["why"]
    small.run("git", "tag", "v1", first)
    assert small.json("gc")["delete"] == []


def test_what_a_commit_names_that_cannot_be_read_is_kept_and_the_commit_is_named(small):
    """A conflict was committed, and solved in the next commit: nobody knows which model was meant in between."""
    eight = train(small, 8, commit=False)
    pipeline = (small.root / "dvc.yaml").read_text()
    small.write("dvc.yaml", f"<<<<<<< ours\n{pipeline}=======\n{pipeline}>>>>>>> theirs\n")
    unreadable = small.commit("w = 8")
    small.write("dvc.yaml", pipeline)
    nine = train(small, 9)
    answer = small.json("gc")
    assert eight - nine
    assert not doomed(answer) & eight
    named = f"commit {unreadable[:8]}, which cannot be read: all that it names"
    assert named in {kept["what"] for kept in answer["keep"]}


def test_a_folder_stays_whole_although_the_model_read_one_file_of_it(small):
    for number in (1, 2):
        small.write(f"raw/{number}.csv", f"a,b\n{number},2\n")
    small.run("dvc", "add", "-q", "raw")
    small.replace("dvc.yaml", "data.csv]", "raw/1.csv]")
    small.replace("train.py", "data.csv", "raw/1.csv")
    train(small, 7)
    needed = cached(small)
    small.write("raw/2.csv", "changed")
    small.run("dvc", "add", "-q", "raw")
    small.write("raw/1.csv", "a,b\n3,4\n5,6\n")
    small.run("dvc", "add", "-q", "raw")
    train(small, 8)
    assert not doomed(small.json("gc")) & needed


@pytest.mark.parametrize(
    "keep", ["stash", "untracked stash", "staged stash", "staged", "worktree", "conflict", "autostash", "other tree"]
)
def test_what_is_put_aside_is_kept(small, keep, tmp_path):
    train(small, 8, commit=keep == "worktree")
    if keep == "stash":
        small.run("git", "stash", "-q")
    elif keep == "untracked stash":
        small.write("new.csv", "a\n1\n")
        small.run("dvc", "add", "-q", "new.csv")
        small.run("git", "stash", "-qu")
    elif keep == "staged stash":
        small.run("git", "add", "dvc.lock")
        small.run("git", "restore", "--source=HEAD", "--worktree", "dvc.lock")
        small.run("git", "stash", "-q")
    elif keep == "staged":
        small.run("git", "add", "dvc.lock")
        small.run("git", "restore", "--source=HEAD", "--worktree", "dvc.lock")
    elif keep == "worktree":
        small.run("git", "worktree", "add", "-q", "--detach", str(tmp_path / "other"))
        small.run("git", "reset", "-q", "--hard", "HEAD~1")
    elif keep == "autostash":
        small.run("git", "branch", "side")
        small.run("git", "stash", "-q")
        for branch, text in (("side", "one\n"), ("main", "two\n")):
            small.run("git", "switch", "-q", branch)
            small.write("notes.txt", text)
            small.commit(branch)
        small.run("git", "stash", "pop", "-q")
        small.run("git", "rebase", "-q", "--autostash", "side", code=None)
        assert small.run("git", "status", "--porcelain", "notes.txt").stdout.startswith("AA")
    elif keep == "other tree":
        small.run("git", "worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
        shutil.copy(small.root / "dvc.lock", tmp_path / "other")
        small.run("git", "checkout", "-q", "--force", "HEAD", "--", ".")
    else:
        lock = (small.root / "dvc.lock").read_text()
        old = small.run("git", "show", "HEAD:dvc.lock").stdout
        small.write("dvc.lock", f"<<<<<<< ours\n{lock}=======\n{old}>>>>>>> theirs\n")
    assert small.json("gc", "--force")["delete"] == []


@pytest.mark.slow
def test_what_another_project_of_the_repository_recorded_stays_in_the_remote_that_both_use(tmp_path):
    top = Project(tmp_path / "top")
    top.root.mkdir()
    top.run("git", "init", "-q")
    for name in ("a", "b"):
        project = Project(top.root / name)
        project.root.mkdir()
        project.run("dvc", "init", "-q", "--subdir")
        project.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
        for number in "12":
            project.write("d.csv", f"{name}{number}")
            project.run("dvc", "add", "-q", "d.csv")
            top.commit(f"{name}{number}")
        project.run("dvc", "push", "-q", "--all-commits")
    a = Project(top.root / "a")
    kept = {hashlib.md5(text.encode()).hexdigest() for text in ("a2", "b1", "b2")}
    answer = a.json("gc", "--cloud", "--force")
    assert kept == cached(a, tmp_path / "remote/files/md5"), answer


@pytest.mark.parametrize("lock", [REPRO, RETRAIN])
def test_while_stages_run_whose_outputs_no_dvc_lock_names_yet_nothing_is_deleted(small, lock):
    orphan(small)
    before = cached(small)
    with exclusive(small.root, lock, 0):
        error = small.json("gc", "--force", code=3)["error"]
        assert (error["kind"], f"{lock}.lock" in error["message"]) == ("Busy", True)
        assert small.json("gc")["delete"]
    assert cached(small) == before


@pytest.mark.slow
def test_what_a_running_stage_of_repro_made_stays(small, tmp_path):
    """What a worker made is in the cache long before dvc.lock names it."""
    wait = f"until test -e {tmp_path}/go; do sleep 0.05; done"
    quick = "quick: {cmd: echo 1 > q.txt, deps: [params.yaml], outs: [q.txt]}"
    slow = f"slow: {{cmd: '{wait}; echo 2 > s.txt', deps: [params.yaml], outs: [s.txt]}}"
    small.write("dvc.yaml", f"stages:\n  {quick}\n  {slow}\n")
    before = cached(small)
    running = subprocess.Popen(["dovetail", "repro", "--workers", "2"], cwd=small.root)
    deadline = time.monotonic() + 300
    while cached(small) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert small.json("gc", "--force", code=3)["error"]["kind"] == "Busy"
    (tmp_path / "go").touch()
    assert running.wait(300) == 0
    assert (small.root / "q.txt").read_text() == "1\n"


def with_remote(project, tmp_path):
    project.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path / "remote"))
    project.commit("a remote")


@pytest.mark.slow
def test_the_remote_is_cleaned_when_asked_to_and_takes_the_same_bytes_again(small, tmp_path):
    with_remote(small, tmp_path)
    gone = train(small, 4, commit=False)
    small.run("dvc", "push", "-q")
    small.run("git", "checkout", "-q", ".")
    small.run("dvc", "checkout", "-q")
    remote = tmp_path / "remote/files/md5"
    gone &= cached(small, remote)  # metrics are git's
    assert len(gone) == 3
    small.json("gc", "--force")
    assert gone <= cached(small, remote)
    assert {row["where"] for row in small.json("gc", "--cloud")["delete"]} == {"remote store"}
    answer = small.json("gc", "--remote", "store", "--force")
    assert answer["looked_at"] == ["cache", "remote store", "mlflow"]
    assert doomed(answer) == gone
    assert not gone & cached(small, remote)
    train(small, 4, commit=False)
    small.run("dvc", "push", "-q")
    assert gone <= cached(small, remote)


def test_a_remote_that_is_not_there_is_named(small):
    for asked, named in ((("--cloud",), "remote"), (("--remote", "nowhere"), "nowhere")):
        error = small.json("gc", *asked, code=2)["error"]
        assert named in error["message"]
        assert error["next"].startswith("dvc remote")


@pytest.fixture
def shared(small, tmp_path):
    """A git remote, pushed to, and a colleague's clone."""
    small.run("git", "init", "-q", "--bare", str(tmp_path / "origin.git"))
    small.run("git", "remote", "add", "origin", str(tmp_path / "origin.git"))
    with_remote(small, tmp_path)
    small.run("git", "push", "-q", "origin", "main")
    small.run("git", "clone", "-q", str(tmp_path / "origin.git"), str(tmp_path / "colleague"))
    return small, Project(tmp_path / "colleague")


def test_a_tag_that_somebody_else_pushed_keeps_a_commit_that_no_branch_keeps_any_more(shared):
    small, colleague = shared
    small.run("git", "checkout", "-q", "-b", "idea")
    made = train(small, 8)
    small.run("git", "push", "-q", "origin", "idea")
    colleague.run("git", "fetch", "-q", "origin")
    colleague.run("git", "tag", "-am", "promoted", "m#production#1", "origin/idea")
    colleague.run("git", "push", "-q", "origin", "m#production#1")
    small.run("git", "push", "-q", "origin", ":idea")
    back(small)
    small.run("git", "branch", "-qD", "idea")
    answer = small.json("gc", "--force")
    assert answer["delete"] == []
    assert made <= cached(small)
    assert "ref origin refs/tags/m#production#1" in {entry["what"] for entry in answer["keep"]}


@pytest.mark.slow
def test_the_remote_is_left_alone_while_somebody_elses_tag_is_not_fetched(shared, tmp_path):
    small, colleague = shared
    shutil.copytree(small.root / CACHE, colleague.root / CACHE)
    colleague.run("dvc", "checkout", "-q")
    train(colleague, 8)
    colleague.run("dvc", "push", "-q")
    colleague.run("git", "tag", "-am", "promoted", "m#production#1")
    colleague.run("git", "push", "-q", "origin", "m#production#1")
    remote = tmp_path / "remote/files/md5"
    pushed = cached(small, remote)
    (warning,) = [w for w in small.json("gc", "--cloud")["warnings"] if w["blocks"]]
    assert "m#production#1" in warning["why"]
    error = small.json("gc", "--cloud", "--force", code=2)["error"]
    assert error["next"] == warning["next"]
    assert cached(small, remote) == pushed
    small.run("bash", "-c", warning["next"])
    assert small.json("gc", "--cloud", "--force")["delete"] == []


def test_a_git_remote_that_does_not_answer_is_said(small):
    small.run("git", "remote", "add", "origin", "/nowhere/at-all.git")
    (warning,) = [w for w in small.json("gc")["warnings"] if w["what"] == "git remote origin"]
    assert warning["blocks"] is False


def test_a_cache_that_others_may_use_needs_consent(small, tmp_path):
    gone = orphan(small)
    shutil.move(small.root / ".dvc/cache", tmp_path / "cache")
    small.run("dvc", "cache", "dir", "-q", "--local", str(tmp_path / "cache"))
    (consenting,) = alternatives(small.json("gc", "--force", code=2)["error"]["next"])
    assert gone <= cached(small, tmp_path / "cache/files/md5")
    answer = small.json(*consenting.split()[1:], "--force")
    assert doomed(answer) == gone - digests_of_data(small)
    assert answer["bytes"] > 0


def digests_of_data(project):
    return {line.split()[-1] for line in (project.root / "data.csv.dvc").read_text().splitlines() if "md5: " in line}


def test_a_shallow_clone_is_refused(small, tmp_path):
    train(small, 8)
    clone = Project(tmp_path / "clone")
    small.run("git", "clone", "-q", "--depth", "1", f"file://{small.root}", str(clone.root))
    assert "--unshallow" in clone.json("gc", "--force", code=2)["error"]["next"]


@pytest.mark.slow
def test_a_running_experiment_is_waited_for(small):
    (small.root / ".dvc/tmp/exps/standalone/tmp1/.dvc").mkdir(parents=True)
    orphan(small)
    before = cached(small)
    error = small.json("gc", "--force", code=2)["error"]
    assert "tmp1" in error["message"]
    assert cached(small) == before
    for command in alternatives(error["next"]):  # the first looks, and nothing runs
        typed(small, command)
    assert small.json("gc", "--force")["delete"]


@pytest.mark.slow
def test_another_dvc_command_is_waited_for(small):
    import zc.lockfile

    orphan(small)
    held = zc.lockfile.LockFile(str(small.root / ".dvc/tmp/lock"))
    try:
        assert small.json("gc", "--force", code=3)["error"]["kind"] == "Busy"
    finally:
        held.close()


def test_a_git_that_cannot_answer_deletes_nothing(small):
    train(small, 8)
    (small.root / ".git/refs/heads/broken").write_text("0" * 39 + "1\n")
    before = cached(small)
    assert small.json("gc", "--force", code=3)["error"]["kind"] == "GitFailed"
    assert cached(small) == before


def test_killed_while_deleting_and_run_again_it_completes(small):
    needed = cached(small)
    gone = orphan(small, 4) | orphan(small, 5)
    small.killed("remove:3", "gc", "--force")
    assert needed <= cached(small)
    assert cached(small) & gone - needed
    small.run("dovetail", "gc", "--force")
    assert cached(small) == needed


@pytest.mark.slow
def test_mlflows_trash_is_emptied_but_for_what_a_version_needs(small):
    small.run("dovetail", "register")
    small.run("dvc", "exp", "run", "-q", "--temp", "-n", "nine", "-S", "train.w=9")
    shown = small.store()
    version, *_ = shown.versions()
    (other,) = [run for run in shown.runs() if run.info.run_id != version.run_id]
    pending = shown.client.create_logged_model(other.info.experiment_id, "m", other.info.run_id)
    for run in (version.run_id, other.info.run_id):
        shown.client.delete_run(run)
    answer = small.json("gc", "--force")
    (row,) = [row for row in answer["delete"] if row["where"] == "mlflow"]
    assert other.info.run_id in row["what"]
    assert row["size"] > 0
    (warning,) = [w for w in answer["warnings"] if version.run_id in w["what"]]
    folder = Path(other.info.artifact_uri.removeprefix("file://"))
    assert not folder.exists()
    assert shown.client.get_logged_model(pending.model_id).status == "PENDING"  # it may still be going on
    small.run("bash", "-c", warning["next"], MLFLOW_TRACKING_URI=f"sqlite:///{small.root}/mlflow.db")
    again = small.json("gc")
    assert [row for row in again["delete"] if row["where"] == "mlflow"] == []
    assert version.run_id not in json.dumps(again["warnings"])


def test_a_version_whose_commit_git_will_forget_is_said_and_the_command_keeps_it(small):
    small.run("git", "checkout", "-q", "-b", "idea")
    made = train(small, 8)
    small.run("dovetail", "register")
    back(small)
    sha = small.run("git", "rev-parse", "idea").stdout.strip()
    small.run("git", "branch", "-qD", "idea")
    answer = small.json("gc", "--force")
    assert answer["delete"] == []
    assert made <= cached(small)
    (warning,) = [w for w in answer["warnings"] if "git will forget it" in w["why"]]
    small.run("bash", "-c", warning["next"])
    assert small.run("git", "branch", "--contains", sha, "--format=%(refname:short)").stdout.split() == ["m-1"]


def test_a_version_that_was_trained_while_merging_has_a_commit(small):
    small.run("git", "checkout", "-q", "-b", "side")
    train(small, 8)
    back(small)
    train(small, 9)
    small.run("git", "merge", "-q", "--no-commit", "-s", "ours", "side")
    folder = next(md5 for md5 in train(small, 5) if md5.endswith(".dir"))
    git = Git(small.root)
    assert [commit.summary for commit in git.commits_with(folder, "dvc.lock", experiments=False)] == ["w = 5"]
    git.close()
