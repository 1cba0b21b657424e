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
import polars.selectors as cs

from stages.common.errors import OutsideError, StageError
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
        OutsideError: the database cannot be reached or written, or another delivery to the table began meanwhile.
    """
    if name == _LOG:
        raise StageError(
            f"{PARAMS_FILE}: {content.place}.table = {name}: deliveries are noted there; choose another name"
        )
    content = replace(content, digest=_digest(content))
    with database(address) as engine:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        log, staging = _log_table(), _staging_table(name, content)
        with engine.begin() as connection:
            log.create(connection, checkfirst=True)
            if _is_delivered(connection, log, name, content):
                return
            _drop_others(connection, staging)
            staging.create(connection)
        try:
            _fill(engine, staging, content.file)
            with engine.begin() as connection:
                _check_count(connection, staging, content)
                _swap(connection, staging, name)
                connection.execute(log.delete().where(log.c.table == name))
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


def sql_type(dtype: Any, what: str) -> Any:
    """SQLAlchemy's type for a column that `what` names.

    Raises:
        StageError: there is none.
    """
    import sqlalchemy as sa
    from sqlalchemy.dialects import mssql, mysql, oracle

    # MySQL, SQL Server and Oracle leave fractions of a second out of what they call DATETIME, TIME or DATE.
    moment = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    precise = mssql.DATETIME2(6)  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed it
    moment = moment.with_variant(precise, "mssql").with_variant(oracle.TIMESTAMP(), "oracle")
    kinds: tuple[tuple[bool, Any], ...] = (
        (dtype.is_integer(), sa.BigInteger()),
        (dtype.is_float(), sa.Double()),
        (dtype == pl.Boolean, sa.Boolean()),
        (dtype == pl.Date, sa.Date()),
        (dtype == pl.Datetime, moment),
        (dtype == pl.Time, sa.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")),
        (dtype in {pl.String, pl.Categorical, pl.Enum, pl.Null}, sa.Text()),
    )
    if dtype.is_decimal():
        return sa.Numeric(dtype.precision, dtype.scale)  # without them MySQL and SQL Server keep no fraction
    if kind := next((kind for fits, kind in kinds if fits), None):
        return kind
    raise StageError(f"{what} is {dtype}, for which a database has no type; cast it in the cleaning script")


def _digest(content: Content) -> str:
    """That of the content, or another one where a table that an earlier Dovetail delivered has other values."""
    types = pl.scan_parquet(content.file, glob=False).collect_schema().dtypes()
    if any(dtype.is_decimal() or getattr(dtype, "time_zone", None) for dtype in types):
        return hashlib.sha256(f"{content.digest} decimals and UTC".encode()).hexdigest()
    return content.digest


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


def _fill(engine: "Engine", staging: "Table", file: Path) -> None:
    in_utc = cs.datetime(time_zone="*").dt.convert_time_zone("UTC").dt.replace_time_zone(None)  # as Delta has them
    rows = pl.scan_parquet(file, glob=False).with_columns(in_utc)
    with engine.connect() as connection:
        for batch in rows.collect_batches(chunk_size=_CHUNK, maintain_order=True):
            with connection.begin():
                connection.execute(staging.insert(), batch.to_dicts())


def _check_count(connection: "Connection", staging: "Table", content: Content) -> None:
    if (found := _rows(connection, staging.name, staging.schema)) != content.rows:
        raise OutsideError(
            f"{PARAMS_FILE}: {content.place}.table: {found} rows are there of {content.rows}; deliver again"
        )


def _swap(connection: "Connection", staging: "Table", name: str) -> None:
    from sqlalchemy import MetaData, Table, text

    schema, _, short = name.rpartition(".")
    Table(short, MetaData(), schema=schema or None).drop(connection, checkfirst=True)
    quote = connection.dialect.identifier_preparer
    connection.execute(text(f"ALTER TABLE {quote.format_table(staging)} RENAME TO {quote.quote(short)}"))
