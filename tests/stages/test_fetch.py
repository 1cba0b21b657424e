"""Fetch: frames, Bunches, queries and URLs become a raw file; secrets stay in the environment."""

import sqlite3
import sys
import threading
from contextlib import closing
from datetime import time
from decimal import Decimal
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import polars as pl
import pytest
from datasets import config, left_behind, params, stage, tree
from sqlalchemy import Engine, event

from stages import fetch
from stages.common.errors import OutsideError, StageError

SECRET = "s3cr3t/p@ss+wörd"
LOADERS = """\
from decimal import Decimal
import numpy as np, pandas as pd, polars as pl, pyarrow as pa, sklearn.utils

NOT_A_FUNCTION = 1
def pandas(rows=2): return pd.DataFrame({"a": [1.5, None][:rows], "t": ["x", None][:rows]})
def polars(): return pl.DataFrame({"a": [1, 2]})
def lazy(): return pl.LazyFrame({"a": [1, 2]})
def arrow(): return pa.table({"a": [1, 2]})
def named(): return bunch(target=np.array([1, 0]), target_names=np.array(["no", "yes"]))
def real(): return bunch(target=np.array([1.5, 2.5]), target_names=["price"])
def several(): return bunch(target=np.array([[1, 2], [3, 4]]), target_names=["p", "q"])
def frames(): return sklearn.utils.Bunch(data=pd.DataFrame({"x": [1, 2]}), target=pd.Series([0, 1]), target_names="ny")
def unlabelled(): return bunch()
def bunch(**more): return sklearn.utils.Bunch(data=np.array([[1.0, 2.0], [3.0, 4.0]]), feature_names=["x", "y"], **more)
def twice(): return sklearn.utils.Bunch(data=pd.DataFrame({"target": [1, 2]}), target=np.array([0, 1]))
def number(): return 3
def empty(): return pl.DataFrame({"a": []})
def indexed(): return pd.DataFrame({"t": ["x", "y"], "a": [1, 2]}).groupby("t").sum()
def filtered(): return pd.DataFrame({"a": [1, 2]}).query("a > 1")
def unnamed(): return pd.DataFrame({"a": [1, 2]}, index=["x", "y"])
def broken(): raise ValueError("no luck\\ntoday")
def objects(): return pl.DataFrame({"a": pl.Series([None, object()], dtype=pl.Object)})
def wide(): return pl.DataFrame({"a": pl.Series([2**70], dtype=pl.UInt128)})
def periods(): return pd.DataFrame({"a": pd.period_range("2020-01", periods=2, freq="M")})
def longest(): return pa.table({"a": pa.array([Decimal("1" * 50)], pa.decimal256(60, 0))})
def offline(): raise ConnectionError("no route")
"""


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "raw" / "s.parquet"


@pytest.fixture
def loaders(tmp_path, monkeypatch):
    (tmp_path / "loaders.py").write_text(LOADERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loaders", raising=False)


def run(raw, **source):
    fetch.run("s", params(outside={"raw": f"s{raw.suffix}", **source}), raw=raw)
    assert not left_behind(raw.parent)
    return raw


def shop(path, rows):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sales (id, amount, note)")
        connection.executemany("INSERT INTO sales VALUES (?, ?, ?)", rows)
    connection.close()
    return f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("function", "rows"),
    [
        ("pandas", [(1.5, "x"), (None, None)]),
        ("polars", [(1,), (2,)]),
        ("indexed", [("x", 1), ("y", 2)]),
        ("filtered", [(2,)]),
        ("lazy", [(1,), (2,)]),
        ("arrow", [(1,), (2,)]),
        ("named", [(1.0, 2.0, "yes"), (3.0, 4.0, "no")]),
        ("real", [(1.0, 2.0, 1.5), (3.0, 4.0, 2.5)]),
        ("several", [(1.0, 2.0, 1, 2), (3.0, 4.0, 3, 4)]),
        ("frames", [(1, "n"), (2, "y")]),
        ("unlabelled", [(1.0, 2.0), (3.0, 4.0)]),
    ],
)
@pytest.mark.usefixtures("loaders")
def test_what_a_function_returns_becomes_parquet(raw, function, rows):
    assert pl.read_parquet(run(raw, load=f"loaders.{function}")).rows() == rows


@pytest.mark.usefixtures("loaders")
def test_a_function_is_called_with_its_args(raw):
    assert pl.read_parquet(run(raw, load="loaders.pandas", args={"rows": 1})).height == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("loaders.nope", r"s\.load = loaders\.nope does not import: AttributeError"),
        ("no_such_package.load", "does not import: ModuleNotFoundError: No module named 'no_such_package'"),
        ("loaders.NOT_A_FUNCTION", "is a int, not a function"),
        ("loaders.twice", "returned a Bunch: .* one of its features is named 'target' too"),
        (
            "loaders.unnamed",
            "returned a DataFrame: .*its index has no name, so that 'x' would be lost: frame.index.name",
        ),
        ("loaders.number", "returned a int: .*; it must be a data frame or a Bunch"),
        ("loaders.empty", "returned no rows"),
        ("loaders.objects", "column 'a' holds object; cast it in the function"),
        ("loaders.wide", "column 'a' holds whole numbers beyond 64 bits; cast it in the function"),
        ("loaders.periods", r"column 'a' holds values of the type pandas\.period; cast it in the function"),
        ("loaders.longest", "returned a Table: PanicException: .*; it must be a data frame"),
        ("loaders.broken", "failed: ValueError: no luck today; correct"),
    ],
)
@pytest.mark.usefixtures("loaders")
def test_a_function_that_does_not_work_is_refused(raw, path, said):
    with pytest.raises(StageError, match=said) as refusal:
        run(raw, load=path)
    assert (refusal.value.exit_code, list(raw.parent.iterdir())) == (2, [])


@pytest.mark.usefixtures("loaders")
def test_a_function_without_network_fails_outside(raw):
    with pytest.raises(OutsideError, match="failed: ConnectionError: no route; try again"):
        run(raw, load="loaders.offline")


def test_a_query_becomes_parquet(tmp_path, raw):
    database = shop(tmp_path / "shop.db", [(2, 1.5, "x"), (1, None, None)])
    table = pl.read_parquet(run(raw, sql="SELECT id, amount, note FROM sales ORDER BY id", database=database))
    assert table.rows() == [(1, None, None), (2, 1.5, "x")]
    assert table.schema == {"id": pl.Int64, "amount": pl.Float64, "note": pl.String}


def test_a_column_has_one_type_over_all_chunks(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(fetch, "_CHUNK", 2)
    rows = [(1, None, None), (2, None, None), (3, 1, "x"), (4, 2, 5), (5, 2.5, "y")]
    table = pl.read_parquet(run(raw, sql="SELECT * FROM sales", database=shop(tmp_path / "shop.db", rows)))
    assert table.schema == {"id": pl.Int64, "amount": pl.Float64, "note": pl.String}
    assert table.rows() == [(1, None, None), (2, None, None), (3, 1.0, "x"), (4, 2.0, "5"), (5, 2.5, "y")]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT * FROM nope", "no such table: nope; correct the query"),
        ("SELEC 1", "syntax error; correct the query"),
        ("SELECT * FROM sales WHERE id > 9", r"sources\.outside\.s\.sql finds no rows"),
        ("SELECT id, id FROM sales", r"sources\.outside\.s\.sql: the rows make no table"),
    ],
)
def test_a_wrong_query_is_refused(tmp_path, raw, sql, said):
    with pytest.raises(StageError, match=said) as refusal:
        run(raw, sql=sql, database=shop(tmp_path / "shop.db", [(1, 2, 3)]))
    assert (refusal.value.exit_code, list(raw.parent.iterdir())) == (2, [])


def test_a_colon_in_a_query_is_one(tmp_path, raw):
    query = """SELECT '{"a":1}' AS a, ':b' AS b, '12:30' AS c, CAST(id AS TEXT) AS "d:e", 'x\\:y' AS f FROM sales"""
    table = pl.read_parquet(run(raw, sql=query, database=shop(tmp_path / "shop.db", [(1, 2, 3)])))
    assert table.rows(named=True) == [{"a": '{"a":1}', "b": ":b", "c": "12:30", "d:e": "1", "f": "x:y"}]


def test_what_a_database_cannot_compute_is_a_matter_of_the_query(tmp_path, raw):
    def limit(connection, _record):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000)

    database = shop(tmp_path / "shop.db", [(1, 2, 3)])
    event.listen(Engine, "connect", limit)
    try:
        with pytest.raises(StageError, match=r"DataError: .* too big; correct the query") as refusal:
            run(raw, sql="SELECT hex(zeroblob(id * 4000)) FROM sales", database=database)
    finally:
        event.remove(Engine, "connect", limit)
    assert refusal.value.exit_code == 2


def test_a_value_that_python_does_not_have_is_refused(tmp_path, raw):
    """SQLite's driver reads what is declared a date only where it is asked to."""
    database = shop(tmp_path / "shop.db", [(1, 2, 3)])
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.executescript("CREATE TABLE days (d DATE); INSERT INTO days VALUES ('12000-01-01')")
    with pytest.raises(StageError, match=r"\.sql: Python has no such value: ValueError: .*; cast it in the query"):
        run(raw, sql="SELECT d FROM days", database=f"{database}?detect_types={sqlite3.PARSE_DECLTYPES}")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("1.50", "1.50"),
        ("NaN", None),
        ("-Infinity", r"column 'd' holds -Infinity as a decimal; cast it in the query"),
        ("1E+40", r"the rows make no table: RuntimeError: .*too large"),
        ("10:00+02:00", r"column 'd' holds 10:00:00\+02:00, a time of day with a zone; cast it in the query"),
        ("99999999999999999999", r"column 'd' holds whole numbers beyond 64 bits; cast it in the query"),
    ],
)
def test_odd_values_of_a_driver_are_read_or_refused(tmp_path, raw, monkeypatch, written, said):
    """Those of PostgreSQL's driver, from SQLite's."""

    def read(text):
        text = text.decode()
        return time.fromisoformat(text) if ":" in text else int(text) if text.isdecimal() else Decimal(text)

    monkeypatch.setitem(sqlite3.converters, "ODD", read)
    database = shop(tmp_path / "shop.db", [(1, 2, 3)])
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE odd (n INT, d ODD TEXT)")
        connection.execute("INSERT INTO odd VALUES (1, NULL), (2, ?)", (written,))
        connection.commit()
    asked = {"sql": "SELECT d FROM odd ORDER BY n", "database": f"{database}?detect_types={sqlite3.PARSE_DECLTYPES}"}
    if said is None or said == written:
        assert pl.read_parquet(run(raw, **asked))["d"].to_list() == [None, said and Decimal(said)]
        return
    with pytest.raises(StageError, match=said) as refusal:
        run(raw, **asked)
    assert "\n" not in str(refusal.value)


def test_a_database_that_is_not_there_fails_outside_and_is_not_made(tmp_path, raw):
    with pytest.raises(OutsideError, match="there is no such file"):
        run(raw, sql="SELECT 1", database=f"sqlite:///{tmp_path}/gone.db")
    assert not (tmp_path / "gone.db").exists()


def test_a_driver_that_is_not_installed_and_a_url_that_is_none_are_refused(raw):
    with pytest.raises(StageError, match="install the database's driver"):
        run(raw, sql="SELECT 1", database="nosuchdialect://host/shop")
    with pytest.raises(StageError, match="write a URL such as"):
        run(raw, sql="SELECT 1", database="shop.db")


def test_a_url_is_copied_byte_for_byte(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\r\n1,\r\n")
    raw = run(tmp_path / "raw" / "s.csv", url=f"file://{tmp_path}/a.csv")
    assert raw.read_bytes() == b"a,b\r\n1,\r\n"


@pytest.fixture
def server(tmp_path):
    """A web server on this machine; its folder and its address."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as http:
        threading.Thread(target=http.serve_forever).start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def test_a_web_address_is_copied_byte_for_byte(tmp_path, server):
    folder, address = server
    pl.DataFrame({"a": [1, 2]}).write_parquet(folder / "a.parquet")
    raw = run(tmp_path / "raw" / "s.parquet", url=f"{address}/a.parquet")
    assert raw.read_bytes() == (folder / "a.parquet").read_bytes()


def test_what_lies_at_a_url_must_be_readable(tmp_path, server):
    folder, address = server
    (folder / "a.csv").write_text("<html>\n<a,b>\n</html>\n")
    with pytest.raises(StageError, match=r"s\.csv is not a CSV file"):
        run(tmp_path / "raw" / "s.csv", url=f"{address}/a.csv")
    assert not list((tmp_path / "raw").iterdir())


@pytest.mark.parametrize("reached", [True, False])
def test_an_address_with_nothing_behind_it_ends_with_3_and_without_its_secret(tmp_path, server, reached):
    url = "http://me:${TOKEN}@" + (server[1].removeprefix("http://") if reached else "127.0.0.1:9") + "/${TOKEN}.csv"
    tree(tmp_path, config(outside={"url": url, "raw": "s.csv"}))
    done = stage(tmp_path, "fetch", "s", "--raw", "s.csv", TOKEN=SECRET)
    assert (done.returncode, done.stdout) == (3, "")
    assert "sources.outside.s.url" in done.stderr
    assert done.stderr.count("\n") == 1
    assert_no_trace(SECRET, done, tmp_path)


@pytest.mark.parametrize(
    ("database", "code"),
    [
        ("sqlite:////nowhere/${PASSWORD}/shop.db", 3),
        ("sqlite:///${FOLDER}/shop.db?mode=${PASSWORD}&uri=true", 3),
        ("nosuchdialect://me:${PASSWORD}@host/shop", 2),
        ("${PASSWORD}", 2),
    ],
)
def test_no_secret_is_in_an_error_or_a_file(tmp_path, database, code):
    shop(tmp_path / "shop.db", [(1, 2, 3)])
    tree(tmp_path, config(outside={"sql": "SELECT * FROM sales", "database": database, "raw": "s.parquet"}))
    done = stage(tmp_path, "fetch", "s", "--raw", "s.parquet", PASSWORD=SECRET, FOLDER=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert "sources.outside.s.database" in done.stderr
    assert done.stderr.count("\n") == 1
    assert_no_trace(SECRET, done, tmp_path)


def test_a_query_works_with_names_from_the_environment(tmp_path, raw, monkeypatch):
    shop(tmp_path / "shop.db", [(1, 2, 3)])
    monkeypatch.setenv("SHOP", str(tmp_path / "shop.db"))
    assert pl.read_parquet(run(raw, sql="SELECT id FROM sales", database="sqlite:///${SHOP}")).rows() == [(1,)]


def test_a_name_that_the_environment_does_not_have_is_refused(raw):
    with pytest.raises(StageError, match=r"sources\.outside\.s\.url: the environment has no NO_SUCH_NAME; set it"):
        run(raw, url="https://host/${NO_SUCH_NAME}")


def assert_no_trace(secret, done, folder):
    said = [
        done.stdout,
        done.stderr,
        *(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()),
    ]
    parts = [form for part in (secret, *secret.split("/")) for form in (part, quote(part, safe=""))]
    assert not [part for part in parts for text in said if part in text]
