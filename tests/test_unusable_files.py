"""Stores, caches and folders that cannot be used: one line that names the file, and the next run completes it."""

import shutil

import pytest
import templates
from project import copy_of, isolate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Version 1 in production, and a second model committed that MLflow does not know yet."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = copy_of(templates.versions(tmp_path_factory), tmp_path_factory.mktemp("unusable") / "p")
        for number in (1, 2):
            project.run("dovetail", "promote", "m", "--version", str(number), "--force", "--reason", "a test")
        project.write("params.yaml", "train: {w: 9}\n")
        project.run("dvc", "repro", "-q", "train")
        project.commit("w = 9")
        yield project


def refused(project, *command, code=3):
    """The one line that a command ends with; a traceback beside it is MLflow's or ours, and wrong."""
    done = project.run("dovetail", *command, code=code)
    assert done.stderr.count("\n") == 1, done.stderr
    assert not done.stdout
    return done.stderr


WRITING = (
    ("register",),
    ("sync",),
    ("promote", "m", "--force", "--reason", "a test"),
)


def test_a_read_only_database_is_named_by_every_command_that_writes_and_the_next_run_completes(template):
    store = template.root / "mlflow.db"
    before = store.read_bytes()
    # https://www.sqlite.org/fileformat2.html: a write version above 2 makes the file read-only, for root, too.
    store.write_bytes(before[:18] + b"\x03" + before[19:])
    tags = template.run("git", "tag").stdout
    for command in WRITING:
        line = refused(template, *command)
        assert "mlflow.db: attempt to write a readonly database" in line, command
        assert f"ls -ld {template.root} {store}" in line
    assert template.run("git", "tag").stdout == tags
    assert template.run("dovetail", "history", "m").stdout
    answer = template.json("rollback", "m")
    assert (answer["to"], answer["alias_moved"]) == (1, False)
    assert "readonly database" in answer["problem"]
    told = store.read_bytes()
    store.write_bytes(told[:18] + before[18:19] + told[19:])
    assert template.json("sync")["versions"] == {"created": 1, "present": 2}
    assert template.store().aliases()["m"]["production"] == 1


def test_a_file_in_place_of_mlruns_is_named_by_every_command_that_asks_mlflow(template):
    folder, aside = template.root / "mlruns", template.root / "aside"
    folder.rename(aside)
    folder.write_text("")
    try:
        for command in (*WRITING, ("lineage", "m"), ("diff",), ("gc",), ("serve", "m")):
            assert f"{folder}, where MLflow keeps its files, is not a folder" in refused(template, *command), command
        assert "is not a folder" in template.run("dovetail", "doctor", code=1).stdout
    finally:
        folder.unlink()
        aside.rename(folder)


@pytest.mark.parametrize("path", [".dvc/cache", ".dvc/tmp"])
def test_a_file_in_place_of_a_folder_of_dvc_is_named(template, path):
    folder, aside = template.root / path, template.root / ".dvc" / "aside"
    folder.rename(aside)
    folder.write_text("")
    try:
        for command in (("register",), ("status",), ("sync",), ("promote", "m", "--dry-run")):
            assert path in refused(template, *command, code=2), command
        if path == ".dvc/tmp":
            assert path in refused(template, "rollback", "m", code=2)
        assert path in template.run("dovetail", "doctor", code=1).stdout
    finally:
        folder.unlink()
        aside.rename(folder)


def test_a_bare_repository_and_one_without_git_are_refused_with_gits_own_line(template):
    template.run("git", "config", "core.bare", "true")
    for command in (("status",), ("sync",), ("rollback", "m"), ("history", "m")):
        assert "work" in refused(template, *command), command
    template.run("git", "config", "core.bare", "false")
    (template.root / ".git").rename(template.root / "git")
    for command in (("status",), ("sync",), ("rollback", "m"), ("history", "m")):
        assert "not a git repository" in refused(template, *command), command
    (template.root / "git").rename(template.root / ".git")


def test_what_git_traces_to_standard_error_is_no_refusal(template):
    assert template.json("history", "m", GIT_TRACE="1")["events"]
    assert template.json("status", code=None, GIT_TRACE="2", GIT_TRACE_PERFORMANCE="1")["models"]


def test_repair_says_of_evidence_that_is_gone_that_nothing_can_make_it_again(template):
    run = template.store().client.get_model_version("m", "1").run_id
    folder = template.root / "mlruns" / "m" / run / "artifacts" / "promotions"
    shutil.rmtree(folder)
    told = [
        [problem for problem in template.json(*command, code=1)["problems"] if "was deleted" in problem["what"]]
        for command in (("sync", "--repair"), ("doctor",))
    ]
    for problems in told:
        (problem,) = problems
        assert "production-1.json" in problem["what"]
        assert "cannot be made again" in problem["why"]
        assert problem["next"].endswith("dovetail promote m --version 1 --to production")
