"""Deliver cleaned data to where its readers want it: files and database tables, each replaced in one step."""

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from stages.common.datasets import Delivery
from stages.common.errors import OutsideError, StageError
from stages.common.outputs import replacing, write_json
from stages.common.params import PARAMS_FILE, Params, block
from stages.data.urls import Url, database, fill

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

_CHUNK = 20_000  # rows per insert
_LOG = "_deliveries"  # the table in which deliveries are noted
_BUSY = 30_000  # ms to wait for readers of an SQLite file


@dataclass(frozen=True)
class _Content:
    """The rows to deliver to one target.

    Attributes:
        file: the cleaned Parquet.
        rows: in it.
        digest: of its bytes and the target's entry: what is the same need not be delivered again.
        place: of the entry in params.yaml.
    """

    file: Path
    rows: int
    digest: str
    place: str

    @property
    def note(self) -> dict[str, Any]:
        """What stands beside the target."""
        return {"digest": self.digest, "rows": self.rows, "time": datetime.now(UTC).isoformat(timespec="seconds")}


def run(key: str, params: Params, *, clean: Path, receipt: Path) -> None:
    """Deliver `clean` to each target in turn; one that has it already is left alone.

    Args:
        key: the dataset.
        params: its `deliver` entries.
        clean: the cleaned Parquet.
        receipt: what is where: targets, digests, rows. Written once all are delivered.

    Raises:
        StageError: on an entry that cannot work; targets before it stay delivered.
        OutsideError: if a target cannot be reached or written.
    """
    entries = block("datasets", params.datasets, key).deliver
    if not clean.is_file():
        raise StageError(f"{clean} is missing; make it: dvc repro clean@{key}")
    with clean.open("rb") as file:
        data = hashlib.file_digest(file, "sha256").hexdigest()
    rows = int(pl.scan_parquet(clean).select(pl.len()).collect().item())
    targets = []
    for number, entry in enumerate(entries):
        digest = hashlib.sha256((data + entry.model_dump_json()).encode()).hexdigest()
        content = _Content(clean, rows, digest, f"datasets.{key}.deliver.{number}")
        targets.append({"target": _deliver(entry, content), "digest": digest, "rows": rows})
    write_json(receipt, {"dataset": key, "targets": targets})


def _deliver(entry: Delivery, content: _Content) -> str:
    """Deliver, and say where to in words without secrets."""
    if entry.path is not None:
        _to_file(Path(entry.path), content)
        return entry.path
    address = fill(entry.url, f"{content.place}.url")
    _to_table(str(entry.table), address, content)
    return f"{address.shown} {entry.table}"


def _to_file(path: Path, content: _Content) -> None:
    note = path.with_name(f"{path.name}.delivery.json")
    if path.is_file() and _digest(note) == content.digest:
        return
    try:
        note.unlink(missing_ok=True)  # first: a note must never stand beside other rows than it says
        with replacing(path) as file:
            if path.suffix == ".csv":
                pl.scan_parquet(content.file).sink_csv(file)
            else:
                shutil.copyfile(content.file, file)
        write_json(note, content.note)
    except pl.exceptions.PolarsError as error:
        raise StageError(f"{PARAMS_FILE}: {content.place}.path = {path}: {error}; deliver it as Parquet") from error
    except OSError as error:
        raise OutsideError(f"{PARAMS_FILE}: {content.place}.path = {path}: {error}; make it writable") from error


def _digest(note: Path) -> str | None:
    try:
        return str(json.loads(note.read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):  # no note, or none of ours: deliver
        return None


def _to_table(name: str, address: Url, content: _Content) -> None:
    """Fill a staging table beside the old one, chunk by chunk, then swap them and note it in one transaction."""
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


def _staging_table(name: str, content: _Content) -> "Table":
    from sqlalchemy import Column, MetaData, Table

    schema = name.rpartition(".")[0]
    columns = [
        Column(column, _sql_type(dtype, f"{content.file}: column {column!r}"))
        for column, dtype in pl.read_parquet_schema(content.file).items()
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
