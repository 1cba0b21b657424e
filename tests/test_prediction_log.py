"""What is served is remembered behind the answer, whole files at a time, whatever ends the process that writes."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.serving.log import delta, merge, rows, segments, served_rows
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.serving.log.segments import Segment
from dovetail.values.age import age

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "monitoring" / "m"


@pytest.fixture
def opened(folder):
    """A log that writes when it is told to."""
    log = PredictionLog(folder, leave_out=frozenset({"secret"}), flush_seconds=600)
    yield log
    log.close()


def one(request_id, *, version=1, at=NOON, answer="a", **columns):
    return Served(
        request_id, at.timestamp(), version, "predict", columns or {"x": [1.5]}, json.dumps([answer]).encode()
    )


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_was_served_is_read_back_with_its_last_label(opened, folder):
    columns = {"x": np.array([1.5, np.nan, 2.0]), "kind": ["p", None, "q"], "secret": ["s", "s", "s"]}
    opened.served(Served("r1", NOON.timestamp() + 0.25, 3, "predict", columns, b'["a", "b", "a"]'))
    opened.served(Served("r2", NOON.timestamp(), 3, "predict_proba", {"x": [1], "kind": ["p"]}, b"[[0.25, 0.75]]"))
    opened.labelled("r1", ["b", None, "b"], NOON.timestamp() + 9)
    opened.labelled("r1", ["a"], NOON.timestamp() + 10)
    opened.close()
    table = served_rows.read(folder)
    assert table.drop_columns(["version", "method"]).to_pylist()[1:] == [
        {"request_id": "r1", "row": 1, "time": NOON + timedelta(seconds=0.25),
         "input.x": pytest.approx(np.nan, nan_ok=True), "input.kind": None,
         "prediction": "b", "probabilities": None, "label": None},
        {"request_id": "r1", "row": 2, "time": NOON + timedelta(seconds=0.25), "input.x": 2.0,
         "input.kind": "q", "prediction": "a", "probabilities": None, "label": "b"},
        {"request_id": "r2", "row": 0, "time": NOON, "input.x": 1.0,
         "input.kind": "p", "prediction": None, "probabilities": [0.25, 0.75], "label": None},
    ]  # fmt: skip
    assert table["label"].to_pylist() == ["a", None, "b", None]
    assert set(table["version"].to_pylist()) == {3}
    assert table.schema.field("row").type == table.schema.field("version").type == pa.int32()
    assert table.schema.field("time").type == pa.timestamp("us", "UTC")
    assert (folder.parent / ".gitignore").read_text() == "*\n"
    assert opened.dropped == 0
    assert opened.problem is None


def test_versions_may_differ_in_columns_and_types(opened, folder):
    opened.served(one("r1", x=[1], size=["3"]))
    opened.served(one("r2", version=2, answer=7, x=[0.5], size=[4]))
    opened.served(one("r3", version=2, answer=0.5, x=[2], colour=["red"]))
    opened.close()
    table = served_rows.read(folder)
    assert sorted(table["input.x"].to_pylist()) == [0.5, 1.0, 2.0]
    assert table["input.size"].to_pylist() == ["3", "4", None]
    assert table["prediction"].to_pylist() == ["a", "7", "0.5"]
    second = served_rows.read(folder, version=2)
    assert second["input.size"].to_pylist() == [4, None]
    assert second["prediction"].to_pylist() == [7.0, 0.5]


def test_only_files_of_the_window_are_opened(folder):
    for hour in range(3):
        segment = Segment("ab", "v1", hour + 1, hour + 1, *[NOON + timedelta(hours=hour)] * 2)
        table, _ = rows.predictions([one(f"r{hour}", at=segment.start)], frozenset())
        merge.write(folder / "predictions", segment, table)
    first, *_, last = files(folder)
    (folder / first).write_bytes(b"not Parquet")
    (folder / last).write_bytes(b"not Parquet")
    window = {"since": NOON + timedelta(minutes=1), "until": NOON + timedelta(minutes=61)}
    assert served_rows.read(folder, **window)["request_id"].to_pylist() == ["r1"]
    assert served_rows.count(folder, served_rows.Window(**window)) == 1
    with pytest.raises(OSError, match="Parquet magic bytes"):
        served_rows.read(folder)


def test_a_sample_is_of_the_size_asked_for_and_the_same_each_time(opened, folder):
    answer = json.dumps([1] * 500).encode()
    for start in range(0, 5000, 500):
        columns = {"x": list(range(start, start + 500)), "y": [0] * 500}
        opened.served(Served(f"r{start}", NOON.timestamp(), 1, "predict", columns, answer))
    opened.labelled("r500", [1, 1], NOON.timestamp() + 1)
    opened.close()
    window = served_rows.Window(version=1)
    chosen = served_rows.sample(folder, window, ["input.x"], 200)
    assert chosen.column_names == ["time", "input.x"]
    assert len(set(chosen["input.x"].to_pylist())) == 200
    assert 2000 < np.mean(chosen["input.x"].to_pylist()) < 3000
    assert chosen == served_rows.sample(folder, window, ["input.x"], 200)
    assert len(served_rows.sample(folder, window, ["input.x"], 5000)) == 5000
    assert served_rows.labelled(folder, window, ["prediction"]).to_pylist() == [
        {"request_id": "r500", "row": row, "time": NOON, "prediction": 1, "label": 1} for row in (0, 1)
    ]


@pytest.mark.parametrize("as_delta", [False, True])
def test_a_sample_is_drawn_of_the_windows_rows_alone(folder, as_delta):
    rows_of_day = 20_000
    times = [NOON + timedelta(seconds=number) for number in range(rows_of_day)]
    whole = pa.table(
        {
            "request_id": [f"r{number}" for number in range(rows_of_day)],
            "row": pa.array([0] * rows_of_day, pa.int32()),
            "time": pa.array(times, pa.timestamp("us", "UTC")),
            "version": pa.array([1] * rows_of_day, pa.int32()),
            "prediction": list(range(rows_of_day)),
        }
    )
    if as_delta:
        delta.Tables(folder).append("predictions", "v1", whole, ("ab", 1))
    else:
        merge.write(folder / "predictions", Segment("ab", "v1", 1, 1, times[0], times[-1]), whole)
    window = served_rows.Window(times[4000], times[5000])
    assert served_rows.count(folder, window) == 1000
    assert served_rows.sample(folder, window, ["prediction"], 2000)["prediction"].to_pylist() == [*range(4000, 5000)]
    chosen = served_rows.sample(folder, window, ["prediction"], 100)
    assert len(set(chosen["prediction"].to_pylist())) == 100
    assert all(4000 <= value < 5000 for value in chosen["prediction"].to_pylist())
    assert chosen == served_rows.sample(folder, window, ["prediction"], 100)


def test_an_entry_that_no_table_can_be_made_of_costs_nobody_elses_rows(opened, folder):
    opened.served(one("r1"))
    opened.served(Served("r2", NOON.timestamp(), 1, "predict", {"x": [1.5, 2.5]}, b"no JSON"))
    opened.served(Served("r3", NOON.timestamp(), 1, "predict", {"x": [1.5, 2.5]}, b"[1]"))
    opened.served(one("r4"))
    opened.close()
    assert served_rows.read(folder)["request_id"].to_pylist() == ["r1", "r4"]
    assert opened.dropped == 4
    assert opened.problem == "4 rows were not what they were said to be"


def test_waiting_rows_are_bounded_and_adding_one_takes_no_time(folder):
    log = PredictionLog(folder, flush_seconds=600, max_rows=1000)
    entries = [one(f"r{number}") for number in range(20_000)]
    began = time.thread_time()
    for entry in entries:
        log.served(entry)
    assert (time.thread_time() - began) / len(entries) < 50e-6  # what is written takes hundreds
    assert log.dropped == 19_000
    log.close()
    log.served(one("late"))
    assert log.dropped == 19_001
    assert len(served_rows.read(folder)) == 1000


def test_waiting_bytes_are_bounded_too(folder):
    log = PredictionLog(folder, flush_seconds=600, max_bytes=10_000)
    texts = {"x": ["long" * 1000]}
    for request_id, columns, size in (("r1", texts, 4000), ("r2", texts, 4000), ("r3", texts, 4000)):
        log.served(Served(request_id, NOON.timestamp(), 1, "predict", columns, b"[1]", size))
    log.served(Served("r4", NOON.timestamp(), 1, "predict", {"x": [None] * 1000}, b"[1]", 100))  # 100 bytes of Parquet
    assert not log.labelled("r1", [1], NOON.timestamp(), 4000)
    assert log.labelled("r1", [1], NOON.timestamp(), 10)
    assert log.dropped == 1 + 1000 + 1
    log.close()
    assert served_rows.read(folder)["request_id"].to_pylist() == ["r1", "r2"]


def test_a_full_disk_drops_and_counts_and_ends_by_itself(folder):
    log = PredictionLog(folder, flush_seconds=0.02)
    log.served(one("r0"))
    until(lambda: len(served_rows.read(folder)) == 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        log.served(Served("r1", NOON.timestamp(), 1, "predict", {"x": [1.0, 2.0]}, b"[1, 2]"))
        log.labelled("r1", ["a", "b"], NOON.timestamp())
        until(lambda: log.dropped == 4)
        assert log.problem == "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.served(one("r2"))
    until(lambda: log.problem is None)
    log.close()
    assert served_rows.read(folder)["request_id"].to_pylist() == ["r0", "r2"]
    assert log.dropped == 4
    assert all(name.endswith(".parquet") for name in files(folder))


@pytest.mark.parametrize("hindrance", ["a full disk", "a broken file"])
def test_what_is_too_old_goes_though_nothing_can_be_merged(folder, hindrance):
    now = datetime.now(UTC)
    old = Segment("ab", "v1", 1, 1, *[now - timedelta(days=40)] * 2)
    young = [Segment("cd", "v1", number, number, *[now - timedelta(days=1)] * 2) for number in (1, 2)]
    later = [Segment("ef", "v1", number, number, *[now - timedelta(days=2)] * 2) for number in (1, 2)]
    for part in (old, *young, *later):
        merge.write(folder / "predictions", part, rows.predictions([one("r", at=part.start)], frozenset())[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if hindrance == "a full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    else:
        (folder / "predictions" / young[0].name).write_bytes(b"not Parquet")
    log = PredictionLog(folder, flush_seconds=0.02, keep=timedelta(days=30))
    try:
        log.served(one("new", at=now))
        until(lambda: old not in segments.listed(folder / "predictions"))
        log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    there = segments.listed(folder / "predictions")
    assert set(young) <= set(there)
    assert (set(later) <= set(there)) == (hindrance == "a full disk")  # a broken file hinders none beside it


def test_a_broken_file_of_a_delta_table_does_not_keep_what_is_too_old_in_another(folder):
    now = datetime.now(UTC)
    for number, (version, ago) in enumerate(((1, 2), (1, 2), (2, 40)), 1):
        entry = one(f"r{number}", version=version, at=now - timedelta(days=ago))
        table, _ = rows.predictions([entry], frozenset())
        delta.Tables(folder).append("predictions", f"v{version}", table, ("ab", number))
    for file in (folder / "predictions.delta/v1").glob("*.parquet"):
        file.write_bytes(b"not Parquet")
    log = PredictionLog(folder, flush_seconds=600, as_delta=True, keep=timedelta(days=30))
    log.served(one("new", version=3, at=now))
    log.close()
    assert served_rows.read(folder, version=2).num_rows == 0
    assert served_rows.read(folder, version=3).num_rows == 1


def test_a_folder_that_cannot_be_made_is_said_and_not_raised(folder):
    folder.parent.parent.joinpath("monitoring").write_text("a file")
    log = PredictionLog(folder, flush_seconds=0.02)
    log.served(one("r1"))
    until(lambda: log.dropped == 1)
    assert log.problem in ("Not a directory", "File exists")
    folder.parent.unlink()
    log.served(one("r2"))
    log.close()
    assert log.problem is None
    assert len(served_rows.read(folder)) == 1


WRITER = """
import sys, time
from pathlib import Path
from dovetail.serving.log.prediction_log import PredictionLog, Served
log = PredictionLog(Path(sys.argv[1]), flush_seconds=0.02, max_rows=10**8, max_bytes=1 << 40)
for number in range(10**9):
    log.served(Served(f"r{number}", time.time(), 1, "predict", {"x": [number]}, b'[%d]' % number))
    if number % 50 == 0:
        time.sleep(0.001)
"""


def merged_by(folder):
    return {segment.writer for segment in segments.listed(folder / "predictions") if segment.is_merged}


@pytest.mark.slow
def test_killed_in_the_middle_it_loses_what_was_not_flushed_and_doubles_nothing(folder):
    for writer in (1, 2):  # the second one finds what the first left
        began = datetime.now(UTC)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.DEVNULL)
        until(lambda writer=writer: len(merged_by(folder)) == writer, 60)
        time.sleep(0.3)
        flushed = len(served_rows.read(folder, since=began))
        process.kill()
        process.wait()
        table = served_rows.read(folder, since=began)
        found = sorted(table["prediction"].to_pylist())
        assert found == list(range(len(found)))  # none twice, none between lost
        assert len(found) >= flushed > 0
    kept = len(served_rows.read(folder))
    heir = PredictionLog(folder, flush_seconds=0.02)
    heir.served(one("heir", at=datetime.now(UTC), answer=-1))
    hours = {segment.hour for segment in segments.listed(folder / "predictions")}
    until(lambda: len(segments.listed(folder / "predictions")) <= 3 * len(hours))
    heir.close()
    assert len(served_rows.read(folder)) == kept + 1
    assert all(name.endswith(".parquet") for name in files(folder))


def test_a_kill_between_a_merge_and_its_deletions_doubles_no_row(folder):
    parts = []
    for number in range(1, 4):
        parts.append(Segment("ab", "v1", number, number, *[NOON + timedelta(seconds=number)] * 2))
        merge.write(folder / "predictions", parts[-1], rows.predictions([one(f"r{number}")], frozenset())[0])
    kept = {part.name: (folder / "predictions" / part.name).read_bytes() for part in parts}
    merge.merge(folder / "predictions", parts)
    for name, content in kept.items():
        (folder / "predictions" / name).write_bytes(content)
    assert len(files(folder)) == 4
    assert served_rows.read(folder)["request_id"].to_pylist() == ["r1", "r2", "r3"]
    merge.adopt(folder, "cd")
    assert files(folder) == ["predictions/" + segments.merged(parts).name]
    assert served_rows.read(folder)["request_id"].to_pylist() == ["r1", "r2", "r3"]


def test_nobody_merges_what_a_living_writer_writes(folder):
    log = PredictionLog(folder, flush_seconds=0.02)
    for number in range(3):
        log.served(one(f"r{number}", at=datetime.now(UTC)))  # what is of an hour before this one is merged
        until(lambda number=number: len(served_rows.read(folder)) == number + 1)
    before = files(folder)
    assert len(segments.listed(folder / "predictions")) > 1
    merge.adopt(folder, "cd")
    assert files(folder) == before
    log.close()
    assert len(files(folder)) == 1


def segment(number, group, minute):
    return Segment("ab", group, number, number, *[NOON + timedelta(minutes=minute)] * 2)


SEGMENTS = st.builds(segment, st.integers(1, 200), st.sampled_from(["v1", "v2", "labels"]), st.integers(0, 300))


@given(SEGMENTS)
def test_a_name_says_what_the_file_holds(one):
    assert segments.parse(one.name) == one


@given(st.lists(SEGMENTS, unique_by=lambda segment: segment.first), st.none() | st.just(NOON + timedelta(hours=2)))
def test_a_merged_file_covers_what_it_was_made_of_and_nothing_else(there, before):
    for parts in segments.merges(there, before=before):
        whole = segments.merged(parts)
        assert [segment for segment in sorted(there) if whole.covers(segment)] == parts
        assert segments.live([*there, whole]) == [segment for segment in there if segment not in parts] + [whole]


def test_the_current_hour_is_merged_by_its_many():
    there = [Segment("ab", "v1", number, number, NOON, NOON) for number in range(1, segments.MANY)]
    assert segments.merges(there, before=NOON) == []
    there.append(Segment("ab", "v1", segments.MANY, segments.MANY, NOON, NOON))
    assert segments.merges(there, before=NOON) == [there]
    assert segments.merges(there[:2], before=NOON + timedelta(hours=1)) == [there[:2]]


def test_the_file_names_are_no_partitions(tmp_path):
    folder = tmp_path / "x=1" / "monitoring" / "m"
    log = PredictionLog(folder)
    log.served(one("r1"))
    log.close()
    assert "x" not in served_rows.read(folder).column_names


def test_what_is_older_than_it_is_kept_goes_and_the_rest_stays(folder):
    now = datetime.now(UTC)
    for as_delta in (False, True):
        for ago in (95, 85):
            log = PredictionLog(folder, flush_seconds=600, as_delta=as_delta)
            log.served(one(f"{ago}-{as_delta}", at=now - timedelta(days=ago)))
            log.labelled(f"{ago}-{as_delta}", ["b"], (now - timedelta(days=ago)).timestamp())
            log.close()
    assert len(served_rows.read(folder)) == 4
    log = PredictionLog(folder, flush_seconds=600, keep=timedelta(days=90))
    log.served(one("new", at=now))
    log.close()
    assert log.problem is None
    table = served_rows.read(folder)
    assert sorted(table["request_id"].to_pylist()) == ["85-False", "85-True", "new"]
    assert table["label"].drop_null().to_pylist() == ["b", "b"]


def test_what_is_older_goes_from_a_table_to_which_nothing_is_added_any_more(folder):
    now = datetime.now(UTC)
    log = PredictionLog(folder, flush_seconds=600, as_delta=True)
    log.served(one("old", at=now - timedelta(days=95), version=1))
    log.close()
    then = (now - timedelta(days=40)).timestamp()  # when version 2 took over
    for file in (folder / "predictions.delta/v1").rglob("*"):
        os.utime(file, (then, then))
    log = PredictionLog(folder, flush_seconds=600, keep=timedelta(days=90), as_delta=True)
    log.served(one("new", at=now, version=2))
    log.close()
    assert served_rows.read(folder)["request_id"].to_pylist() == ["new"]


def test_files_that_no_commit_names_go_after_a_day(folder):
    for number in range(2):
        log = PredictionLog(folder, flush_seconds=600, as_delta=True)
        log.served(one(f"r{number}", version=1))
        log.close()
    table = folder / "predictions.delta/v1"
    then = time.time() - 2 * 86_400
    for name in ("left.parquet", "being-written.parquet"):
        (table / name).write_bytes(b"of a writer that was killed")
    os.utime(table / "left.parquet", (then, then))
    for file in table.glob("part-*"):
        os.utime(file, (then, then))  # what was replaced just now may be that old, and somebody may read it
    before = set(table.glob("part-*"))
    delta.Tables(folder).tidy(None, thoroughly=True)
    assert {file.name for file in table.glob("*.parquet")} == {"being-written.parquet", *(file.name for file in before)}
    assert len(served_rows.read(folder)) == 2


def test_a_log_of_delta_tables_is_read_as_one_of_plain_files_and_beside_it(folder):
    entries = [
        one("r1", version=3, x=[1.5], kind=["p"]), one("r2", version=3, x=[2], kind=[None]),
        one("r3", version=4, answer=1, x=["text"]),
        Served("r4", NOON.timestamp() + 60, 3, "predict_proba", {"x": [1]}, b"[[0.25, 0.75]]"),
    ]  # fmt: skip
    for place, as_delta in ((folder, True), (folder.with_name("plain"), False)):
        log = PredictionLog(place, flush_seconds=600, as_delta=as_delta)
        for entry in entries:
            log.served(entry)
        log.labelled("r1", ["b"], NOON.timestamp() + 9)
        log.close()
        assert (log.problem, log.dropped) == (None, 0)
    ours, plain = (served_rows.read(place).sort_by("request_id") for place in (folder, folder.with_name("plain")))
    assert ours.to_pylist() == [{name: row[name] for name in ours.column_names} for row in plain.to_pylist()]
    window = served_rows.Window(NOON, NOON + timedelta(seconds=30), 3)
    assert served_rows.count(folder, window) == served_rows.count(folder.with_name("plain"), window) == 2
    assert served_rows.labelled(folder, window, ["prediction"])["label"].to_pylist() == ["b"]
    beside = PredictionLog(folder, flush_seconds=600)
    beside.served(one("r5", version=3))
    beside.close()
    assert len(served_rows.read(folder)) == 5


def test_rows_whose_types_a_delta_table_does_not_have_go_to_another_one(folder):
    for number, value in enumerate(([1], [1.5], ["text"], [2])):
        log = PredictionLog(folder, flush_seconds=600, as_delta=True)
        log.served(one(f"r{number}", x=value))
        log.close()
        assert log.problem is None
    assert sorted(path.name for path in (folder / "predictions.delta").glob("v*")) == ["v1", "v1-1", "v1-2"]
    table = served_rows.read(folder).sort_by("request_id")
    assert table["input.x"].to_pylist() == ["1", "1.5", "text", "2"]


def test_a_delta_table_with_times_without_a_zone_is_tidied_as_any_other(folder):
    now = datetime.now(UTC)
    for number, ago in enumerate((95, 95, 1, 1, 1)):
        day = datetime(2026, 3, 1 + number)  # noqa: DTZ001  (as models get them)
        table, _ = rows.predictions([one(f"r{number}", at=now - timedelta(days=ago), day=[day])], frozenset())
        delta.Tables(folder).append("predictions", "v1", table, ("ab", number + 1))
    delta.Tables(folder).tidy(timedelta(days=90), thoroughly=True)
    assert sorted(served_rows.read(folder)["input.day"].to_pylist()) == [datetime(2026, 3, d) for d in (3, 4, 5)]  # noqa: DTZ001
    ((file, _),) = delta.files(folder, "predictions")
    assert file.rows == 3
    assert list((folder / "predictions.delta/v1/_delta_log").glob("*.checkpoint.parquet"))


@pytest.mark.parametrize("as_delta", [False, True])
def test_predictions_that_came_as_a_table_are_kept_as_values(folder, as_delta):
    old = rows.predictions([one("r0", answer=1.0)], frozenset())[0]
    old = old.set_column(old.column_names.index("prediction"), "prediction", pa.array([{"0": 1.0}]))  # of before
    if as_delta:
        delta.Tables(folder).append("predictions", "v1", old, ("ab", 1))
    else:
        merge.write(folder / "predictions", Segment("ab", "v1", 1, 1, NOON, NOON), old)
    log = PredictionLog(folder, flush_seconds=600, as_delta=as_delta)
    log.served(one("r1", answer={"0": 1.5}))
    log.served(one("r2", answer={"label": 2.5}))
    log.served(Served("r3", NOON.timestamp(), 1, "predict_proba", {"x": [1.5]}, b'[{"no": 0.25, "yes": 0.75}]'))
    log.close()
    assert (log.dropped, log.problem) == (0, None)
    table = served_rows.read(folder).sort_by("request_id")
    assert table["prediction"].to_pylist() == [1.0, 1.5, 2.5, None]
    assert table["probabilities"].to_pylist()[-1] == [0.25, 0.75]


def test_a_broken_file_is_named(folder):
    merge.write(folder / "predictions", Segment("ab", "v1", 1, 1, NOON, NOON), pa.table({"x": [1]}))
    (broken,) = (folder / "predictions").glob("*.parquet")
    for content in (b"not Parquet", broken.read_bytes()[:-9] + b"X" * 5 + b"PAR1"):
        broken.write_bytes(content)
        for ask in (served_rows.read, lambda folder: served_rows.count(folder, served_rows.Window())):
            with pytest.raises(served_rows.BrokenFile, match=re.escape(str(broken))) as caught:
                ask(folder)
            assert caught.value.next_command == "delete the file that it names"


def test_what_is_said_of_a_broken_file_of_a_delta_table_repairs_it(folder):
    for number in (1, 2):
        table, _ = rows.predictions([one(f"r{number}")], frozenset())
        delta.Tables(folder).append("predictions", "v1", table, ("ab", number))
    broken = min((folder / "predictions.delta/v1").glob("*.parquet"))
    broken.write_bytes(b"not Parquet")
    with pytest.raises(served_rows.BrokenFile, match=re.escape(str(broken))) as caught:
        served_rows.read(folder)
    delete, repair = caught.value.next_command.split(", then: ")
    assert delete == "delete the file that it names"
    broken.unlink()
    with pytest.raises(served_rows.GoneFile) as caught:
        served_rows.read(folder)
    assert caught.value.next_command == repair
    subprocess.run(
        ["sh", "-c", repair],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
    )
    assert len(served_rows.read(folder)) == 1


@pytest.mark.parametrize("since", [datetime.min.replace(tzinfo=UTC), NOON - timedelta(days=400_000)])
def test_a_window_may_begin_with_the_calendar(opened, folder, since):
    opened.served(one("r1"))
    opened.labelled("r1", ["b"], NOON.timestamp())
    opened.close()
    assert served_rows.read(folder, since=since)["label"].to_pylist() == ["b"]


@pytest.mark.parametrize("said", ["999999d", "999999w"])
def test_an_age_beyond_the_calendar_keeps_everything_and_hinders_no_merging(folder, said):
    for number in (1, 2):
        part = Segment("ab", "v1", number, number, NOON, NOON)
        merge.write(folder / "predictions", part, rows.predictions([one(f"r{number}")], frozenset())[0])
    log = PredictionLog(folder, flush_seconds=600, keep=age(said))
    log.served(one("r3"))
    log.close()
    assert "ab" in merged_by(folder)
    assert len(served_rows.read(folder)) == 3


@pytest.mark.slow
def test_several_writers_of_one_delta_table_lose_and_double_no_row(folder):
    script = (
        "import sys, json, time; from pathlib import Path\n"
        "from dovetail.serving.log.prediction_log import PredictionLog, Served\n"
        "log = PredictionLog(Path(sys.argv[1]), flush_seconds=0.02, as_delta=True)\n"
        "for i in range(150):\n"
        "    log.served(Served(f'{sys.argv[2]}-{i}', time.time(), 1, 'predict', {'x': [1.5]}, b'[\"a\"]'))\n"
        "    time.sleep(0.01)\n"
        "log.close(); print(log.problem, log.dropped)\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, folder, str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    assert [writer.communicate(timeout=120)[0] for writer in writers] == ["None 0\n"] * 3
    found = served_rows.read(folder)["request_id"].to_pylist()
    assert len(found) == len(set(found)) == 450
    assert len(list((folder / "predictions.delta/v1").glob("*.parquet"))) < 450
