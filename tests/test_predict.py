"""`dovetail predict`: folders of rows, each part whole or not at all, the same answers as a server's."""

import gzip
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import templates
from clusters import cluster, wait_for
from next_commands import following, typed
from project import BIN, copy_of
from serving import COLUMNS, ROWS, SPLIT, Server, matching

from dovetail.cluster.kept_scorers import KeptScorers
from dovetail.cluster.predict import PredictRequest, predict
from dovetail.errors import Busy, OutsideError
from dovetail.serving.batch.bad_part import BadPart
from dovetail.serving.batch.model_columns import check_schema, model_columns
from dovetail.serving.batch.part_reader import Batch, read_csv_part
from dovetail.serving.batch.scorers import Scorer
from dovetail.serving.batch.version_copy import version_copy
from dovetail.serving.batch.write_rows import ScoredSchema, write
from dovetail.serving.engine.kept_copies import keep
from dovetail.serving.protocol.body_limits import MOST_VALUES
from dovetail.serving.protocol.parquet_body import read_parquet
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Column, Signature
from dovetail.serving.serve import settings
from dovetail.serving.settings import ServeOptions
from dovetail.values.scored import Scored

SAID = ["one:yes", "one:yes", "one:no", "one:no"]  # to ROWS


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("predict") / "p")


@pytest.fixture(autouse=True)
def _there(project, monkeypatch):
    monkeypatch.chdir(project.root)


def rows(**columns):
    return pa.Table.from_pandas(pd.DataFrame(ROWS, columns=list(COLUMNS)).assign(**columns), preserve_index=False)


@pytest.fixture
def data(tmp_path):
    """Three parts of four rows each, one of them in a folder of its own and under a name that needs care."""
    folder = tmp_path / "data"
    for number, name in enumerate(("part-0.parquet", "part-1.parquet", "tag=Ä 1/ü 'ö.parquet")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(id=range(number * 4, number * 4 + 4)), folder / name)
    return folder


def score(project, data, *options, out="out", ref="m", code=0):
    folder = data.parent / out
    return project.json("predict", ref, "--data", str(data), "--out", str(folder), *options, code=code), folder


def refused(project, data, *options, out="out", ref="m"):
    folder = data.parent / out if isinstance(out, str) else out
    done = project.run("dovetail", "predict", ref, "--data", str(data), "--out", str(folder), *options, code=2)
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def said_of_first(out):
    return Scored.parse(pq.read_schema(out / "part-0.parquet").metadata).part_md5


def files(folder):
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def test_each_part_gets_a_file_of_its_name_whose_metadata_say_who_scored_what(project, data):
    answer, out = score(project, data)
    assert (answer["model"], answer["version"], answer["rows"], answer["failed"]) == ("m", 1, 12, [])
    assert list(files(out)) == list(files(data))
    for number, (name, file) in enumerate(files(out).items()):
        table = pq.read_table(file)
        assert table.column_names == [*COLUMNS, "id", "prediction"]
        assert table["id"].to_pylist() == list(range(number * 4, number * 4 + 4))
        assert table["prediction"].to_pylist() == SAID
        assert table.drop(["prediction"]).equals(pq.read_table(data / name))
        said = Scored.parse(table.schema.metadata)
        md5 = project.run("md5sum", str(data / name)).stdout.split()[0].removeprefix("\\")
        assert (said.version, said.md5, said.part, said.part_md5) == (1, answer["md5"], name, md5)
        assert said.commit == answer["commit"]
        assert Scored.parse(said.metadata()) == said
    assert [part["how"] for part in score(project, data)[0]["parts"]] == ["kept"] * 3
    made = project.json("lineage", str(out / "part-0.parquet"))
    assert (made["version"], made["artifact"]["md5"]) == (1, answer["md5"])
    assert made["scored"]["input"] == {"path": "part-0.parquet", "md5": said_of_first(out)}
    shown = project.run("dovetail", "lineage", str(out / "part-0.parquet")).stdout
    assert shown.startswith("answers to part-0.parquet  ")
    assert "\nm/1 " in shown


@pytest.mark.slow
def test_the_answers_are_those_of_a_server_of_parquet_and_of_csv(project, data):
    text = 'note,size,count,color,fresh\n"two\nlines",9.5,3,red,True\nNA,11.25,6,,False\n'
    text += ",8.0,8,blue,True\n,,1,green,False\n"
    (data / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (data / "b.csv").write_text("\ufeff" + text, encoding="utf-8")
    shutil.rmtree(data / "tag=Ä 1")
    answer, out = score(project, data, "--proba")
    assert (answer["failed"], answer["rows"]) == ([], 16)
    with Server(project, ref="m/1") as server:
        served = server.predict().json["predictions"]
        proba = server.predict({**SPLIT, "params": {"method": "predict_proba"}}).json["predictions"]
    assert served == SAID
    for name in ("part-0", "a", "b"):
        table = pq.read_table(out / f"{name}.parquet")
        assert table["prediction"].to_pylist() == served
        shares = [table[f"probability_one:{name}"].to_pylist() for name in ("no", "yes")]
        assert list(map(list, zip(*shares, strict=True))) == proba
    assert table["note"].to_pylist() == ["two\nlines", "NA", "", ""]  # the model does not know it: as it is written
    assert table.schema.field("size").type == pa.float64()


def read_csv(text, *columns):
    given = Signature(columns, "double", ("predict",))
    batches = list(read_csv_part(BytesIO(text.encode()), given, ()).batches)
    kept = pa.Table.from_batches([batch.kept for batch in batches]).to_pydict()
    return kept, {name: [value for batch in batches for value in batch.asked[name]] for name in batches[0].asked}


def test_text_is_kept_as_the_file_says_it_whatever_the_model_takes_it_for():
    text = 'country,id,size\nNA,NA,1\nNone,7,NA\nnull,"",2\n,8,\n" x ",9,nan\n'
    kept, asked = read_csv(text, Column("country", "string", False), Column("size", "double", False))  # noqa: FBT003
    assert kept == {
        "country": ["NA", "None", "null", None, " x "],
        "id": ["NA", "7", "", "8", "9"],
        "size": [1.0, None, 2.0, None, None],
    }
    assert asked["country"] == [None, None, None, None, " x "]  # as a server reads it


def test_commas_within_texts_are_no_values():
    text = "," * (MOST_VALUES // 8)
    kept, asked = read_csv("text\n" + f'"{text}"\n' * 9, Column("text", "string", False))  # noqa: FBT003
    assert kept == asked == {"text": [text] * 9}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_blank_line_is_a_row_in_a_file_of_one_column_and_none_in_another(end):
    column = Column("a", "double", False)  # noqa: FBT003
    kept, asked = read_csv(end.join(["a", "1", "", "3", ""]), column)
    assert kept == {"a": [1.0, None, 3.0]}
    assert [str(value) for value in asked["a"]] == ["1.0", "nan", "3.0"]
    assert read_csv(end.join(["a,b", "1,x", "", "3,y", ""]), column)[0] == {"a": [1.0, 3.0], "b": ["x", "y"]}


TIMES = [datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None]
COLUMNS_OF_ARROW = [
    ("double", pa.array([1.5, None, float("nan"), float("inf")])),
    ("double", pa.array([1, None, 2**53 + 1], pa.int64())),
    ("double", pa.array([2**64 - 1], pa.uint64())),
    ("double", pa.array([Decimal("1.10"), None])),
    ("double", pa.array([0.1, None], pa.float32())),
    ("double", pa.array([0.1, None], pa.float16())),
    ("double", pa.array([None, None])),
    ("double", pa.array([True, None])),
    ("double", pa.array(["1"])),
    ("float", pa.array([1, 2**30 + 1], pa.int32())),
    ("float", pa.array([0.1, None])),
    ("long", pa.array([1, 2], pa.int8())),
    ("long", pa.array([1, None], pa.int64())),
    ("long", pa.array([1.0, 2.0])),
    ("long", pa.array([1.0, 2.5])),
    ("long", pa.array([2**63], pa.uint64())),
    ("integer", pa.array([1, 2**31], pa.int64())),
    ("string", pa.array(["a", None, "b"])),
    ("string", pa.array(["a", None, "a"]).dictionary_encode()),
    ("string", pa.array(["a"], pa.string_view())),
    ("string", pa.array([1])),
    ("boolean", pa.array([True, False])),
    ("boolean", pa.array([True, None])),
    ("datetime", pa.array(TIMES, pa.timestamp("us", "Europe/Berlin"))),
    ("datetime", pa.array([datetime(2026, 1, 2)], pa.timestamp("ns"))),  # noqa: DTZ001
    ("datetime", pa.array([datetime(2026, 1, 2).date()])),  # noqa: DTZ001
    ("datetime", pa.array(["2026-01-02T03:04+02:00", "2026"])),
    ("double", pa.array([[1.0]])),
]


@pytest.mark.parametrize(("kind", "values"), COLUMNS_OF_ARROW, ids=str)
def test_a_column_of_a_part_is_what_it_is_in_a_request(kind, values):
    signature = Signature((Column("x", kind, required=True),), None, ("predict",))
    table = pa.table({"x": values})
    body = BytesIO()
    pq.write_table(table, body)

    def asked():
        return signature.check(read_parquet(body.getvalue(), signature, 1000))["x"]

    def scored():
        (batch,) = pq.read_table(body).to_batches()
        check_schema(batch.schema, signature)
        return model_columns(batch, signature, 0)["x"]

    try:
        expected = asked()
    except Refused as error:
        with pytest.raises(Refused) as found:
            scored()
        assert found.value.message == error.message  # noqa: PT017
        return
    found = scored()
    if kind in ("double", "float"):
        np.testing.assert_array_equal(np.array(found, dtype="float64"), np.array(expected, dtype="float64"))
    else:
        assert list(found) == list(expected)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_loses_and_doubles_no_row(project, data):
    out = data.parent / "out"
    command = ("predict", "m", "--data", str(data), "--out", str(out), "--columns", "id")
    project.killed("write:2", *command)
    whole = [name for name in files(out) if not name.rpartition("/")[2].startswith(".")]
    assert whole == ["part-0.parquet"]
    (left,) = (name for name in files(out) if name.startswith(".dovetail-") and not name.endswith(".lock"))
    again = project.json(*command)
    assert [part["how"] for part in again["parts"]] == ["kept", "scored", "scored"]
    assert left not in files(out)
    assert list(files(out)) == list(files(data))
    found = pq.read_table(out, partitioning=None)
    assert (sorted(found["id"].to_pylist()), found.column_names) == (list(range(12)), ["id", "prediction"])


BAD = {
    "cut.parquet": (lambda file: file.write_bytes(file.read_bytes()[:-300]), "it cannot be read: "),
    "empty.parquet": (lambda file: file.write_bytes(b""), "it cannot be read: "),
    "flipped.parquet": (lambda file: file.write_bytes(b"PAR1" + bytes(200) + file.read_bytes()[204:]), "it cannot be"),
    "lacking.parquet": (lambda file: pq.write_table(rows().drop(["size"]), file), "columns are missing: size"),
    "text.parquet": (
        lambda file: pq.write_table(rows().set_column(0, "size", pa.array(list("abcd"))), file),
        "column 'size', row 0: expected a number, got string",
    ),
    "null.parquet": (
        lambda file: pq.write_table(rows().set_column(1, "count", pa.array([1, 2, None, 4])), file),
        "column 'count', row 2: expected a 64-bit integer, got null",
    ),
    "own.parquet": (lambda file: pq.write_table(rows(prediction=1), file), "it has a column 'prediction' itself"),
    "header.csv": (lambda file: file.write_bytes(b""), "it has no header"),
    "short.csv": (lambda file: file.write_text("size,count,color,fresh\n1,2,a,True\n1,2\n"), "it cannot be read: "),
    "latin.csv": (lambda file: file.write_bytes("size,count,color,fresh\n1,2,ü,True\n".encode("latin-1")), "it cannot"),
    "damaged.csv.gz": (lambda file: file.write_bytes(gzip.compress(b"size,count\n")[:10] + b"\xff" * 40), "it cannot"),
    "returns.csv": (lambda file: file.write_bytes(b"size,count,color,fresh\r1,2,a,True\r"), "it cannot be read: "),
    "n" * 250 + ".csv": (lambda file: file.write_text("size\n"), "its answers cannot be written: their file's name"),
    "gone.parquet": (lambda file: (file.unlink(), file.symlink_to("nowhere.parquet")), "it is gone"),
}


@pytest.mark.slow
def test_a_bad_part_is_said_and_the_others_are_done(project, data):
    for name, (spoil, _) in BAD.items():
        shutil.copy(data / "part-0.parquet", data / name)
        spoil(data / name)
    pq.write_table(rows().slice(0, 0), data / "none.parquet")
    (data / "notes.txt").write_text("no rows")
    (data / "_SUCCESS").touch()
    linked = data.parent / "elsewhere.parquet"
    (data / "part-1.parquet").rename(linked)
    (data / "part-1.parquet").symlink_to(linked)
    answer, out = score(project, data, "--workers", "2", code=1)
    whys = {part["part"]: part["why"] for part in answer["parts"] if part["how"] == "failed"}
    assert sorted(answer["failed"]) == sorted(BAD) == sorted(whys)
    for name, (_, why) in BAD.items():
        assert why in whys[name]
        assert "\n" not in whys[name]
    good = ["none.parquet", "part-0.parquet", "part-1.parquet", "tag=Ä 1/ü 'ö.parquet"]
    assert (list(files(out)), answer["ignored"]) == (good, ["notes.txt"])
    assert pq.read_table(out / "none.parquet").schema.field("prediction").type == pa.string()
    for name in BAD:
        (data / name).unlink()
    (data / "none.parquet").unlink()
    again, _ = score(project, data)
    assert ({part["how"] for part in again["parts"]}, again["left_over"]) == ({"kept"}, ["none.parquet"])
    pq.write_table(rows(id=range(4)).take([3, 2, 1, 0]), data / "part-0.parquet")
    (data / "tag=Ä 1/ü 'ö.parquet").write_bytes(b"")
    done = project.run("dovetail", "predict", "m", "--data", str(data), "--out", str(out), code=1)
    assert "m/1: 8 rows in " in done.stdout
    assert "(1 part scored, 1 part from before)" in done.stdout
    assert "FAIL  tag=Ä 1/ü 'ö.parquet: it cannot be read" in done.stdout
    assert done.stderr == ""
    assert pq.read_table(out / "part-0.parquet")["prediction"].to_pylist() == SAID[::-1]


@pytest.mark.slow
def test_a_part_that_vanishes_or_changes_while_others_are_scored_is_a_bad_one(data):
    def meanwhile(done, of):
        assert of == 12
        if done == 4:
            (data / "part-1.parquet").unlink()

    answer = predict(PredictRequest("m", data, data.parent / "out", workers=1), tell=meanwhile)
    assert [(part.part, part.why) for part in answer.failed] == [
        ("part-1.parquet", "it is gone; it was there when the run began")
    ]

    def touched(done, _):
        if done == 4:
            os.utime(data / "part-0.parquet")

    answer = predict(PredictRequest("m", data, data.parent / "new", workers=1), tell=touched)
    assert [(part.part, part.why) for part in answer.failed] == [("part-0.parquet", "it was changed while it was read")]
    assert "part-0.parquet" not in files(data.parent / "new")


@pytest.mark.slow
def test_a_folder_holds_what_one_version_said_in_one_way(project, data):
    _, out = score(project, data)
    line = refused(project, data, ref="m/2")
    assert "was scored by m/1" in line
    assert "not by m/2" in line
    assert "was scored with neither --columns nor --proba" in refused(project, data, "--proba")
    shutil.copy(data / "part-0.parquet", out / "part-1.parquet")
    assert "part-1.parquet exists and was not written by dovetail predict" in refused(project, data)
    (out / "part-1.parquet").write_bytes(b"PAR1")
    typed(project, following(refused(project, data), "part-1.parquet cannot be read")[0])
    assert [part["how"] for part in score(project, data)[0]["parts"]] == ["kept", "scored", "kept"]
    score(project, data, ref="m/2", out="by-two")
    (data.parent / "other.parquet").write_bytes(b"PAR1")
    by_two = files(data.parent / "by-two")
    for ref, outs in (("m/1", [out]), ("m/2", [data.parent / "by-two"])):
        found = project.json("lineage", ref, "--scored", str(data.parent))["scored_files"]
        assert found == [str(file) for each in outs for file in files(each).values()], ref
    shown = project.run("dovetail", "lineage", "m/2", "--scored", str(data.parent)).stdout
    assert shown.splitlines()[-4:] == ["scored files: 3", *(f"  {file}" for file in by_two.values())]
    assert "is not a folder" in project.json("lineage", "m/1", "--scored", "none", code=2)["error"]["message"]
    said = Scored.parse(pq.read_schema(out / "part-0.parquet").metadata)
    for later, same in (
        ({"version": 3, "commit": "f" * 40}, True),
        ({"part_md5": "0" * 32}, False),
        ({"package": ""}, False),
    ):
        assert said.says_the_same(replace(said, **later)) == same


def test_what_cannot_be_meant_is_refused_in_one_line(project, data):
    assert "its files would be scored again" in refused(project, data, out=data / "out")
    assert "would replace the part" in refused(project, data / "part-0.parquet", out=data)
    assert "there is no such file or folder" in refused(project, data / "nothing")
    (data.parent / "bare").mkdir()
    assert "has no part to score" in refused(project, data.parent / "bare")
    assert "is not a folder" in refused(project, data, out=project.root / "dvc.yaml" / "out")
    (data / "part-0.csv").write_text("size,count,color,fresh\n")
    typed(project, following(refused(project, data), "part-0.csv and part-0.parquet")[0])
    (data / "night.parquet").mkdir()
    shutil.copy(data / "part-1.parquet", data / "night.parquet")
    (data / "night.csv").write_text("size,count,color,fresh\n")
    typed(project, following(refused(project, data), "in which night.parquet/part-1.parquet has its place")[0])
    (data / "back").symlink_to(data)
    typed(project, following(refused(project, data), "leads back to")[0])
    assert "has no version 9" in refused(project, data, ref="m/9")
    done = project.run("dovetail", "predict", "HEAD:m", "--data", str(data), "--out", "x", code=2)
    assert "; next: dovetail predict MODEL@production" in done.stderr


def test_of_two_in_one_folder_the_second_is_told_so(data):
    out = data.parent / "out"

    def meanwhile(done, _):
        if done == 4:
            with pytest.raises(Busy, match="another dovetail predict is at work"):
                predict(PredictRequest("m", data, out))

    assert predict(PredictRequest("m", data, out, workers=1), tell=meanwhile).rows == 12
    assert list(files(out)) == list(files(data))


def test_the_name_of_a_part_may_be_as_long_as_its_answers_can_have(project, data):
    name = "n" * 247
    (data / "part-0.parquet").rename(data / f"{name}.pq")
    answer, out = score(project, data)
    assert answer["failed"] == []
    assert f"{name}.parquet" in files(out)


@pytest.mark.slow
def test_what_others_have_below_the_folder_is_left_alone(data):
    """A run in a folder within it, which has a file half written, and a file that has nothing to do with either."""
    out = data.parent / "out"
    (out / "inner").mkdir(parents=True)
    (out / "other.parquet").write_bytes(b"PAR1")

    def meanwhile(done, _):
        if done == 4:
            assert not predict(PredictRequest("m", data, out)).failed

    answer = predict(PredictRequest("m", data, out / "inner", workers=1), tell=meanwhile)
    assert (answer.rows, list(answer.failed)) == (12, [])
    assert list(files(out / "inner")) == list(files(data))
    assert (out / "other.parquet").read_bytes() == b"PAR1"


def test_a_copy_that_was_changed_is_brought_anew_and_never_read(project, data):
    copy = Path(version_copy(settings("m", ServeOptions())).folder)
    model = next(copy.rglob("*.joblib"))
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    (copy / "MLmodel").write_text((copy / "MLmodel").read_text() + "# by hand\n")
    answer, out = score(project, data, out="again")
    assert answer["failed"] == []
    assert pq.read_table(out / "part-0.parquet")["prediction"].to_pylist() == SAID


@pytest.mark.slow
def test_a_part_whose_worker_is_killed_in_its_midst_goes_to_another_whole_and_once(data):
    count = long_part(data / "part-1.parquet")
    out = data.parent / "cut"
    with cluster(data.parent, "{}", "{}") as (address, workers):
        command = [BIN / "dovetail", "predict", "m", "--cluster", address, "--data", data, "--out", out, "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            wait_for(lambda: len(list(out.glob("*.parquet"))) == 1 and unfinished_files(out))
            # The worker that has a process at work: the other one's two parts are done, or have not begun.
            at_work = max(workers, key=lambda worker: sum(one.cpu_times().user for one in of_worker(worker)))
            os.killpg(at_work.pid, signal.SIGKILL)
            answer = json.loads(running.communicate(timeout=300)[0])
    assert (running.returncode, answer["failed"], answer["rows"]) == (0, [], count + 8)
    assert pq.read_table(out / "part-1.parquet", columns=["id"])["id"].to_pylist() == list(range(count))
    assert unfinished_files(out) == []


def of_worker(worker):
    with suppress(psutil.Error):
        return matching(
            psutil.Process(worker.pid).children(recursive=True), lambda one: "scorer_process" in str(one.cmdline())
        )
    return []


def unfinished_files(out):
    return [one for one in out.glob(".dovetail-*") if one.suffix != ".lock"]


def long_part(path):
    """A part that takes a while; returns its rows."""
    random, count = np.random.default_rng(0), 3_000_000
    pq.write_table(
        pa.table({"size": random.random(count), "count": random.integers(0, 9, count),
                  "color": ["red"] * count, "fresh": [True] * count, "id": range(count)}),
        path,
    )  # fmt: skip
    version_copy(settings("m", ServeOptions()))
    return count


@pytest.mark.slow
def test_where_the_scheduler_is_killed_the_whole_parts_stay_and_the_next_run_completes_them(project, data):
    count = long_part(data / "part-1.parquet")
    out = data.parent / "cut"
    with cluster(data.parent, "{}") as (address, _):
        port = address.rpartition(":")[2]
        command = [BIN / "dovetail", "predict", "m", "--cluster", address, "--data", data, "--out", out]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            wait_for(lambda: (out / "part-0.parquet").exists() and unfinished_files(out))
            for process in psutil.process_iter(["cmdline"]):
                if "scheduler" in (words := process.info["cmdline"] or []) and port in words:
                    process.kill()
            _, said = running.communicate(timeout=120)
    assert (running.returncode, said.count("\n")) == (3, 1), said
    assert f"the scheduler of {address} is gone" in said
    answer, _ = score(project, data, out="cut")
    assert answer["rows"] == count + 8
    assert answer["failed"] == []


@pytest.mark.parametrize("given", [[0.5, 0.5], [[0.5, 0.5], [1.0]], [[0.5, 0.5], None]])
def test_probabilities_that_are_not_one_for_each_class_are_the_parts_fault(given, tmp_path):
    answers = pa.table({"predict": ["a", "b"], "predict_proba": given})
    kept = pa.record_batch({"x": [1, 2]})
    schema = ScoredSchema(kept.schema, {"prediction": pa.string(), "probability_a": pa.float64()}, {})
    with pytest.raises(BadPart, match="no probability for each class of each row"):
        write(tmp_path / "out.parquet", schema, [(Batch(kept, {}), answers)], lambda _: None)


def test_a_version_that_two_bring_at_once_is_brought_once(tmp_path):
    model, brought, begun, goes_on = b"a model", [], threading.Event(), threading.Event()
    md5 = hashlib.md5(model).hexdigest()

    def fetch(folder):
        brought.append(folder)
        begun.set()
        goes_on.wait(60)
        (folder / "MLmodel").write_text("flavors: {}")
        (folder / "data").mkdir()
        (folder / "data/model.joblib").write_bytes(model)

    digests = []
    threads = [threading.Thread(target=lambda: digests.append(keep(tmp_path / f"1-{md5}", md5, None, None, fetch)))
               for _ in range(2)]  # fmt: skip
    threads[0].start()
    begun.wait(60)
    threads[1].start()
    goes_on.set()
    for thread in threads:
        thread.join()
    assert len(brought) == 1
    assert len(digests) == 2
    assert digests[0] == digests[1]


def test_a_process_that_cannot_be_started_is_no_fault_of_the_version():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OutsideError, match=r"no process can be started to hold the model: .*Too many open files"):
            Scorer()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_where_the_disk_is_full_the_whole_parts_stay_and_the_next_run_completes_them(project, data):
    random = np.random.default_rng(0)
    many = pa.table({"size": random.random(60_000), "count": random.integers(0, 9, 60_000),
                     "color": ["red"] * 60_000, "fresh": [True] * 60_000, "id": range(60_000)})  # fmt: skip
    pq.write_table(many, data / "part-1.parquet")
    version_copy(settings("m", ServeOptions()))
    out = data.parent / "full"
    command = f"ulimit -f 200; exec dovetail predict m --data '{data}' --out '{out}'"
    done = project.run("bash", "-c", command, code=3, plain=True)
    assert f"part-1.parquet cannot be written: File too large; next: df -h {out}, then" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(files(out)) == ["part-0.parquet"]
    again, _ = score(project, data, out="full")
    assert [(part["how"], part["rows"]) for part in again["parts"]] == [("kept", 4), ("scored", 60_000), ("scored", 4)]


@pytest.mark.slow
def test_on_a_cluster_the_files_are_those_of_this_machine_and_a_killed_workers_part_goes_to_another(project, data):
    _, here = score(project, data, "--workers", "1")
    with cluster(data.parent, "{}", "{}") as (address, workers):
        answer, there = score(project, data, "--cluster", address, out="there")
        assert {part["worker"][:6] for part in answer["parts"]} == {"tcp://"}
        workers[0].kill()
        score(project, data, "--cluster", address, out="again")
    for name, file in files(here).items():
        assert (there / name).read_bytes() == file.read_bytes() == (data.parent / "again" / name).read_bytes()
    assert list(files(there)) == list(files(here))
    line = project.run("dovetail", "predict", "m", "--data", str(data), "--out", str(data.parent / "new"), "--cluster",
                       address, code=3).stderr  # fmt: skip
    assert "answers" in line


@pytest.mark.slow
def test_a_run_that_ends_leaves_another_ones_processes_on_the_cluster_alone(project, data):
    random, count = np.random.default_rng(0), 6_000_000
    (data.parent / "long").mkdir()
    pq.write_table(
        pa.table({"size": random.random(count), "count": random.integers(0, 9, count),
                  "color": ["red"] * count, "fresh": [True] * count}),
        data.parent / "long" / "part.parquet",
    )  # fmt: skip
    version_copy(settings("m", ServeOptions()))
    out = data.parent / "out-of-long"
    with cluster(data.parent, "{}", "{}") as (address, _):
        command = [BIN / "dovetail", "predict", "m", "--cluster", address, "--data", data.parent / "long", "--out", out]
        with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as first:
            wait_for(lambda: unfinished_files(out))  # it is being written
            second, _ = score(project, data, "--cluster", address)
            assert first.poll() is None, "it ended too early for this test"
            answer = json.loads(first.communicate(timeout=300)[0])
    assert (second["failed"], answer["failed"], answer["rows"]) == ([], [], count)


class Stand:
    """What is kept in place of processes."""

    def __init__(self):
        self.is_closed = False

    def close(self):
        self.is_closed = True


def test_a_run_ends_its_own_scorers_alone_and_those_of_a_killed_one_end_when_they_are_idle():
    kept = KeptScorers(idle_seconds=0.2)
    with kept.borrowed("killed", Stand) as scorers:
        killed = scorers()
    with kept.borrowed("one", Stand) as scorers, kept.borrowed("other", Stand) as others:
        one, other = scorers(), others()
        assert scorers() is one
        kept.end("one")
        assert (one.is_closed, other.is_closed) == (True, False)
        wait_for(lambda: killed.is_closed)
        time.sleep(0.5)
        assert not other.is_closed  # at work, however long
    kept = KeptScorers(idle_seconds=60)
    with kept.borrowed("one", Stand) as scorers:
        one = scorers()
    with kept.borrowed("one", Stand) as scorers:
        assert scorers() is one
    wait_for(lambda: other.is_closed)
    with kept.borrowed("other", Stand) as others:
        assert others() is not other


@pytest.mark.slow
def test_a_worker_that_does_not_see_the_folders_says_so(project, data):
    apart = f"unshare -m sh -c 'mount -t tmpfs none {data.parent} && cd / && {{}}'"
    if subprocess.run(apart.format("true"), shell=True, check=False, capture_output=True).returncode:
        pytest.skip("no folder can be hidden from a process here")
    with cluster(project.root.parent, apart) as (address, _):
        out = data.parent / "out"
        done = project.run("dovetail", "predict", "m", "--data", str(data), "--out", str(out), "--cluster", address,
                           code=3)  # fmt: skip
    assert f"does not see {out}; next: ls " in done.stderr
    assert list(files(out)) == []
