"""What MLflow's pages say of a run and a version: short, the same in a store made anew, other people's words kept."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import templates

from dovetail.registration.row_counts import RowCounts
from dovetail.repo.workspace import open_workspace
from dovetail.values.description import (
    CommitFact,
    DataFact,
    EventFact,
    Facts,
    GateFact,
    LookFact,
    body,
    headline,
    rows_said,
)
from dovetail.values.description_block import MOST, block, merged
from dovetail.values.lineage import FileRef, Lineage, StageRecord
from dovetail.values.tag_keys import NOTE

FACTS = Facts(
    model="m",
    version=3,
    about="Tells apples apart.",
    metrics={
        "accuracy": 0.83751, "accuracy_low": 0.7416, "accuracy_high": 0.9025, "baseline.accuracy": 0.36, "rows": 80.0,
        "clean.rows_in": 400.0, "loss": float("inf"),
    },
    gates=(
        GateFact("champion", passed=True, value=None, limit="not worse"),
        GateFact("accuracy", passed=False, value=0.8375, limit="accuracy ≥ 0.9"),
    ),
    data=(
        DataFact(FileRef("raw.csv", "a" * 32), "source", 400),
        DataFact(FileRef("train.parquet", "b" * 32), "training", 1320),
    ),
    commit=CommitFact("c" * 40, "Add *apples*", "Ada"),
    events=(
        EventFact("Promoted to production against its gates", 1_700_000_000, "Ada", "m#production#1", "a <b>test"),
    ),
    looks=(LookFact("Monitored", "drift", "2026-11-26T19:25:30Z"),),
)  # fmt: skip
SAID = """\
Tells apples apart.

**Metrics**

- `accuracy` **0.8375**, interval 0.7416 to 0.9025, baseline 0.36
- `loss` **∞**
- `rows` **80**

**Gates**

- **FAILED** `accuracy`: 0.8375, asked accuracy ≥ 0.9
- pass champion

**Data**

- `train.parquet` training, 1,320 rows, md5 `bbbbbbbb`
- `raw.csv` source, 400 rows, md5 `aaaaaaaa`

**From**

- **Commit** `cccccccc` Add \\*apples\\*, by Ada
- **Promoted to production against its gates** on 2023-11-14 22:13 UTC by Ada, `m#production#1`: “a &lt;b&gt;test”
- **Monitored** 2026-11-26 19:25 UTC: drift

**Next**: `dovetail show m/3` · `dovetail diff m/3 workspace:m` · `dovetail history m` · `dovetail serve m/3` \
· `dovetail reproduce m/3`"""


def test_the_text_of_all_facts():
    assert headline(FACTS) == "accuracy 0.8375 (0.7416 to 0.9025), gate accuracy FAILED"
    assert body(FACTS) == SAID
    assert rows_said(SAID) == {"a" * 8: 400, "b" * 8: 1320}
    assert headline(Facts("m", None)) == "m"
    assert "`dovetail register m`" in body(Facts("m", None))
    assert "`dvc exp apply left-hand`" in body(Facts("m", None, experiment="left-hand"))


@pytest.mark.parametrize("text", ["<!-- /dovetail -->", "a`b|c\nd", "<script>", "*_[x](y)\\", "\x00\udce9", "é" * 300])
def test_nobody_s_name_breaks_out_of_the_block(text):
    strange = Facts(
        text, 1, text, text, {text: 1.0}, (GateFact(text, passed=False, value=0.0, limit=text),),
        (DataFact(FileRef(text, text), text, 1),) * 99, CommitFact("c" * 40, text, text),
        (EventFact(text, 1, text, text, text),) * 99, (LookFact(text, text, text),),
    )  # fmt: skip
    for most in (6, 0):
        made = block(headline(strange), body(strange, most))
        assert made.count("<!--") == 2
        assert made.endswith("\n\n<!-- /dovetail -->")
        again = merged(f"mine\n\n{made}\n\nmine too", headline(strange), body(strange, most))
        assert again in (f"mine\n\n{made}\n\nmine too", None)
    assert len(body(strange, 0).replace(text, "")) < 3000


def test_words_of_others_stay_where_they_are():
    old = block("old 1", "- what was\n- what stays")
    fresh = block("new 2", "- what is\n- what stays")

    def updated(text, **former):
        return merged(text, "new 2", "- what is\n- what stays", **former)

    assert updated("") == updated(old) == updated(fresh) == fresh
    assert updated("Mine.", former="Mine.") == fresh  # dvc.yaml's, which is in the block
    assert updated("Mine.") == f"Mine.\n\n{fresh}"
    assert updated(f"Above.\n{old}\r\n\r\nBelow.") == f"Above.\n\n{fresh}\n\nBelow."
    edited = old.replace("- what was", "- what was, says Ada").replace("old 1", "old 1, so far")
    assert updated(edited) == f"{fresh}\n\nold 1, so far\n- what was, says Ada"
    assert updated(updated(edited)) == updated(edited)
    assert updated(old.replace("<!-- /dovetail -->", "Mine.")) == f"{fresh}\n\nold 1\n- what was\nMine."
    assert updated("x" * (MOST - len(fresh))) is None


def texts(project):
    """The descriptions of each version and of the run that it was made from."""
    shown = project.store()
    return {
        str(version.version): (version.description, shown.client.get_run(version.run_id).data.tags[NOTE])
        for version in shown.versions()
    }


def rebuilt(project):
    for name in ("mlflow.db", "mlruns"):
        path = project.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    project.run("dovetail", "sync")
    return texts(project)


@pytest.mark.slow
def test_what_is_decided_is_said_and_a_store_made_anew_says_the_same(tmp_path_factory, tmp_path):
    project = templates.copy_of(templates.versions(tmp_path_factory), tmp_path / "p")
    first, second = texts(project).values()
    for number, text in enumerate((*first, *second)):
        assert text.startswith(f"accuracy 0.{7 + number // 2}, its gate passed <!-- dovetail ")
        assert "A small model" in text
        assert f"`dovetail promote m --version {1 + number // 2}`" in text
        assert "**No commit** is known" in text
    project.run("dovetail", "promote", "m", "--version", "1", "--reason", "the first")
    said = texts(project)["1"][0]
    assert "w = 7, by Ada Tester" in said
    assert "**Promoted to production** on " in said
    assert "by Ada Tester, `m#production#1`: “the first”" in said
    assert "pickle.digest" in said  # a verdict that the promotion alone gave

    client = project.store().client
    client.update_model_version("m", "1", f"Ask Ada first.\n\n{said}")
    project.run("dovetail", "sync")
    synced = texts(project)
    assert synced["1"] == (f"Ask Ada first.\n\n{said}", said)
    assert "w = 8, by Ada Tester" in synced["2"][0]
    assert "- `data.csv` training, 2 rows, md5 `" in said
    assert rebuilt(project) == {**synced, "1": (said, said)}

    (project.root / "data.csv").write_text("a,b\n9,9\n")  # the data are nowhere: what was counted stays
    shutil.rmtree(project.root / ".dvc/cache/files/md5")
    shutil.rmtree(project.root / ".dvc/tmp")
    project.run("dovetail", "sync", code=None)
    assert texts(project) == {**synced, "1": (said, said)}


def test_rows_are_counted_as_the_stages_read_them_and_never_of_what_is_large(small):
    def stage(params):
        return StageRecord("clean", "", tuple(refs), params, ())

    files = {
        "a.csv": b'x;y\n"1\n1";2\n3;4\n', "ü b.jsonl": b'{"a": 1}\n{"a": 2}\n', "notes.txt": b"1\n2\n",
        "broken.parquet": b"PAR1", "empty.csv": b"",
    }  # fmt: skip
    for name, content in files.items():
        (small.root / name).write_bytes(content)
    (small.root / "large.csv").write_bytes(b"x\n" + b"1\n" * (9 << 20))
    (small.root / "parts").mkdir()
    for number in range(3):
        pq.write_table(pa.table({"n": range(100 + number)}), small.root / f"parts/{number}.parquet")
    pq.write_table(pa.table({"n": range(5_000_000)}), small.root / "large.parquet")
    small.run("dvc", "add", "-q", "parts")
    with open_workspace(small.root) as workspace:
        refs = [workspace.tree.file(name) for name in (*files, "large.csv", "large.parquet", "parts")]
        lineage = Lineage("m", FileRef("m.joblib", "0" * 32), (stage({"datasets.a.clean": {"separator": ";"}}),))
        counted = [RowCounts(workspace).of(ref, lineage) for ref in refs]
        assert counted == [2, 2, None, None, None, None, 5_000_000, 303]
        (small.root / "a.csv").unlink()
        assert RowCounts(workspace).of(refs[0], lineage) == 2  # it was counted once
        assert RowCounts(workspace).of(FileRef("a.csv", "1" * 32), lineage) is None
