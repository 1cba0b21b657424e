"""Tags that lie or are odd: nothing follows them, every command goes on, and each is told by its name."""

import json
import subprocess

import pytest
import templates
from project import copy_of, isolate

from dovetail.repo.ledger import PROMOTE, Note, read, write
from dovetail.repo.workspace import open_workspace
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
    for name in promoted.run("git", "tag", "--list", "--format=%(refname)").stdout.split():
        if not name.endswith(("m#production#1", "m@v1.0.0")):
            promoted.run("git", "update-ref", "-d", name)


def goes_on(project, word, name="m#production#9"):
    """Every command follows version 1 as before; where there is a `word` that does not fit, it is told with the tag."""
    told = json.loads(project.run("dovetail", "status", "--json", code=None).stdout)["models"][0]
    assert told["production"]["version"] == 1
    found = json.loads(project.run("dovetail", "doctor", "--json", code=None).stdout)["problems"]
    history = project.json("history", "m")["events"]
    problems = {event["tag"]: event["problem"] for event in history}
    assert problems["m#production#1"] == ""
    if word:
        assert word in problems[name]
        for answer in (told["problems"], found):
            (problem,) = [one for one in answer if one["what"].startswith(f"{name}: ")]
            assert word in problem["what"]
            assert problem["next"] == f"git tag -d '{name}'"
    else:
        assert not problems.get(name)
    assert project.json("sync")["aliases"] == []
    assert project.store().aliases()["m"]["production"] == 1
    assert project.json("promote", "m", "--version", "2", "--dry-run", code=None)["from"] == 1
    return history


LIES = {
    "another md5": ({"Model_Md5": "f" * 32}, "Dovetail-Model-Md5"),
    "no md5": ({"Model_Md5": None}, "Dovetail-Model-Md5 is missing"),
    "an md5 that is none": ({"Model_Md5": "f" * 31}, "Dovetail-Model-Md5"),
    "another version's number": ({"Version": 1}, "Dovetail-Version is 1"),
    "a number without end": ({"Version": 100_000_000}, "Dovetail-Version"),
    "a number below one": ({"Version": -2}, "Dovetail-Version"),
    "a number of 6,000 digits": ({"Version": "9" * 6000}, "Dovetail-Version"),
    "an unknown kind": ({"Kind": "bless"}, "Dovetail-Kind"),
    "taken back by hand": ({"Kind": "unassign"}, "Dovetail-Kind"),
    "no kind": ({"Kind": None}, "Dovetail-Kind is missing"),
    "gates that are a number": ({"Gates": 5}, "Dovetail-Gates"),
    "gates without a name": ({"Gates": "[{}]"}, "Dovetail-Gates"),
    "gates without an end": ({"Gates": "[" * 100_000}, "Dovetail-Gates"),
    "a huge number in gates": ({"Gates": f"[{'9' * 6000}]"}, "Dovetail-Gates"),
    "a gate that failed": (
        {"Gates": '[{"name": "champion", "passed": false, "value": 1, "limit": ""}]'},
        "champion",
    ),
    "evidence that is no digest": ({"Evidence": "trust me"}, "Dovetail-Evidence"),
    "a package that is no digest": ({"Package": "\x1f"}, "Dovetail-Package"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_message_that_lies_moves_nothing_and_its_word_is_told(project, lie):
    changed, word = LIES[lie]
    tag(project, message(project, 2, **changed))
    goes_on(project, word)


def test_a_word_that_is_given_twice_moves_nothing(project):
    tag(project, message(project, 2) + "\nDovetail-Version: 1")
    goes_on(project, "Dovetail-Version is given twice")


def test_a_tag_on_a_commit_of_another_version_moves_nothing(project):
    tag(project, message(project, 2), commit_of(project, 1))
    goes_on(project, "Dovetail-Model-Md5")


def test_a_tag_on_a_commit_without_the_model_moves_nothing(project):
    empty = project.run("git", "commit-tree", "-m", "empty", project.run("git", "mktree").stdout.strip()).stdout.strip()
    tag(project, message(project, 2), empty)
    goes_on(project, "no model m")


@pytest.mark.parametrize("kind", ["blob", "tree"])
def test_a_tag_on_no_commit_moves_nothing(project, kind):
    target = project.run("git", "rev-parse", "HEAD:" + ("dvc.lock" if kind == "blob" else "")).stdout.strip()
    tag(project, message(project, 2), target)
    goes_on(project, f"it names a {kind}")


@pytest.mark.parametrize("date", [253_402_300_800, 10**15, 10**30])
def test_a_tag_from_the_year_10000_moves_nothing(project, date):
    tag(project, message(project, 2), tagger=f"Eve <eve@example.org> {date}")
    goes_on(project, "its date is none")


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


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_tag_of_any_name_stops_no_command(project, odd):
    tag(project, name="holiday", **ODD[odd])
    goes_on(project, None, "holiday")
