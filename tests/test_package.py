"""What a version is made of: one digest for its whole package, held against before anything of the registry is read."""

import json
import shutil
import sys

import pytest
import templates
from next_commands import typed
from project import copy_of, facts, retag

from dovetail.repo.ledger import Note
from dovetail.tracking.package_digest import package_digest

PWN = "\nimport pathlib\npathlib.Path({marker!r}).touch()\n"


@pytest.fixture
def made(tmp_path_factory, tmp_path):
    """Two committed versions, the newer one staged."""
    return copy_of(templates.versions(tmp_path_factory), tmp_path / "small")


def packages(project):
    """The folder of each version's package, by number."""
    client = project.store().client
    return {
        int(v.version): client.get_model_version_download_uri("m", v.version).removeprefix("file://")
        for v in project.store().versions()
    }


def folder_of(project, number):
    from pathlib import Path

    return Path(packages(project)[number])


def tag_of(project, number):
    (version,) = [v for v in project.store().versions() if int(v.version) == number]
    return facts(version).get("dovetail.package")


def note(project, tag):
    return Note.parse(project.run("git", "tag", "-l", "--format=%(contents)", tag).stdout)


def failed(answer):
    return [gate for gate in answer["gates"] if not gate["passed"]]


def findings(project):
    answer = json.loads(project.run("dovetail", "doctor", "--json", code=None).stdout)
    return [found for found in answer["problems"] if "package" in found["why"]]


def test_a_version_is_tagged_with_the_digest_of_its_files_and_a_promotion_carries_it(made):
    assert tag_of(made, 2) == package_digest(folder_of(made, 2))
    answer = made.json("promote", "m")
    (gate,) = [gate for gate in answer["gates"] if gate["name"] == "pickle.package"]
    assert (gate["passed"], gate["detail"]) == (True, "the version's tag")
    said = note(made, "m#production#1")
    assert said.package == tag_of(made, 2)
    assert list(said.requirements) == (folder_of(made, 2) / "requirements.txt").read_text().split()
    made.json("promote", "m", "--version", "1")
    made.json("rollback", "m")
    back = note(made, "m#production#3")
    assert (back.package, back.requirements) == (said.package, said.requirements)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["loader", "MLmodel"])
def test_a_changed_loader_never_runs_and_is_found_and_restored(made, tmp_path, kind):
    marker, package = tmp_path / "ran", folder_of(made, 2)
    if kind == "loader":
        loader = package / "code/joblib_model.py"
        loader.write_text(loader.read_text() + PWN.format(marker=str(marker)))
    else:
        (package / "code/mine.py").write_text(PWN.format(marker=str(marker)))
        mlmodel = package / "MLmodel"
        mlmodel.write_text(mlmodel.read_text().replace("loader_module: joblib_model", "loader_module: mine"))
    answer = made.json("promote", "m", "--dry-run", code=1)
    (gate,) = failed(answer)
    assert (gate["name"], gate["next"]) == ("pickle.package", "dovetail sync --repair")
    assert "the version's tag says" in gate["detail"]
    (finding,) = findings(made)
    assert kind in finding["why"]
    assert finding["next"] == "dovetail sync --repair"
    before = tag_of(made, 2)
    assert made.json("sync", "--repair")["repaired"] == ["m/2"]
    assert package_digest(package) == tag_of(made, 2) == before
    assert made.json("promote", "m", "--dry-run")["passed"] is True
    assert findings(made) == []
    assert not marker.exists()


@pytest.mark.slow
def test_files_and_tags_changed_together_are_held_against_gits_tag(made):
    made.json("promote", "m")
    package, before = folder_of(made, 2), tag_of(made, 2)
    loader = package / "code/joblib_model.py"
    loader.write_text(loader.read_text() + "\n")
    retag(made.store().client, "m", 2, package=package_digest(package))
    (gate,) = failed(made.json("promote", "m", "--dry-run"))  # exit 0: the alias names it already
    assert (gate["name"], "m#production#1 says" in gate["detail"]) == ("pickle.package", True)
    (finding,) = findings(made)
    assert "loader" in finding["why"]
    (problem,) = made.json("sync", code=1)["problems"]
    assert "is not the one that m#production#1 promoted (loader)" in problem["why"]
    assert problem["next"] == "dovetail sync --repair"
    typed(made, problem["next"])
    assert made.json("sync")["problems"] == []
    assert package_digest(package) == tag_of(made, 2) == before
    assert made.json("promote", "m", "--dry-run")["passed"] is True


def test_a_store_made_anew_has_the_package_that_was_promoted_whatever_is_installed_by_then(made):
    made.json("promote", "m")
    before = note(made, "m#production#1")
    (made.root / "mlflow.db").unlink()
    shutil.rmtree(made.root / "mlruns")
    made.write("requirements.lock", "joblib==0.0.1\n")
    made.commit("other pins")
    assert made.json("sync")["problems"] == []
    assert package_digest(folder_of(made, 2)) == tag_of(made, 2) == before.package


@pytest.mark.slow
def test_a_package_that_git_makes_otherwise_now_is_promoted_again(made):
    made.json("promote", "m")
    text = made.run("git", "tag", "-l", "--format=%(contents)", "m#production#1").stdout
    older = text.replace(tag_of(made, 2), "0" * 64)  # as another version of Dovetail would have written it
    made.run("git", "tag", "-f", "-a", "-m", older, "m#production#1", "HEAD")
    (problem,) = made.json("sync", "--repair", code=1)["problems"]
    assert problem["next"] == "dovetail promote m --version 2"
    answer = made.json("promote", "m", "--version", "2")
    assert answer["tag"] == "m#production#2"
    assert note(made, "m#production#2").package == tag_of(made, 2)
    assert made.json("sync")["problems"] == []


def test_versions_from_before_there_was_a_digest_pass_and_sync_tags_them(made):
    before = tag_of(made, 2)
    retag(made.store().client, "m", 2, package=None)
    (gate,) = [g for g in made.json("promote", "m", "--dry-run")["gates"] if g["name"] == "pickle.package"]
    assert (gate["passed"], gate["detail"]) == (True, "registered before packages had a digest")
    made.json("sync")
    assert tag_of(made, 2) == before


def test_what_allows_more_changes_the_package_and_its_tag_with_it(made):
    before = tag_of(made, 2)
    made.replace("dvc.yaml", "accuracy: {min: 0.5}", "accuracy: {min: 0.5}, pickle: {allow: [mine]}")
    made.json("register", "m")
    assert before != tag_of(made, 2) == package_digest(folder_of(made, 2))


@pytest.mark.slow
def test_killed_while_the_package_changes_the_next_register_completes_it(made):
    made.replace("dvc.yaml", "accuracy: {min: 0.5}", "accuracy: {min: 0.5}, pickle: {allow: [mine]}")
    made.killed("set_model_version_tag", "register", "m")
    assert tag_of(made, 2) != package_digest(folder_of(made, 2))
    made.json("register", "m")
    assert tag_of(made, 2) == package_digest(folder_of(made, 2))
    made.json("promote", "m", "--dry-run")


@pytest.mark.slow
def test_mlflow_may_load_a_version_where_it_lies(made):
    load = "import mlflow; mlflow.pyfunc.load_model('models:/m/2')"
    made.run(sys.executable, "-c", load, MLFLOW_TRACKING_URI=f"sqlite:///{made.root}/mlflow.db")
    assert made.json("promote", "m", "--dry-run")["passed"] is True
