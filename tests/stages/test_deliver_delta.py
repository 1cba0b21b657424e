"""Cleaned rows delivered to a table of Delta Lake: replaced whole, by one writer at a time, once for the same data."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from datasets import config, params, tree
from deltalake import DeltaTable, write_deltalake

from stages import deliver
from stages.common.datasets import Delivery
from stages.common.errors import OutsideError, StageError

ROWS = 150_000
TYPES = pl.DataFrame({"n": [1, None], "x": [1.5, None], "t": ["ä", None], "b": [True, None]}).with_columns(
    day=pl.Series(["2020-01-02", None]).str.to_date(),
    time=pl.Series(["2020-01-02 03:04:05", None]).str.to_datetime(time_unit="ns"),
    zone=pl.Series(["2020-01-02 03:04:05", None]).str.to_datetime(time_unit="us", time_zone="UTC"),
    kind=pl.Series(["a", None], dtype=pl.Categorical),
    count=pl.Series([2**32 - 1, None], dtype=pl.UInt32),
    money=pl.Series([Decimal("1.50"), None], dtype=pl.Decimal(10, 2)),
)
_INNER = pl.Series([2**8 - 1, 2**16 - 1], dtype=pl.UInt16)
NESTED = pl.DataFrame({"n": [1, 2]}).with_columns(
    list=pl.concat_list(_INNER),
    array=pl.concat_list(_INNER).list.to_array(1),
    times=pl.concat_list(pl.Series([1000, 2000], dtype=pl.Datetime("ns"))),
    struct=pl.struct(a=_INNER, b=pl.concat_list(_INNER)),
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(folder, *parts, to="out/d t"):
    clean = folder / "clean"
    clean.mkdir(exist_ok=True)
    for old in clean.iterdir():
        old.unlink()
    for number, part in enumerate(parts):
        part.write_parquet(clean / f"part-{number:05}.parquet")
    deliver.run("d", params(deliver=[{"delta": to}]), clean=clean, receipt=folder / "receipt.json")
    return json.loads((folder / "receipt.json").read_text())["targets"]


def rows(folder="out/d t"):
    return pl.DataFrame(pl.from_arrow(DeltaTable(folder).to_pyarrow_table()))


def test_a_table_holds_the_rows_of_all_parts_with_their_types(tmp_path):
    (target,) = run(tmp_path, TYPES, TYPES.clear(), TYPES)
    assert target["target"] == "out/d t"
    found, wanted = rows(), pl.concat([TYPES, TYPES]).cast({"kind": pl.String, "count": pl.Int64})
    assert found.sort("n", nulls_last=True).equals(wanted.cast({"time": pl.Datetime("us")}).sort("n", nulls_last=True))


def test_types_within_lists_and_structs_are_those_that_delta_has(tmp_path):
    run(tmp_path, NESTED)
    wanted = [
        {"n": n, "list": [one], "array": [one], "times": [datetime.fromisoformat(f"1970-01-01T00:00:00.00000{n}")],
         "struct": {"a": one, "b": [one]}}
        for n, one in ((1, 2**8 - 1), (2, 2**16 - 1))
    ]  # fmt: skip
    assert rows().sort("n").to_dicts() == wanted


def test_the_same_data_make_no_new_version_and_other_data_replace_them_whole(tmp_path):
    run(tmp_path, TYPES)
    version = DeltaTable("out/d t").version()
    run(tmp_path, TYPES)
    assert DeltaTable("out/d t").version() == version
    run(tmp_path, pl.DataFrame({"other": ["x"]}), pl.DataFrame({"other": ["y"]}))
    assert sorted(rows()["other"]) == ["x", "y"]
    before = DeltaTable("out/d t", version=version).to_pyarrow_table()
    assert before.column_names == TYPES.columns
    run(tmp_path, TYPES)
    assert rows().columns == TYPES.columns
    assert DeltaTable("out/d t").version() == version + 2


def test_a_table_that_somebody_else_wrote_to_is_delivered_again(tmp_path):
    run(tmp_path, TYPES)
    table = DeltaTable("out/d t")
    table.optimize.compact()
    table.vacuum(0, dry_run=False, enforce_retention_duration=False)
    version = DeltaTable("out/d t").version()
    run(tmp_path, TYPES)
    assert DeltaTable("out/d t").version() == version
    write_deltalake("out/d t", DeltaTable("out/d t").to_pyarrow_table(), mode="append")
    run(tmp_path, TYPES)
    assert len(rows()) == len(TYPES)


def test_one_file_and_parts_are_delivered_alike(tmp_path):
    TYPES.write_parquet(tmp_path / "clean.parquet")
    to = params(deliver=[{"delta": "one"}])
    deliver.run("d", to, clean=tmp_path / "clean.parquet", receipt=tmp_path / "r.json")
    run(tmp_path, TYPES[:1], TYPES[1:], to="two")
    assert rows("one").sort("n", nulls_last=True).equals(rows("two").sort("n", nulls_last=True))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            TYPES.select(pl.col("time").dt.time()),
            r"column 'time' is time64\[ns\], for which Delta Lake has no type; cast",
        ),
        (
            pl.DataFrame({"n": pl.Series([2**63], dtype=pl.UInt64)}),
            r"column 'n': Integer value .*; cast it in the cleaning",
        ),
        (
            pl.DataFrame({"t": [[timedelta(1)]]}),
            r"column 't' is .*duration.*, for which Delta Lake has no type; cast it in the cleaning",
        ),
        (
            pl.DataFrame({"a": [1], "A": [2]}),
            r"the columns 'a' and 'A' have one name in Delta Lake; rename one in the cleaning script",
        ),
    ],
)
def test_a_column_that_delta_cannot_hold_is_refused(tmp_path, table, said):
    with pytest.raises(StageError, match=said) as refused:
        run(tmp_path, table)
    assert refused.value.exit_code == 2
    assert not (tmp_path / "receipt.json").exists()


@pytest.mark.parametrize("sign", ["[", "]", "|", "^", "\\", "%41", "%"])
def test_a_path_that_deltalake_misreads_is_refused(tmp_path, sign):
    with pytest.raises(StageError, match=r"deltalake misreads .* in .*; name a folder without it"):
        run(tmp_path, TYPES, to=f"a{sign}b")
    assert [path.name for path in tmp_path.iterdir()] == ["clean"]


def test_an_address_is_refused():
    with pytest.raises(ValueError, match=r"delta = 's3://b/x' is an address; name a folder of this machine"):
        Delivery(delta="s3://b/x")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutsideError, match=r"deliver\.0\.delta = file/d: .*; let it be a writable folder") as refused:
        run(tmp_path, TYPES, to="file/d")
    assert "\n" not in str(refused.value)


DELIVER = """
import os, signal, sys, time
sys.path.insert(0, "src")
from pathlib import Path
from stages.delivery import delta_table
from stages.delivery.content import Content

number, action = int(sys.argv[1]), sys.argv[2]
read = delta_table._Rows._read

def stop(self):
    for piece, batch in enumerate(read(self)):
        if piece == 1:
            if action == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            Path(f"ready-{number}").touch()
            while len(list(Path().glob("ready-*"))) < 2:
                time.sleep(0.01)
        yield batch

delta_table._Rows._read = stop
delta_table.to_delta_table(Path("table"), Content(Path(f"{number}.parquet"), 0, f"{number + 1:064x}"[::-1], "x"))
"""


def writer(folder, number, action):
    pl.DataFrame({"n": [number] * ROWS}).write_parquet(folder / f"{number}.parquet")
    return subprocess.Popen([sys.executable, "-c", DELIVER, str(number), action], env=dict(os.environ))


@pytest.mark.parametrize("before", ["nothing", "rows"])
def test_of_two_that_deliver_at_once_each_replaces_the_other_whole(tmp_path, before):
    """deltalake 1.6.6 puts the rows of both into a table that both of them make."""
    tree(tmp_path, config())
    if before == "rows":
        run(tmp_path, pl.DataFrame({"n": [7]}), to="table")
    writers = [writer(tmp_path, number, "wait") for number in (0, 1)]
    assert [one.wait(120) for one in writers] == [0, 0]
    assert rows("table")["n"].value_counts().rows() in ([(0, ROWS)], [(1, ROWS)])


def test_a_killed_delivery_leaves_the_old_rows_and_is_completed_by_the_next(tmp_path):
    tree(tmp_path, config())
    run(tmp_path, pl.DataFrame({"n": [7]}), to="table")
    assert writer(tmp_path, 0, "die").wait(120) == -signal.SIGKILL
    assert rows("table")["n"].to_list() == [7]
    (tmp_path / "ready-9").touch()
    assert writer(tmp_path, 0, "wait").wait(120) == 0
    assert rows("table")["n"].value_counts().rows() == [(0, ROWS)]
