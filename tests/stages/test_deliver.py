"""Deliver: each target is replaced in one step, is left alone when it has the data, and says what it holds."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from datasets import config, left_behind, params, stage, tree
from sqlalchemy import Engine, MetaData, Table, event
from sqlalchemy.dialects import mssql, mysql, oracle, postgresql, sqlite

from stages import clean, deliver
from stages.common.errors import OutsideError, StageError
from stages.delivery import sql_table, sql_values
from stages.delivery.content import Content

SECRET = "s3cr3t/p@ss+w"
ROWS = 50_000  # more than one chunk


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(folder, table, *targets):
    table.write_parquet(folder / "clean.parquet")
    receipt = folder / "receipt.json"
    deliver.run("d", params(deliver=targets), clean=folder / "clean.parquet", receipt=receipt)
    assert not left_behind(folder)
    return json.loads(receipt.read_text())


def target(folder, table="t"):
    return {"table": table, "url": f"sqlite:///{folder}/out/d.db"}


def read(folder, query="SELECT * FROM t"):
    with closing(sqlite3.connect(folder / "out" / "d.db", timeout=30)) as connection:
        return connection.execute(query).fetchall()


def versions(folder):
    """The bytes and the times of all that was delivered."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (folder / "out").iterdir()}


SMALL = pl.DataFrame({"n": [1, None], "x": [1.5, None], "t": ["a", None], "b": [True, None]}).with_columns(
    d=pl.Series(["2020-01-02", None]).str.to_date(),
    s=pl.Series(["2020-01-02 03:04:05", None]).str.to_datetime(time_unit="us"),
)


def test_a_csv_and_a_parquet_file_hold_the_table(tmp_path):
    run(tmp_path, SMALL, {"path": "out/d.csv"}, {"path": "out/d.parquet"})
    assert (tmp_path / "out" / "d.csv").read_text().splitlines()[1] == (
        "1,1.5,a,true,2020-01-02,2020-01-02T03:04:05.000000"
    )
    assert (tmp_path / "out" / "d.parquet").read_bytes() == (tmp_path / "clean.parquet").read_bytes()


@pytest.mark.parametrize("values", [["a", None, "", 'q"'], [None, 1, 2]])
def test_a_missing_value_of_an_only_column_is_a_row_of_csv(tmp_path, values):
    """A blank line is one for Polars alone."""
    rows = pl.DataFrame({"only": values})
    run(tmp_path, rows, {"path": "out/d.csv"})
    (note,) = (tmp_path / "out").glob("*.json")
    held = json.loads(note.read_text())
    clean.run("d", params({"only": {"dtype": "str", "nullable": True}}), raw=tmp_path / "out" / "d.csv",
              **{name: tmp_path / name for name in ("clean", "rejected", "metrics")})  # fmt: skip
    assert pl.read_parquet(tmp_path / "clean")["only"].to_list() == [(value and str(value)) or None for value in values]
    run(tmp_path, rows, {"path": "out/d.csv"})
    assert json.loads(note.read_text()) == held


def test_a_database_table_holds_the_rows_with_their_types(tmp_path):
    run(tmp_path, SMALL, target(tmp_path))
    assert read(tmp_path) == [
        (1, 1.5, "a", 1, "2020-01-02", "2020-01-02 03:04:05.000000"),
        (None, None, None, None, None, None),
    ]
    types = read(tmp_path, "SELECT name, type FROM pragma_table_info('t')")
    assert dict(types) == {"n": "BIGINT", "x": "DOUBLE", "t": "TEXT", "b": "BOOLEAN", "d": "DATE", "s": "DATETIME"}


def test_decimals_and_times_with_a_zone_keep_their_values(tmp_path):
    rows = pl.DataFrame({"m": [Decimal("1.25")]}, {"m": pl.Decimal(10, 2)}).with_columns(
        z=pl.datetime(2020, 7, 1, 12, time_zone="Europe/Berlin")
    )
    run(tmp_path, rows, target(tmp_path))
    assert read(tmp_path) == [(1.25, "2020-07-01 10:00:00.000000")]
    types = read(tmp_path, "SELECT name, type FROM pragma_table_info('t')")
    assert dict(types) == {"m": "NUMERIC(10, 2)", "z": "DATETIME"}


@pytest.mark.parametrize(
    ("dtype", "dialect", "named"),
    [
        (pl.Decimal(10, 2), mysql, "NUMERIC(10, 2)"),
        (pl.Datetime("us"), mysql, "DATETIME(6)"),
        (pl.Time(), mysql, "TIME(6)"),
        (pl.Datetime("us"), mssql, "DATETIME2(6)"),
        (pl.Datetime("us"), oracle, "TIMESTAMP"),
        (pl.Datetime("us"), postgresql, "TIMESTAMP WITHOUT TIME ZONE"),
        (pl.String(), mysql, "LONGTEXT"),
        (pl.String(), mssql, "NVARCHAR(max)"),
    ],
)
def test_a_type_of_a_database_keeps_fractions_and_text(dtype, dialect, named):
    assert sql_values.sql_type(dtype, "").compile(dialect=dialect.dialect()) == named


WIDE, TINY = pl.Decimal(38, 2), pl.Decimal(38, 30)


@pytest.mark.parametrize(
    ("kept", "dtype", "as_read"),
    [
        ("9999999999999.99", WIDE, 9999999999999.99),
        ("-123456789012345678.5", pl.Decimal(38, 1), None),
        ("12345678901234567.89", WIDE, None),
        ("12345678901234567890", pl.Decimal(38, 0), None),
        ("18014398509481984", pl.Decimal(38, 0), 2**54),
        ("0.1", TINY, 0.1),
        ("0.12345678901234567890", TINY, None),
    ],
)
def test_a_decimal_is_one_that_the_database_has_or_refused(tmp_path, kept, dtype, as_read):
    rows = pl.DataFrame({"m": [None, Decimal(kept)]}, {"m": dtype})
    if as_read is not None:
        run(tmp_path, rows, target(tmp_path))
        assert read(tmp_path) == [(None,), (as_read,)]
        return
    with pytest.raises(
        StageError, match=rf"clean\.parquet: column 'm': {kept}.* has more digits than sqlite gets of a"
    ):
        run(tmp_path, rows, target(tmp_path))
    assert read(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("_deliveries",)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pl.Series([1, 2**63], dtype=pl.UInt64), "9223372036854775808 is beyond the 64 bits of a whole number there"),
        (pl.Series([1000, 1001], dtype=pl.Datetime("ns")), r"1970-01-01 00:00:00\.000001001 has nanoseconds"),
        (pl.Series([1000, 1001], dtype=pl.Time), "has nanoseconds, and times there have microseconds"),
        (pl.Series([0, 4_000_000]).cast(pl.Date), r"\+12921-08-18 is not between the years 1 and 9999"),
        (pl.Series([0, -(10**17)]).cast(pl.Datetime("us")), "is not between the years 1 and 9999"),
    ],
)
def test_a_value_that_the_database_would_not_have_is_refused_by_name(tmp_path, values, said):
    run(tmp_path, pl.DataFrame({"^v$": values.head(1)}), target(tmp_path))
    with pytest.raises(StageError, match=rf"column '\^v\$': .*{said}.*; cast it in the cleaning script") as refusal:
        run(tmp_path, pl.DataFrame({"^v$": values}), target(tmp_path))
    assert "\n" not in str(refusal.value)
    assert len(read(tmp_path)) == 1


def test_what_a_driver_refuses_is_a_matter_of_the_data_not_of_the_connection(tmp_path):
    def limit(connection, _record):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000)

    event.listen(Engine, "connect", limit)
    try:
        with pytest.raises(
            StageError,
            match=r"a value in the rows 1 to 2 is none for the database: DataError: .*too big; cast its column",
        ) as refusal:
            run(tmp_path, pl.DataFrame({"t": ["a", "a" * 9000]}), target(tmp_path))
    finally:
        event.remove(Engine, "connect", limit)
    assert refusal.value.exit_code == 2
    assert read(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("_deliveries",)]


def test_numbers_that_are_none_are_refused_where_the_database_has_none():
    rows, file = pl.DataFrame({"x": [1.0, None, float("nan")]}), Path("c.parquet")
    sql_values.refuse_others(rows, sqlite.dialect(), file)
    sql_values.refuse_others(rows.head(2), mysql.dialect(), file)
    with pytest.raises(StageError, match=r"c\.parquet: column 'x': NaN is no number in mysql"):
        sql_values.refuse_others(rows, mysql.dialect(), file)


def test_categories_are_text(tmp_path):
    values = ["b", None, "a"]
    rows = pl.DataFrame(
        {"c": pl.Series(values, dtype=pl.Categorical), "e": pl.Series(values, dtype=pl.Enum(["a", "b"]))}
    )
    run(tmp_path, rows, target(tmp_path))
    assert read(tmp_path) == [("b", "b"), (None, None), ("a", "a")]


@pytest.mark.parametrize(
    ("dialect", "is_there", "statement"),
    [
        (mysql, True, "RENAME TABLE s.t TO s._d_1_old, s._d_1 TO s.t"),
        (mysql, False, "RENAME TABLE s._d_1 TO s.t"),
        (mssql, True, "EXEC sp_rename N's._d_1', N't', N'OBJECT'"),
        (postgresql, True, "ALTER TABLE s._d_1 RENAME TO t"),
        (sqlite, False, "ALTER TABLE s._d_1 RENAME TO t"),
    ],
)
def test_a_table_gets_its_name_in_the_words_of_its_database(dialect, is_there, statement):
    """Tried on SQLite, PostgreSQL and MariaDB; of SQL Server there is the text alone."""
    staging, there, old = (Table(name, MetaData(), schema="s") for name in ("_d_1", "t", "_d_1_old"))
    written = sql_table.renaming(dialect.dialect(), staging, there, old if is_there else None)
    assert written.replace('"', "").replace("`", "").replace("[", "").replace("]", "") == statement


def test_other_data_replaces_table_and_files_whole(tmp_path):
    targets = [{"path": "out/d.csv"}, target(tmp_path)]
    run(tmp_path, SMALL, *targets)
    run(tmp_path, pl.DataFrame({"other": range(ROWS)}), *targets)
    assert read(tmp_path) == [(number,) for number in range(ROWS)]
    assert (tmp_path / "out" / "d.csv").read_text().splitlines() == ["other", *map(str, range(ROWS))]
    assert read(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("_deliveries",), ("t",)]


def test_no_table_of_the_users_is_taken_for_one_of_ours(tmp_path):
    run(tmp_path, pl.DataFrame({"n": [1]}), target(tmp_path, "t__staging"))
    run(tmp_path, pl.DataFrame({"n": [2]}), target(tmp_path))
    assert read(tmp_path, "SELECT n FROM t__staging") == [(1,)]
    noted = read(tmp_path, "SELECT * FROM _deliveries")
    for name in ("_deliveries", "_DELIVERIES", "main._Deliveries"):
        with pytest.raises(StageError, match=rf"deliver\.0\.table = {name}: .*; choose another name"):
            run(tmp_path, SMALL, target(tmp_path, name))
    assert read(tmp_path, "SELECT * FROM _deliveries") == noted


@pytest.mark.parametrize(("table", "column", "odd"), [("t" * 64, "a", "t" * 64), ("s.t", "ä" * 32, "ä" * 32)])
def test_a_name_that_postgresql_would_cut_off_is_refused(tmp_path, table, column, odd):
    pl.DataFrame({column: [1]}).write_parquet(tmp_path / "c.parquet")
    content = Content(tmp_path / "c.parquet", 1, "", "datasets.d.deliver.0")
    with pytest.raises(StageError, match=f"'{odd}' is longer than the 63 bytes that PostgreSQL keeps of a name"):
        sql_values.check_names(postgresql.dialect(), table, content)


def test_columns_that_the_database_takes_for_one_are_refused(tmp_path):
    with pytest.raises(
        StageError, match=r"the columns 'a' and 'A' have one name in sqlite; rename one in the cleaning"
    ):
        run(tmp_path, pl.DataFrame({"a": [1], "A": [2]}), target(tmp_path))


def test_a_view_of_the_table_survives_its_replacement(tmp_path):
    run(tmp_path, pl.DataFrame({"n": [1]}), target(tmp_path))
    with closing(sqlite3.connect(tmp_path / "out" / "d.db")) as connection:
        connection.execute("CREATE VIEW twice AS SELECT 2 * n FROM t")
    run(tmp_path, pl.DataFrame({"n": [2]}), target(tmp_path))
    assert read(tmp_path, "SELECT * FROM twice") == [(4,)]


def test_delivering_the_same_data_twice_changes_nothing(tmp_path):
    targets = [{"path": "out/d.csv"}, {"path": "out/d.parquet"}, target(tmp_path)]
    first = run(tmp_path, SMALL, *targets)
    before = versions(tmp_path)
    assert run(tmp_path, SMALL, *targets) == first
    assert versions(tmp_path) == before


def test_what_was_delivered_stands_beside_it(tmp_path):
    receipt = run(tmp_path, SMALL, {"path": "out/d.csv"}, target(tmp_path))
    note = json.loads((tmp_path / "out" / "d.csv.delivery.json").read_text())
    (logged,) = read(tmp_path, 'SELECT "table", digest, rows FROM _deliveries')
    assert [entry["target"] for entry in receipt["targets"]] == ["out/d.csv", f"sqlite:///{tmp_path}/out/d.db t"]
    assert [entry["digest"] for entry in receipt["targets"]] == [note["digest"], logged[1]]
    assert (note["rows"], logged[0], logged[2]) == (2, "t", 2)
    assert "time" in note
    assert "time" not in json.dumps(receipt)


def test_a_target_that_was_removed_is_delivered_again(tmp_path):
    run(tmp_path, SMALL, {"path": "out/d.csv"}, target(tmp_path))
    (tmp_path / "out" / "d.csv").unlink()
    with closing(sqlite3.connect(tmp_path / "out" / "d.db")) as connection:
        connection.execute("DROP TABLE t")
    run(tmp_path, SMALL, {"path": "out/d.csv"}, target(tmp_path))
    assert (tmp_path / "out" / "d.csv").exists()
    assert len(read(tmp_path)) == 2


def test_a_target_that_was_changed_is_delivered_again(tmp_path):
    targets = [{"path": "out/d.csv"}, {"path": "out/d.parquet"}, target(tmp_path)]
    run(tmp_path, SMALL, *targets)
    before, rows = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("d.[cp]*[vt]")}, read(tmp_path)
    with (tmp_path / "out" / "d.csv").open("a") as file:
        file.write("9,9,z,false,,\n")
    SMALL.head(1).write_parquet(tmp_path / "out" / "d.parquet")
    with closing(sqlite3.connect(tmp_path / "out" / "d.db")) as connection:
        connection.execute("DELETE FROM t WHERE n IS NULL")
        connection.commit()
    run(tmp_path, SMALL, *targets)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before
    assert (len(before), read(tmp_path)) == (2, rows)


def test_of_two_deliveries_to_one_table_at_once_the_first_is_told_and_no_rows_are_mixed(tmp_path, monkeypatch):
    fill, others = vars(sql_table)["_fill"], [pl.DataFrame({"n": [2, 2]})]
    (tmp_path / "other").mkdir()

    def filled(*given):
        if others:
            run(tmp_path / "other", others.pop(), target(tmp_path))
        fill(*given)

    monkeypatch.setattr(sql_table, "_fill", filled)
    with pytest.raises(OutsideError, match=r"deliver\.0\.table = t: another delivery to it began meanwhile; deliver"):
        run(tmp_path, pl.DataFrame({"n": [1]}), target(tmp_path))
    assert read(tmp_path) == [(2,), (2,)]
    assert read(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("_deliveries",), ("t",)]


def test_a_failing_target_leaves_the_earlier_ones_and_no_receipt(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutsideError, match=r"deliver\.1\.path = file/d\.csv"):
        run(tmp_path, SMALL, {"path": "out/d.csv"}, {"path": "file/d.csv"})
    assert (tmp_path / "out" / "d.csv").exists()
    assert not (tmp_path / "receipt.json").exists()


def test_a_type_that_a_target_cannot_hold_is_refused(tmp_path):
    nested = pl.DataFrame({"l": [[1, 2]]})
    with pytest.raises(StageError, match=r"column 'l' is List\(Int64\), for which a database has no type"):
        run(tmp_path, nested, target(tmp_path))
    with pytest.raises(StageError, match=r"deliver\.0\.path = out/d\.csv: .*; deliver it as Parquet"):
        run(tmp_path, nested, {"path": "out/d.csv"})
    with pytest.raises(StageError, match=r"out/d\.csv: .*duration.*; deliver it as Parquet") as refused:
        run(tmp_path, pl.DataFrame({"l": [timedelta(1)]}), {"path": "out/d.csv"})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out" / "d.csv").exists()


def test_missing_clean_data_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"clean\.parquet is missing; make it: dvc repro clean@d"):
        deliver.run("d", params(), clean=tmp_path / "clean.parquet", receipt=tmp_path / "receipt.json")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("sqlite:////proc/${PASSWORD}/d.db", 3),
        ("nosuchdialect://me:${PASSWORD}@host/shop", 2),
        ("${UNSET}", 2),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_its_secret(tmp_path, url, code):
    tree(tmp_path, config(deliver=[{"table": "t", "url": url}]))
    SMALL.write_parquet(tmp_path / "clean.parquet")
    done = stage(tmp_path, "deliver", "d", "--clean", "clean.parquet", "--receipt", "r.json", PASSWORD=SECRET)
    assert (done.returncode, done.stdout) == (code, "")
    assert "params.yaml: datasets.d.deliver.0.url" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not [part for part in SECRET.split("/") if part in done.stderr]
    assert not (tmp_path / "r.json").exists()


def test_the_receipt_of_a_secret_url_shows_the_name_of_the_secret_only(tmp_path, monkeypatch):
    monkeypatch.setenv("NAME", "s3cr3t")
    receipt = run(tmp_path, SMALL, {"table": "t", "url": f"sqlite:///{tmp_path}/out/${{NAME}}.db"})
    assert (tmp_path / "out" / "s3cr3t.db").exists()
    assert "s3cr3t" not in json.dumps(receipt)
    assert "${NAME}" in receipt["targets"][0]["target"]


@pytest.mark.slow
def test_a_reader_sees_one_delivery_or_the_other(tmp_path):
    """Two tables of different length and columns in turn: a reader must find either, complete, at any time."""
    tables = [pl.DataFrame({"a": ["x"] * ROWS}), pl.DataFrame({"b": ["y"] * (ROWS // 2)})]
    targets = [{"path": "out/d.csv"}, target(tmp_path)]
    run(tmp_path, tables[0], *targets)
    stop, seen, wrong = threading.Event(), set(), []

    def watch(look):
        while not stop.is_set():
            try:
                seen.add(look())
            except Exception as error:  # noqa: BLE001  (a missing file or table is what is being looked for)
                wrong.append(error)

    def table():
        rows = read(tmp_path)
        return "table", rows[0], rows[-1], len(rows)

    def file():
        lines = (tmp_path / "out" / "d.csv").read_text().split()
        return "file", lines[0], lines[-1], len(lines) - 1

    watchers = [threading.Thread(target=watch, args=(look,)) for look in (table, file)]
    for watcher in watchers:
        watcher.start()
    try:
        for turn in range(1, 7):
            run(tmp_path, tables[turn % 2], *targets)
    finally:
        stop.set()
        for watcher in watchers:
            watcher.join()
    assert not wrong
    assert seen == {
        *{("table", ("x",), ("x",), ROWS), ("table", ("y",), ("y",), ROWS // 2)},
        *{("file", "a", "x", ROWS), ("file", "b", "y", ROWS // 2)},
    }


@pytest.mark.parametrize("step", ["_fill", "_swap"])
def test_a_killed_delivery_leaves_the_old_rows_and_is_completed_by_the_next(tmp_path, step):
    run(tmp_path, SMALL, {"path": "out/d.csv"}, target(tmp_path))
    file = (tmp_path / "out" / "d.csv").read_bytes()
    rows = read(tmp_path)
    big = pl.DataFrame({"a": range(ROWS)})
    big.write_parquet(tmp_path / "clean.parquet")
    tree(tmp_path, config(deliver=[target(tmp_path), {"path": "out/d.csv"}]))
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(step=step)], cwd=tmp_path, check=False, timeout=120, env=dict(os.environ)
    )
    assert done.returncode == -signal.SIGKILL
    assert (read(tmp_path), (tmp_path / "out" / "d.csv").read_bytes()) == (rows, file)
    run(tmp_path, big, target(tmp_path), {"path": "out/d.csv"})
    assert len(read(tmp_path)) == ROWS
    assert read(tmp_path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("_deliveries",), ("t",)]


# Dies within the step: after a chunk is in the staging table, or after the old table is dropped and before the commit.
KILLED = """
import os, signal, sys
sys.path.insert(0, "src")
from pathlib import Path
from sqlalchemy import Connection, event
from stages import deliver
from stages.common.params import load_params

seen = []

@event.listens_for(Connection, "after_cursor_execute")
def die(connection, cursor, statement, *_):
    frame, steps = sys._getframe(), set()
    while frame:
        steps.add(frame.f_code.co_name)
        frame = frame.f_back
    if "{step}" in steps and statement.strip().startswith(("INSERT", "DROP")):
        seen.append(statement)
    if len(seen) == (2 if "{step}" == "_fill" else 1):
        os.kill(os.getpid(), signal.SIGKILL)

deliver.run("d", load_params(Path("params.yaml")), clean=Path("clean.parquet"), receipt=Path("receipt.json"))
"""
