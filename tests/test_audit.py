"""A stage is run in a copy, and what it used without declaring it is told; the workspace stays as it is."""

import hashlib
import os

import pytest

UNTIDY = """
import subprocess, sys
import pyarrow.parquet
import lib.bare
from lib import scale
rows = open("data.csv").read().splitlines()
more = open("extra.csv").read()
frame = pyarrow.parquet.read_table("table.parquet", use_threads=False)
for number in range(5):
    open(f"pictures/{number}.txt").read()
subprocess.run([sys.executable, "child.py"], check=True)
open("stray.txt", "w").write(more)
open("kept.txt", "w").write(scale.times(rows))
"""

UNTIDY_YAML = """
stages:
  untidy:
    cmd: python untidy.py && cat notes.txt > /dev/null
    deps: [untidy.py, data.csv]
    outs: [kept.txt]
  made:
    foreach: [one, two]
    do:
      cmd: [mkdir -p made, "python -c 'open(\\"made/${item}.txt\\", \\"w\\"); open(\\"params.yaml\\").read()'"]
      outs: ["made/${item}.txt"]
  broken:
    cmd: "python -c 'raise SystemExit(\\"no such luck\\")'"
    deps: [data.csv]
    outs: [never.txt]
"""


@pytest.fixture
def untidy(small):
    import pyarrow as pa
    import pyarrow.parquet as pq

    small.write("untidy.py", UNTIDY)
    small.write("lib/__init__.py", "SCALE = 1\n")
    small.write("lib/bare/__init__.py", '"""Does nothing."""\n')
    small.write("lib/scale.py", "def times(rows):\n    return str(len(rows))\n")
    small.write("extra.csv", "a\n1\n")
    small.write("notes.txt", "read by no Python\n")
    small.write("child.py", "import os, json\nos.environ.clear()\njson.load(open('child.json'))\n")
    small.write("child.json", "{}")
    pq.write_table(pa.table({"a": [1]}), small.root / "table.parquet")
    for number in range(5):
        small.write(f"pictures/{number}.txt", "x")
    small.write("dvc.yaml", UNTIDY_YAML)
    return small


def tree(root):
    """Every file of the workspace but locks, with its content and time."""
    files = (p for p in root.rglob("*") if p.is_file() and ".dvc/tmp" not in p.as_posix())
    return {p: (hashlib.md5(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files}


def keeps_access_times(folder):
    probe = folder / "probe"
    probe.write_bytes(b"x")
    os.utime(probe, (0, 0))
    probe.read_bytes()
    return probe.stat().st_atime > 0


def test_what_a_stage_uses_without_declaring_it_is_told_and_nothing_is_touched(untidy, tmp_path):
    before = tree(untidy.root)
    answer = untidy.json("doctor", "--trace", "untidy", code=1)
    assert tree(untidy.root) == before
    assert list((untidy.root / ".dvc/tmp").glob("trace-*")) == []
    told = {one["what"].removeprefix("stage untidy ").partition(",")[0]: one for one in answer["problems"]}
    seen_anyhow = {
        "reads child.json (child.py:3)", "reads child.py", "reads extra.csv (untidy.py:7)",
        "reads lib/__init__.py (untidy.py:4)", "reads lib/scale.py (untidy.py:5)", "reads pictures (untidy.py:10)",
        "writes stray.txt (untidy.py:12)",
    }  # fmt: skip
    if keeps_access_times(tmp_path):
        assert told.keys() == seen_anyhow | {"reads table.parquet", "reads notes.txt"}
        assert answer["unseen"] == []
    else:
        assert told.keys() == seen_anyhow
        assert "access times" in answer["unseen"][0]
    extra = told["reads extra.csv (untidy.py:7)"]
    assert (extra["severity"], extra["next"]) == (
        "error", "in dvc.yaml, add extra.csv to the deps of untidy, then: dvc repro untidy"
    )  # fmt: skip


def test_what_is_declared_is_not_told_and_the_edits_advised_mend_it(untidy):
    untidy.replace(
        "dvc.yaml",
        "deps: [untidy.py, data.csv]\n    outs: [kept.txt]",
        "deps: [untidy.py, data.csv, lib, extra.csv, table.parquet, pictures, child.py, child.json, notes.txt]\n"
        "    outs: [kept.txt, stray.txt]",
    )
    answer = untidy.json("doctor", "--trace", "untidy")
    assert answer["problems"] == []
    untidy.run("dvc", "repro", "-q", "untidy")


@pytest.mark.slow
def test_clean_stages(small):
    small.run("dvc", "repro", "-q", "register")
    counts = small.store().counts()
    for stage in ("train", "register"):
        assert small.json("doctor", "--trace", stage)["problems"] == []
    assert small.store().counts() == counts


def test_params_that_are_not_declared_and_a_stage_of_a_foreach(untidy):
    (params,) = untidy.json("doctor", "--trace", "made@one", code=1)["problems"]
    assert params["what"] == "stage made@one reads params.yaml, which it does not declare"
    assert params["next"] == "in dvc.yaml, add params.yaml to the params (by key) of made, then: dvc repro made@one"


def test_a_stage_that_fails_or_is_not_there(untidy):
    (failed,) = untidy.json("doctor", "--trace", "broken", code=1)["problems"]
    assert (failed["why"], failed["next"].split(",")[0]) == ("no such luck", "dvc repro -f broken")
    error = untidy.json("doctor", "--trace", "nothing", code=2)["error"]
    assert error["kind"] == "UnknownStage"
    assert "untidy" in error["message"]
    (untidy.root / "data.csv").unlink()
    assert untidy.json("doctor", "--trace", "untidy", code=2)["error"]["kind"] == "MissingFile"
