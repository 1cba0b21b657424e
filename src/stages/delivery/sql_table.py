"""A table of a database, replaced in one transaction, with a note in the table `_deliveries`.

Each delivery has a staging table of its own, so that two at once never mix their rows: the later one removes that of
the earlier one, as it removes what a killed one has left, and the earlier one ends with an error.
"""

import hashlib
import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from stages.common.errors import OutsideError, StageError
from stages.common.params import PARAMS_FILE
from stages.data.urls import Url, database
from stages.delivery.content import Content
from stages.delivery.sql_values import check_names, in_utc, refuse_others, sql_type

if TYPE_CHECKING:
    from sqlalchemy import Connection, Dialect, Engine, Table

_CHUNK = 20_000  # rows per insert
_LOG = "_deliveries"  # the table in which deliveries are noted
_BUSY = 30_000  # ms to wait for readers of an SQLite file
_ONE_STATEMENT = {"mysql", "mariadb"}  # where no transaction has several that change tables


def to_table(name: str, address: Url, content: Content) -> None:
    """Fill a staging table beside the old one, chunk by chunk, then swap them and note it in one transaction.

    Raises:
        StageError: the table cannot be named so, or a column has no type, or a value no place there.
        OutsideError: the database cannot be reached or written, or another delivery to the table began meanwhile.
    """
    if name.rpartition(".")[2].casefold() == _LOG:  # in any schema; SQLite calls its only one `main`, and ignores case
        raise StageError(
            f"{PARAMS_FILE}: {content.place}.table = {name}: deliveries are noted there; choose another name"
        )
    content = replace(content, digest=_digest(content))
    with database(address) as engine:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        check_names(engine.dialect, name, content)
        log, staging = _log_table(), _staging_table(name, content)
        with engine.begin() as connection:
            log.create(connection, checkfirst=True)
            if _is_delivered(connection, log, name, content):
                return
            _drop_others(connection, staging)
            staging.create(connection)
        try:
            _fill(engine, staging, content.file, address)
            with engine.begin() as connection:
                _check_count(connection, staging, content)
                connection.execute(log.delete().where(log.c.table == name))  # MySQL commits it with the swap
                _swap(connection, staging, name, content)
                connection.execute(log.insert().values(table=name, **content.note))
        except BaseException as error:
            if isinstance(error, Exception) and not _is_there(engine, staging):
                raise OutsideError(
                    f"{PARAMS_FILE}: {content.place}.table = {name}: another delivery to it began meanwhile; deliver "
                    "again when it is done"
                ) from error
            with suppress(Exception), engine.begin() as connection:  # what went wrong comes first
                staging.drop(connection)
            raise


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
        Column(column, sql_type(dtype, f"{content.file}: column {column!r}"))
        for column, dtype in pl.scan_parquet(content.file, glob=False).collect_schema().items()
    ]
    unique = hashlib.sha256(name.encode()).hexdigest()[:12]  # no table of the user's has this name
    return Table(f"_delivery_{unique}_{secrets.token_hex(3)}", MetaData(), *columns, schema=schema or None)


def _drop_others(connection: "Connection", staging: "Table") -> None:
    """Drop the staging tables of other deliveries to the same table: killed ones, or one that this one overtakes."""
    from sqlalchemy import MetaData, Table, inspect

    mine = staging.name.rpartition("_")[0]
    for name in inspect(connection).get_table_names(staging.schema):
        if name.startswith(mine):
            Table(name, MetaData(), schema=staging.schema).drop(connection, checkfirst=True)


def _is_there(engine: "Engine", staging: "Table") -> bool:
    """Whether the table is there, as far as the database says."""
    from sqlalchemy import inspect

    try:
        return bool(inspect(engine).has_table(staging.name, staging.schema))
    except Exception:  # noqa: BLE001  what went wrong before says more
        return True


def _digest(content: Content) -> str:
    """That of the content, or another one where a table that an earlier Dovetail delivered may have other values."""
    types = pl.scan_parquet(content.file, glob=False).collect_schema().dtypes()
    if any(
        dtype.is_decimal() or dtype == pl.Time or getattr(dtype, "time_unit", "") == "ns" or _zone(dtype)
        for dtype in types
    ):
        return hashlib.sha256(f"{content.digest} exact, in UTC".encode()).hexdigest()
    return content.digest


def _zone(dtype: Any) -> str | None:
    return getattr(dtype, "time_zone", None)


def _is_delivered(connection: "Connection", log: "Table", name: str, content: Content) -> bool:
    """Whether the table has this delivery, and as many rows as that had."""
    from sqlalchemy import inspect, select

    schema, _, short = name.rpartition(".")
    noted = connection.execute(select(log.c.digest).where(log.c.table == name)).scalar()
    if noted != content.digest or not inspect(connection).has_table(short, schema or None):
        return False
    return _rows(connection, short, schema) == content.rows


def _rows(connection: "Connection", name: str, schema: str | None) -> int:
    from sqlalchemy import func, select, table

    return int(connection.execute(select(func.count()).select_from(table(name, schema=schema or None))).scalar_one())


def _fill(engine: "Engine", staging: "Table", file: Path, address: Url) -> None:
    from sqlalchemy.exc import DataError

    rows, first = in_utc(pl.scan_parquet(file, glob=False)), 1
    with engine.connect() as connection:
        for batch in rows.collect_batches(chunk_size=_CHUNK, maintain_order=True):
            refuse_others(batch, engine.dialect, file)
            try:
                with connection.begin():
                    connection.execute(staging.insert(), batch.to_dicts())
            except (DataError, OverflowError, ValueError) as error:  # the latter two are those of a driver
                raise StageError(
                    f"{file}: a value in the rows {first} to {first + batch.height - 1} is none for the database: "
                    f"{address.scrub(error)}; cast its column in the cleaning script"
                ) from None
            first += batch.height


def _check_count(connection: "Connection", staging: "Table", content: Content) -> None:
    if (found := _rows(connection, staging.name, staging.schema)) != content.rows:
        raise OutsideError(
            f"{PARAMS_FILE}: {content.place}.table: {found} rows are there of {content.rows}; deliver again"
        )


def _swap(connection: "Connection", staging: "Table", name: str, content: Content) -> None:
    """Put the staging table in the old one's place.

    MySQL and MariaDB commit with each statement that changes a table, so that there one statement renames both.
    """
    from sqlalchemy import MetaData, Table, inspect

    schema, _, short = name.rpartition(".")
    there = Table(short, MetaData(), schema=schema or None)
    if connection.dialect.name not in _ONE_STATEMENT:
        there.drop(connection, checkfirst=True)
        connection.exec_driver_sql(renaming(connection.dialect, staging, there))
        return
    known = inspect(connection)
    if short in known.get_view_names(schema or None):  # it would be renamed, and no table
        raise StageError(f"{PARAMS_FILE}: {content.place}.table = {name}: a view has this name; choose another one")
    # By this name the next delivery removes it, should this one be killed here.
    old = Table(f"{staging.name}_old", MetaData(), schema=schema or None)
    is_there = known.has_table(short, schema or None)
    connection.exec_driver_sql(renaming(connection.dialect, staging, there, old if is_there else None))
    old.drop(connection, checkfirst=True)


def renaming(dialect: "Dialect", staging: "Table", there: "Table", old: "Table | None" = None) -> str:
    """The statement that gives the staging table its name; `old`, in MySQL, is that of the table that has it."""
    named = dialect.identifier_preparer.format_table
    if dialect.name in _ONE_STATEMENT:
        first = f"{named(there)} TO {named(old)}, " if old is not None else ""
        return f"RENAME TABLE {first}{named(staging)} TO {named(there)}"
    if dialect.name == "mssql":  # its names have neither quotes nor brackets in them
        return f"EXEC sp_rename N'{named(staging)}', N'{there.name}', N'OBJECT'"
    return f"ALTER TABLE {named(staging)} RENAME TO {named(there, use_schema=False)}"
