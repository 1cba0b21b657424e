"""What a server may serve is said outside of MLflow: bytes and tags changed together there are never read."""

import json
import shutil
from pathlib import Path

import pytest
import templates
from next_commands import following, typed
from project import Project, copy_of, retag
from serving import Server, point

from dovetail.repo.git import Git
from dovetail.repo.ledger import PROMOTE, Note, read
from dovetail.repo.ledger_write import write
from dovetail.tracking.package_digest import package_digest
from dovetail.values import tag_keys

pytestmark = pytest.mark.slow
BAD = b"cos\nsystem\n(S'touch tampered'\ntR."
BAD_MD5 = "814b79b1e9e857695adcec8a0da4a481"


@pytest.fixture
def project(tmp_path_factory, tmp_path):
    project = copy_of(templates.served(tmp_path_factory), tmp_path / "p")
    yield project
    assert not list(tmp_path.rglob("tampered"))


def md5_of(project, version):
    return project.store().client.get_model_version("m", str(version)).tags[tag_keys.MODEL_MD5]


def package(project, version):
    """The folder of a version's files in the registry."""
    source = project.store().client.get_model_version_download_uri("m", str(version))
    return Path(source.removeprefix("file://"))


def tag(project, version, **changed):
    """Let git's tags say that production is this version, as `dovetail promote` does."""
    about = {"md5": md5_of(project, version), "package": package_digest(package(project, version)), **changed}
    git = Git(project.root)
    commit = git("log", "-S", about["md5"], "--format=%H", "--", "dvc.lock").split()[-1]
    return write(git, read(git.tags()), ("m", "production"), commit, Note(PROMOTE, version, None, **about))


def forge(project, version):
    """Change a version's bytes in the registry and what MLflow's tags say of them. Returns their digest."""
    (package(project, version) / "data" / "m.joblib").write_bytes(BAD)
    retag(project.store().client, "m", version, model_md5=BAD_MD5, pickle_allow="posix.system,os.system")
    return BAD_MD5


def refused(project, *args, ref="m@production", **env):
    """What a server says that does not start."""
    with Server(project, *args, ref=ref, wait=False, **env) as server:
        assert server.process.wait(90) == 3
        return server.process.stderr.read().decode()


def loads(server):
    return server.health()["problems"].get("load", "")


def test_bytes_and_tags_changed_together_are_not_served(project):
    promoted, good = tag(project, 1), md5_of(project, 1)
    with Server(project) as server:
        assert server.health()["trust"] == "ledger"
        forged = forge(project, 1)
        server.until(lambda: loads(server))
        assert all(said in loads(server) for said in (promoted, good, forged))
        assert server.predict().json["predictions"][0].startswith("one:")
    with Server(project) as server:  # the copy is what the tag names
        server.until(lambda: promoted in loads(server))
        assert server.predict().json["predictions"][0].startswith("one:")
    for kept in (project.root / "mlruns/serving").rglob("last.json"):
        kept.unlink()
    assert f"{promoted} names md5 {good}; next: dovetail sync --repair" in refused(project)
    assert f"{promoted} names md5 {good}" in refused(project, ref="m/1")


def test_an_alias_that_moved_without_a_tag_is_not_followed_and_one_that_comes_after_its_tag_is(project):
    first = tag(project, 1)
    with Server(project) as server:
        point(project, 2)
        server.until(lambda: first in loads(server))
        assert server.predict().version == "1"
        point(project, 1)
        server.until(lambda: server.health()["status"] == "ok")
        failures = server.metric("dovetail_load_failures_total")
        client = project.store().client  # made before the tag, which the alias has to follow within three seconds
        tag(project, 2)
        server.until(lambda: server.predict().version == "1")
        client.set_registered_model_alias("m", "production", "2")
        server.until(lambda: server.predict().version == "2")
        assert server.metric("dovetail_load_failures_total") == failures
        assert server.health()["trust"] == "ledger"


def test_a_changed_loader_is_refused_by_the_tag_in_git_and_by_that_of_the_version(project):
    digest = package_digest(package(project, 1))
    retag(project.store().client, "m", 1, package=digest)
    with Server(project) as server:
        assert server.health()["trust"] == "none"
    with next((package(project, 1) / "code").rglob("*.py")).open("a") as loader:
        loader.write("\nopen('tampered', 'w')\n")
    for kept in (project.root / "mlruns/serving").rglob("last.json"):
        kept.unlink()
    for kept in (project.root / "mlruns/serving/m@production").glob("1-*/code/*.py"):
        kept.write_text("open('tampered', 'w')\n")
    assert f"MLflow's tag of the version names (sha256 {digest})" in refused(project)
    promoted = tag(project, 1, package=digest)
    assert f"the tag {promoted} names (sha256 {digest}); next: dovetail sync --repair" in refused(project)


def test_a_kept_copy_that_nobody_signed_is_not_used(project):
    with Server(project) as server:
        assert server.health()["trust"] == "none"
    keep = project.root / "mlruns/serving/m@production"
    said = json.loads((keep / "last.json").read_text())
    store = project.root / "mlflow.db"
    store.rename(project.root / "away.db")
    with Server(project) as server:  # as it was left
        assert server.predict().version == "1"
    folder = keep / f"1-{BAD_MD5}"
    Path(said["folder"]).rename(folder)
    (folder / "data" / "m.joblib").write_bytes(BAD)
    forged = {**said, "md5": BAD_MD5, "folder": str(folder), "allow": ["os.system"], "package": package_digest(folder)}
    (keep / "last.json").write_text(json.dumps(forged))
    assert "this user's key did not sign it" in refused(project)
    (project.root / "away.db").rename(store)
    with Server(project) as server:  # from MLflow, and it says what it found
        assert "this user's key did not sign it" in server.health()["problems"]["copy"]
        assert server.predict().version == "1"


def test_a_kept_copy_that_the_tag_does_not_name_is_not_used(project):
    with Server(project):
        pass
    promoted = tag(project, 2)
    (project.root / "mlflow.db").rename(project.root / "away.db")
    assert f"{promoted} names md5" in refused(project)


def test_a_kept_copy_whose_files_are_not_what_the_tag_names_is_not_used(project):
    promoted = tag(project, 1)
    with Server(project):
        pass
    (project.root / "mlflow.db").rename(project.root / "away.db")
    for key in Path.home().rglob("kept-copies.key"):
        key.unlink()
    with Server(project) as server:  # no key signed it, git's tag names it
        assert server.health()["trust"] == "ledger"
    for example in (project.root / "mlruns/serving").rglob("serving_input_example.json"):
        example.write_text("{}")
    assert f"the tag {promoted} names" in refused(project)


def test_without_the_repository_a_file_says_what_may_be_served(project, tmp_path):
    file = tmp_path / "trust.json"
    project.run("dovetail", "promote", "m", "--version", "1", "--force", "--reason", "a test", "--trust", str(file))
    said = json.loads(file.read_text())
    assert set(said) == {"m@production", "m/1"}
    assert said["m/1"]["md5"] == md5_of(project, 1)
    alone = Project(tmp_path / "alone", {"MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db"})
    alone.root.mkdir()
    with Server(alone) as server:
        assert (server.health()["trust"], server.health()["problems"]) == ("none", {})
    with Server(alone, "--trust", str(file)) as server:
        assert server.health()["trust"] == "file"
        point(project, 2)
        server.until(lambda: str(file) in loads(server))
        assert server.predict().version == "1"
    shutil.rmtree(alone.root / "mlruns")  # the copy in there is what the file names, and would do
    tried = refused(alone, "--trust", str(file))
    assert f"{file} names md5 {said['m/1']['md5']}" in tried
    assert f"next: dovetail promote m --trust {file}" in tried
    assert f"{file} does not name m/2" in refused(alone, "--trust", str(file), ref="m/2")
    file.write_text("[]")
    assert "is not a trust file" in alone.run("dovetail", "serve", "m", "--trust", str(file), code=2).stderr


def test_a_promoted_version_that_cannot_be_served_is_rolled_back(project):
    tag(project, 1)
    example = package(project, 2) / "serving_input_example.json"
    example.write_text(json.dumps({"dataframe_split": {"columns": ["size"], "data": [[1.0]]}}))
    digest = package_digest(package(project, 2))
    retag(project.store().client, "m", 2, package=digest)
    tag(project, 2)
    point(project, 2)
    said = refused(project)
    typed(project, following(said, "is version 2, which cannot be served")[0])
    with Server(project) as server:
        assert server.predict().version == "1"


def test_a_version_that_is_not_what_the_tag_names_is_not_rebuilt(registered):
    git = Git(registered.root)
    model = next(iter(registered.store().client.search_registered_models())).name
    md5 = registered.store().client.get_model_version(model, "1").tags[tag_keys.MODEL_MD5]
    note = Note(PROMOTE, 1, None, md5=md5)
    promoted = write(git, read(git.tags()), (model, "production"), git("rev-parse", "HEAD"), note)
    registered.store().client.set_model_version_tag(model, "1", tag_keys.MODEL_MD5, "0" * 32)
    said = registered.run("dovetail", "reproduce", f"{model}/1", code=3).stderr
    assert f"the tag {promoted} names md5 {md5}; next: dovetail sync --repair" in said
    assert said.count("\n") == 1
