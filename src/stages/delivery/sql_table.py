"""A table of a database, replaced in one transaction, with a note in the table `_deliveries`."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from stages.common.errors import StageError
from stages.common.params import PARAMS_FILE
from stages.data.urls import Url, database
from stages.delivery.content import Content

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

_CHUNK = 20_000  # rows per insert
_LOG = "_deliveries"  # the table in which deliveries are noted
_BUSY = 30_000  # ms to wait for readers of an SQLite file


def to_table(name: str, address: Url, content: Content) -> None:
    """Fill a staging table beside the old one, chunk by chunk, then swap them and note it in one transaction.

    Raises:
        StageError: the table cannot be named so, or a column has no type there.
        OutsideError: the database cannot be reached or written.
    """
    if name == _LOG:
        raise StageError(
            f"{PARAMS_FILE}: {content.place}.table = {name}: deliveries are noted there; choose another name"
        )
    with database(address) as engine:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        log, staging = _log_table(), _staging_table(name, content)
        with engine.begin() as connection:
            log.create(connection, checkfirst=True)
            if _is_delivered(connection, log, name, content.digest):
                return
            staging.drop(connection, checkfirst=True)  # of a delivery that was killed
            staging.create(connection)
        try:
            _fill(engine, staging, content.file)
        except BaseException:
            with suppress(Exception), engine.begin() as connection:  # what went wrong comes first
                staging.drop(connection)
            raise
        with engine.begin() as connection:
            _swap(connection, staging, name)
            connection.execute(log.delete().where(log.c.table == name))
            connection.execute(log.insert().values(table=name, **content.note))


def _prepare_sqlite(engine: "Engine") -> None:
    """Real transactions around DDL, which Python's sqlite3 does not begin by itself.

    https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#enabling-non-legacy-sqlite-transactional-modes-with-the-sqlite3-or-aiosqlite-driver
    """
    from sqlalchemy import event

    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {_BUSY}")
        connection.execute("PRAGMA legacy_alter_table = ON")  # else a view of the table forbids the swap

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _log_table() -> "Table":
    from sqlalchemy import BigInteger, Column, MetaData, String, Table

    return Table(
        _LOG,
        MetaData(),
        Column("table", String(255), primary_key=True),
        Column("digest", String(64)),
        Column("rows", BigInteger),
        Column("time", String(32)),
    )


def _staging_table(name: str, content: Content) -> "Table":
    from sqlalchemy import Column, MetaData, Table

    schema = name.rpartition(".")[0]
    columns = [
        Column(column, _sql_type(dtype, f"{content.file}: column {column!r}"))
        for column, dtype in pl.scan_parquet(content.file).collect_schema().items()
    ]
    unique = hashlib.sha256(name.encode()).hexdigest()[:16]  # no table of the user's has this name
    return Table(f"_delivery_{unique}", MetaData(), *columns, schema=schema or None)


def _sql_type(dtype: Any, what: str) -> Any:
    import sqlalchemy as sa

    kinds = (
        (dtype.is_integer(), sa.BigInteger),
        (dtype.is_float(), sa.Double),
        (dtype.is_decimal(), sa.Numeric),
        (dtype == pl.Boolean, sa.Boolean),
        (dtype == pl.Date, sa.Date),
        (dtype == pl.Datetime, sa.DateTime),
        (dtype == pl.Time, sa.Time),
        (dtype in {pl.String, pl.Categorical, pl.Enum, pl.Null}, sa.Text),
    )
    if kind := next((kind for fits, kind in kinds if fits), None):
        return kind()
    raise StageError(f"{what} is {dtype}, for which a database has no type; cast it in the cleaning script")


def _is_delivered(connection: "Connection", log: "Table", name: str, digest: str) -> bool:
    from sqlalchemy import inspect, select

    schema, _, short = name.rpartition(".")
    noted = connection.execute(select(log.c.digest).where(log.c.table == name)).scalar()
    return noted == digest and inspect(connection).has_table(short, schema or None)


def _fill(engine: "Engine", staging: "Table", file: Path) -> None:
    with engine.connect() as connection:
        for batch in pl.scan_parquet(file).collect_batches(chunk_size=_CHUNK, maintain_order=True):
            with connection.begin():
                connection.execute(staging.insert(), batch.to_dicts())


def _swap(connection: "Connection", staging: "Table", name: str) -> None:
    from sqlalchemy import MetaData, Table, text

    schema, _, short = name.rpartition(".")
    Table(short, MetaData(), schema=schema or None).drop(connection, checkfirst=True)
    quote = connection.dialect.identifier_preparer
    connection.execute(text(f"ALTER TABLE {quote.format_table(staging)} RENAME TO {quote.quote(short)}"))
