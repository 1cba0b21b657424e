"""Tags that lie or are odd: nothing follows them, every command goes on, and each is told by its name."""

import hashlib
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import templates
from project import Project, copy_of, isolate
from promotions import promotions

from dovetail.errors import Untrusted
from dovetail.promotion.history import HistoryRequest, history
from dovetail.repo.binding import VersionInMlflow
from dovetail.repo.ledger import PROMOTE, Note, read
from dovetail.repo.ledger_write import write
from dovetail.repo.workspace import open_workspace
from dovetail.serving.trust import Trust
from dovetail.values import tag_keys

EVE = "Eve <eve@example.org> 4000000000"  # in 2096: after every tag that a test makes


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """Version 1 is in production by git's tags and in MLflow, version 2 is the newer one."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        project = copy_of(templates.versions(tmp_path_factory), tmp_path_factory.mktemp("lies") / "p")
        with open_workspace(project.root) as workspace:
            promote(project, workspace.git, 1)
        project.json("sync")
        assert project.store().aliases()["m"]["production"] == 1
        yield project


def md5_of(project, number):
    return project.store().client.get_model_version("m", str(number)).tags[tag_keys.MODEL_MD5]


def commit_of(project, number):
    md5 = md5_of(project, number)
    return project.run("git", "log", "-S", md5, "--format=%H", "--", "dvc.lock").stdout.split()[-1]


def promote(project, git, number):
    note = Note(PROMOTE, number, None, md5_of(project, number), evidence="e" * 64)
    return write(git, read(git.tags()), ("m", "production"), commit_of(project, number), note)


def message(project, number, **changed):
    """What `dovetail promote` would write of a version, with some trailers changed; None: without it."""
    told = {
        "Kind": PROMOTE,
        "Version": number,
        "Model-Md5": md5_of(project, number),
        "Gates": json.dumps([{"name": "data", "passed": True, "value": None, "limit": ""}]),
    } | {key.replace("_", "-"): value for key, value in changed.items()}
    return "\n".join(["Promote", "", *(f"Dovetail-{key}: {value}" for key, value in told.items() if value is not None)])


def tag(project, content, target=None, *, name="m#production#9", tagger=EVE):
    """Write a tag's object byte by byte, as `git tag` would refuse to."""
    target = target or commit_of(project, 2)
    kind = project.run("git", "cat-file", "-t", target).stdout.strip()
    content = content.encode() if isinstance(content, str) else content
    tagger = tagger.encode() if isinstance(tagger, str) else tagger
    line = b"tagger " + tagger + b" +0000\n" if tagger else b""
    body = f"object {target}\ntype {kind}\ntag {name}\n".encode() + line + b"\n" + content + b"\n"
    command = ["git", "hash-object", "-t", "tag", "-w", "--literally", "--stdin"]
    made = subprocess.run(command, cwd=project.root, input=body, capture_output=True, check=True).stdout.decode()
    project.run("git", "update-ref", f"refs/tags/{name}", made.strip())
    return made.strip()


@pytest.fixture
def project(promoted):
    yield promoted
    clean(promoted)


def clean(project):
    for name in project.run("git", "tag", "--list", "--format=%(refname)").stdout.split():
        if not name.endswith(("m#production#1", "m@v1.0.0")):
            project.run("git", "update-ref", "-d", name)


def goes_on(project):
    """Every command follows version 1 as before; returns the events of `history`."""
    told = json.loads(project.run("dovetail", "status", "--json", code=None).stdout)["models"][0]
    assert told["production"]["version"] == 1
    assert project.json("sync")["aliases"] == []
    return project.json("history", "m")["events"]


LIES = {
    "another md5": ({"Model_Md5": "f" * 32}, "Dovetail-Model-Md5"),
    "no md5": ({"Model_Md5": None}, "Dovetail-Model-Md5 is missing"),
    "an md5 that is none": ({"Model_Md5": "f" * 31}, "Dovetail-Model-Md5"),
    "another version's number": ({"Version": 1}, "Dovetail-Version is 1"),
    "a number without end": ({"Version": 100_000_000}, "Dovetail-Version"),
    "given twice": ({"Reason": "x\nDovetail-Version: 1"}, "Dovetail-Version is given twice"),
    "a number below one": ({"Version": -2}, "Dovetail-Version"),
    "a number of 6,000 digits": ({"Version": "9" * 6000}, "Dovetail-Version"),
    "an unknown kind": ({"Kind": "bless"}, "Dovetail-Kind"),
    "taken back by hand": ({"Kind": "unassign"}, "Dovetail-Kind"),
    "no kind": ({"Kind": None}, "Dovetail-Kind is missing"),
    "gates that are a number": ({"Gates": 5}, "Dovetail-Gates"),
    "gates without a name": ({"Gates": "[{}]"}, "Dovetail-Gates"),
    "a gate whose limit is a number": ({"Gates": '[{"name": "a", "passed": true, "limit": 5}]'}, "Dovetail-Gates"),
    "gates without an end": ({"Gates": "[" * 100_000}, "Dovetail-Gates"),
    "a huge number in gates": ({"Gates": f"[{'9' * 6000}]"}, "Dovetail-Gates"),
    "a gate that failed": (
        {"Gates": '[{"name": "champion", "passed": false, "value": 1, "limit": ""}]'},
        "champion",
    ),
    "evidence that is no digest": ({"Evidence": "trust me"}, "Dovetail-Evidence"),
    "a package that is no digest": ({"Package": "\x1f"}, "Dovetail-Package"),
}


ODD = {
    "latin-1": {"content": "für sich".encode("latin-1")},
    "a latin-1 tagger": {"content": "x", "tagger": "J\u00fcrgen <j@example.org> 1".encode("latin-1")},
    "separators": {"content": "x\x1fy\x1e\x1fz\x1e"},
    "carriage returns": {"content": "x\rDovetail-Kind: promote\ry"},
    "NUL": {"content": b"x\0y\0z"},
    "nothing": {"content": ""},
    "a megabyte": {"content": "x" * 1_000_000},
    "no tagger": {"content": "x", "tagger": None},
    "a tagger without a name": {"content": "x", "tagger": "<> 1"},
    "a tagger with separators": {"content": "x", "tagger": "\x1e\x1f <\x1f> 1"},
    "a negative date": {"content": "x", "tagger": "Eve <eve@example.org> -5"},
    "a date that is none": {"content": "x", "tagger": "Eve <eve@example.org> soon"},
    "signed": {"content": "x\n-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----"},
}


def _places(project):
    """What else a tag may name, with the word that says so."""
    empty = project.run("git", "commit-tree", "-m", "empty", project.run("git", "mktree").stdout.strip()).stdout.strip()
    blob, tree = (project.run("git", "rev-parse", f"HEAD:{path}").stdout.strip() for path in ("dvc.lock", ""))
    return {
        "the commit of another version": (commit_of(project, 1), "Dovetail-Model-Md5"),
        "a commit without the model": (empty, "no model m"),
        "a blob": (blob, "it names a blob"),
        "a tree": (tree, "it names a tree"),
    }


PLACES = ("the commit of another version", "a commit without the model", "a blob", "a tree")
DATES = (253_402_300_800, 10**15, 10**30, -5)


@pytest.fixture(scope="module")
def told(promoted):
    """A tag for each lie and oddity at once, and what every command answers then."""
    words, places = {}, _places(promoted)
    for lie, (changed, word) in LIES.items():
        words[lie] = (f"m#production#{len(words) + 10}", word)
        tag(promoted, message(promoted, 2, **changed), name=words[lie][0])
    for place, (target, word) in places.items():
        words[place] = (f"m#production#{len(words) + 10}", word)
        tag(promoted, message(promoted, 2), target, name=words[place][0])
    for date in DATES:
        words[date] = (f"m#production#{len(words) + 10}", "its date is not valid")
        tag(promoted, message(promoted, 2), name=words[date][0], tagger=f"Eve <eve@example.org> {date}")
    for odd, about in ODD.items():
        tag(promoted, name=odd.replace(" ", "-"), **about)
    answers = {
        command: json.loads(promoted.run("dovetail", *command.split(), "--json", code=None).stdout)
        for command in ("status", "doctor", "history m", "sync", "promote m --version 2 --dry-run")
    }
    answers["serve"] = [vouched(promoted, number) for number in (1, 2)]
    clean(promoted)
    return words, answers


def vouched(project, number):
    """What a server hears of a version that MLflow shows as production."""
    try:
        return Trust(project.root, None).check(VersionInMlflow("m", "production", number, md5_of(project, number)))
    except Untrusted as error:
        return error


@pytest.mark.parametrize("lie", [*LIES, *PLACES, *DATES])
def test_a_tag_that_lies_is_told_with_its_word_by_status_history_and_doctor(told, lie):
    words, answers = told
    name, word = words[lie]
    (event,) = [event for event in answers["history m"]["events"] if event["tag"] == name]
    assert word in event["problem"]
    for problems in (answers["status"]["models"][0]["problems"], answers["doctor"]["problems"]):
        (problem,) = [problem for problem in problems if problem["what"].startswith(f"{name}: ")]
        assert word in problem["what"]
        assert problem["next"] == f"git tag -d '{name}'"


def test_no_tag_that_lies_or_is_odd_moves_anything(told, promoted):
    _, answers = told
    assert answers["status"]["models"][0]["production"]["version"] == 1
    assert answers["sync"]["aliases"] == []
    assert answers["promote m --version 2 --dry-run"]["from"] == 1
    followed, refused = answers["serve"]
    assert (followed.trust, followed.direct, followed.commit) == ("ledger", True, commit_of(promoted, 1))
    assert "version 2" in refused.message
    assert [event["tag"] for event in answers["history m"]["events"] if not event["problem"]] == ["m#production#1"]


EARLY = "Eve <eve@example.org> 1000000"  # in 1970: before every tag that a test makes


def test_a_backdated_tag_takes_no_number_from_the_version_that_has_it(project):
    tag(project, message(project, 2, Version=1), tagger=EARLY)
    events = {event["tag"]: event for event in goes_on(project)}
    assert "Dovetail-Version is 1" in events["m#production#9"]["problem"]
    assert (events["m#production#1"]["problem"], events["m#production#1"]["version"]) == ("", 1)


def test_where_no_tag_says_whose_number_it_is_it_counts_for_none_and_both_are_named(project):
    names = ("m#production#8", "m#production#9")
    for name, number, when in zip(names, (2, 1), (EARLY, EARLY.replace("1000000", "2000000")), strict=True):
        tag(project, message(project, number, Version=7), commit_of(project, number), name=name, tagger=when)
    events = {event["tag"]: event for event in goes_on(project)}
    problems = project.json("doctor", code=1)["problems"]
    for name in names:
        assert events[name]["version"] is None
        assert all(other in events[name]["problem"] for other in names)
        assert [problem["severity"] for problem in problems if problem["what"].startswith(f"{name}: ")] == ["warning"]


def test_a_rollback_does_not_go_back_to_what_a_lying_tag_named(project):
    tag(project, message(project, 2, Model_Md5="f" * 32), tagger=EARLY, name="m#production#9")
    assert "has no earlier version to roll back to" in project.run("dovetail", "rollback", "m", code=2).stderr
    with open_workspace(project.root) as workspace:
        promote(project, workspace.git, 2)
    tag(project, message(project, 1, Version=2), commit_of(project, 1), name="m#production#11")  # between the two
    tag(project, message(project, 2, Kind="bless"), name="m#production#12")
    project.json("sync")
    answer = project.json("rollback", "m")
    assert (answer["from"], answer["to"]) == (2, 1)
    assert project.store().aliases()["m"]["production"] == 1


def test_a_tagger_or_message_in_another_encoding_is_shown_as_far_as_it_can_be_read(project):
    project.run("git", "config", "i18n.logOutputEncoding", "latin-1")
    project.run("git", "config", "i18n.commitEncoding", "latin-1")
    tag(
        project,
        "J\u00fcrgen fand es gut".encode("latin-1"),
        commit_of(project, 1),
        tagger=EVE.replace("Eve", "J\u00f6rg"),
    )
    events = goes_on(project)
    project.run("git", "config", "--unset", "i18n.logOutputEncoding")
    project.run("git", "config", "--unset", "i18n.commitEncoding")
    assert (events[0]["actor"], events[0]["reason"]) == ("J\u00f6rg <eve@example.org>", "J\ufffdrgen fand es gut")


def test_a_tag_of_a_tag_names_its_commit(project):
    inner = tag(project, "x", commit_of(project, 1), name="inner")
    tag(project, message(project, 1), tag(project, "x", inner, name="outer"))
    assert goes_on(project)[0]["commit"] == commit_of(project, 1)


@pytest.mark.slow
def test_edited_evidence_forged_gates_and_deleted_evidence_are_told(project):
    run = project.store().client.get_model_version("m", "2").run_id
    path = "promotions/production-9.json"
    gate = {"name": "data", "passed": True, "value": None, "limit": ""}
    text = json.dumps({"gates": [gate | {"detail": "all of it"}, gate | {"name": "champion"}]})
    sha = hashlib.sha256(text.encode()).hexdigest()

    def told(stored, gates):
        if stored:
            project.store().client.log_text(run, stored, path)
        tag(project, message(project, 2, Evidence=sha, Gates=json.dumps(gates)))
        found = json.loads(project.run("dovetail", "doctor", "--json", code=None).stdout)["problems"]
        return [problem["what"] for problem in found if problem["what"].startswith("m#production#9: ")]

    both = [gate, gate | {"name": "champion"}]
    assert not [what for what in told(text, both) if "evidence" in what]
    assert any("was edited" in what for what in told(text + " ", both))
    assert any("Dovetail-Gates says of data" in what for what in told(text, [gate | {"value": 0.9}, both[1]]))
    assert any("Dovetail-Gates lacks champion" in what for what in told(text, [gate]))
    folder = project.store().client.get_run(run).info.artifact_uri.removeprefix("file://")
    Path(folder, path).unlink()
    assert any("was deleted" in what for what in told(None, both))


@pytest.mark.slow
def test_promotions_that_the_remote_lacks_are_told_and_a_silent_remote_is_no_error(project, tmp_path):
    def told():
        found = json.loads(project.run("dovetail", "doctor", "--json", code=None).stdout)["problems"]
        return [problem["next"] for problem in found if "git remote" in problem["what"]]

    assert told() == []
    project.run("git", "init", "-q", "--bare", str(tmp_path / "remote"))
    project.run("git", "remote", "add", "origin", str(tmp_path / "remote"))
    (following,) = told()
    assert following == "git push origin 'refs/tags/m#production#1' refs/tags/m@v1.0.0"
    project.run("sh", "-c", following)
    assert told() == []
    project.run("git", "push", "-q", "--delete", "origin", "m@v1.0.0")
    project.run("git", "remote", "set-url", "origin", str(tmp_path / "nowhere"))
    assert told() == []
    project.run("git", "remote", "remove", "origin")


@pytest.mark.slow
def test_history_asks_git_as_often_for_2000_promotions_as_for_20(tmp_path, tmp_path_factory, monkeypatch):
    asked = {}
    for count in (20, 2000):
        project = Project(shutil.copytree(templates.small(tmp_path_factory), tmp_path / str(count), symlinks=True))
        promotions(project.root, count)
        trace = tmp_path / f"{count}.trace"
        monkeypatch.setenv("GIT_TRACE", str(trace))
        start = time.process_time()
        with open_workspace(project.root) as workspace:
            answer = history(workspace, HistoryRequest("m"))
        assert time.process_time() - start < 20  # quadratic it was a minute
        monkeypatch.delenv("GIT_TRACE")
        asked[count] = trace.read_text().count("built-in: git")
        assert [event.problem for event in answer.events] == [""] * count
    assert asked[20] == asked[2000] < 10
