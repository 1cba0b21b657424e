"""The ways in which people break files, one by one: a line that names file and place, or the command goes on."""

import re
from itertools import cycle

import pytest
import templates
from broken_files import CONFLICT, HUGE, Broken
from project import copy_of

PLACE = r"line \d+|the whole is|schema is|Is a directory|No such file|Too many levels|validation failed|Could not find"
DOCUMENTS = ("params.yaml", "dvc.yaml", "dvc.lock")
REFUSED = {
    "truncated": lambda text: text[: max(text.rfind("{") + 1, text.rfind("md5: ") + 3)],
    "conflict markers": lambda text: CONFLICT.replace("{0}", text),
    "a text": lambda _: "hello\n",
    "a list": lambda _: "- a\n",
    "a number": lambda _: "5\n",
    "a key twice": lambda text: text + text,
    "a huge number": lambda text: f"{text}\nx: {HUGE}\n",
    "a date that is none": lambda text: f"{text}\nx: 2020-13-45\n",
    "an anchor in itself": lambda text: f"{text}\nz: &z [*z]\n",
    "a tab": lambda text: f"{text}\n\tx: 1\n",
    "not UTF-8": lambda text: text.encode() + "\nname: f\u00fcr\n".encode("latin-1"),
    "an unknown schema": lambda text: text.replace("schema: '2.0'", "schema: '9.9'").replace("stages:", "stagez:"),
}
IN_PLACE = ("folder", "dangling link", "link to itself")
GOES_ON = {"a byte-order mark": lambda text: "\ufeff" + text, "CRLF": lambda text: text.replace("\n", "\r\n")}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        templates.isolate(tmp_path_factory, patch)
        project = copy_of(templates.judged(tmp_path_factory), tmp_path_factory.mktemp("named") / "judged")
        patch.chdir(project.root)
        yield Broken.of(project)


def made(broken, file, how):
    content = {**REFUSED, **GOES_ON}[how](broken.texts[file]) if how not in IN_PLACE else how
    return content.encode() if isinstance(content, str) and how not in IN_PLACE else content


def _cases():
    """Each breakage in each document, with one command after the other."""
    verbs = cycle(("status", "register", "promote", "sync", "lineage", "diff"))
    for how in (*REFUSED, *IN_PLACE):
        for file in DOCUMENTS:
            if (how, file) != ("an unknown schema", "params.yaml"):  # it has none
                yield file, how, next(verbs)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("file", "how", "verb"), list(_cases()))
def test_a_broken_document_is_refused_in_one_line_that_names_file_and_place_and_nothing_is_written(
    broken, file, how, verb
):
    with broken.broken(file, made(broken, file, how), old=False):
        before = broken.state()
        code, said = broken.told(verb)
        assert (code, said.count("\n")) == (2, 1), said
        assert file in said
        assert re.search(PLACE, said), said
        assert broken.state() == before


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("how", "file"), list(zip(REFUSED, cycle(DOCUMENTS), strict=False)))
def test_the_commit_and_the_file_that_cannot_be_read_are_named_and_sync_tells_them_once_and_goes_on(broken, how, file):
    if (how, file) == ("an unknown schema", "params.yaml"):
        file = "dvc.lock"
    with broken.broken(file, made(broken, file, how), old=True):
        sha = broken.git("rev-parse", "--short=8", "HEAD~1")
        code, said = broken.told("lineage of an old commit")
        assert (code, said.count("\n")) == (2, 1), said
        assert sha in said
        assert file in said
        assert re.search(PLACE, said), said
        code, said = broken.told("sync of all")
        assert "versions: 0 created" in said
        assert (code, said.count("not restored")) == ((0, 0) if file == "params.yaml" else (1, 1)), said


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("how", GOES_ON)
def test_a_byte_order_mark_and_the_line_ends_of_windows_change_nothing(broken, how):
    for file in DOCUMENTS:
        with broken.broken(file, made(broken, file, how), old=False):
            code, said = broken.told("status")
            assert (code, "workspace version 1" in said) == (0, True), said


MARKED = CONFLICT.replace("{0}", "a: 1\n").encode()
NO_MD5 = b"outs:\n- {md5: [], path: extra.csv}\n"
OTHERS = {
    ".dvc/config: a text": (".dvc/config", b"hello\n", "register", "line 1"),
    ".dvc/config: conflict markers": (".dvc/config", CONFLICT.replace("{0}", "[core]\n").encode(), "status", "line 1"),
    ".dvc/config: a folder": (".dvc/config", "folder", "sync", "Is a directory"),
    ".dvc/config: an unknown key": (".dvc/config", b"[core]\n    remotee = x\n", "status", "remotee"),
    ".dvc/config.local: not UTF-8": (".dvc/config.local", b"[c\xfcre]\n", "promote", "utf-8"),
    "a .dvc file: a text": ("extra.csv.dvc", b"hello\n", "status", "the whole is 'hello'"),
    "a .dvc file: conflict markers": ("extra.csv.dvc", MARKED, "register", "line 1"),
    "a .dvc file: a folder": ("extra.csv.dvc", "folder", "doctor", "extra.csv.dvc"),
    "a .dvc file: an md5 that is none": (
        "extra.csv.dvc",
        NO_MD5,
        "sync",
        "outs.0.md5",
    ),
    "a card: a list": ("card.json", b"[]", "register", "card.json"),
    "a card: truncated": ("card.json", b'{"a": ', "register", "card.json"),
    "metrics: a huge number": ("metrics.json", f'{{"a": {HUGE}}}'.encode(), "register", "metrics.json"),
    "metrics: a folder": ("metrics.json", "folder", "status", "metrics.json"),
    "a .dvc file: empty": ("extra.csv.dvc", b"", "doctor", "extra.csv.dvc is empty"),
    "dvc.yaml: empty": ("dvc.yaml", b"", "doctor", "dvc.yaml is empty"),
}


ADDED = {
    "conflict markers": (CONFLICT.replace("{0}", "a1\n").encode(), "line 1"),
    "binary": (b"\xff\x00", "not UTF-8"),
    "a NUL byte": (b"a1\n\x00\n", "line 2"),
    "a folder": ("folder", "a folder"),
    "a link": ("dangling link", "no file"),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("how", ADDED)
def test_a_broken_record_of_added_rows_stops_retraining_before_anything_is_run(broken, how):
    content, place = ADDED[how]
    broken.put("extra.csv.added", content)
    broken.git("add", "-A", "extra.csv.added")
    broken.git("commit", "-qm", "broken")
    try:
        before = broken.state()
        code, said = broken.told("retrain")
        assert (code, said.count("\n")) == (2, 1), said
        assert "extra.csv.added" in said
        assert place in said
        assert broken.state() == before
    finally:
        broken.git("reset", "-q", "--hard", broken.head)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", OTHERS)
def test_any_other_file_that_is_broken_is_named_by_the_command_that_reads_it(broken, case):
    file, content, verb, place = OTHERS[case]
    with broken.broken(file, content, old=False):
        before = broken.state()
        code, said = broken.told(verb)
        assert code in (1, 2), said
        assert file in said
        assert place in said
        assert "Traceback" not in said
        assert broken.state() == before
