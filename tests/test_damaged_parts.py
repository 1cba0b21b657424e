"""Parts that are damaged, or written by other programs, as `predict` and `monitor` read them; what answers become."""

import gzip
import io
import secrets

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dovetail.errors import MissingFile, UserError
from dovetail.monitoring.observed_rows import batch
from dovetail.scaffold.inferred import infer
from dovetail.serving.batch.bad_part import BadPart
from dovetail.serving.batch.part_reader import Batch, read_csv_part
from dovetail.serving.batch.write_rows import ScoredSchema, write
from dovetail.serving.protocol.signature import Column, Signature
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.values.tables import open_table

SIGNATURE = Signature((Column("a", "double", required=False), Column("b", "string", required=False)), "double", ())
PACKED = gzip.compress(b"a,b\n" + b"".join(f"{n},{secrets.token_hex(8)}\n".encode() for n in range(20_000)))
DAMAGED = {
    "cut": PACKED[: len(PACKED) // 2],
    "flipped": PACKED[: len(PACKED) // 2] + bytes(40) + PACKED[len(PACKED) // 2 + 40 :],
    "flipped at the beginning": PACKED[:10] + b"\xff" * 40 + PACKED[50:],
    "no gzip at all": b"a,b\n1,x\n",
}


def read(content):
    reader = read_csv_part(io.BytesIO(content), SIGNATURE, ())
    return [batch.kept for batch in reader.batches]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_packed_part_is_a_bad_one(tmp_path, damage):
    (tmp_path / "part.csv.gz").write_bytes(DAMAGED[damage])
    with pytest.raises(BadPart, match=r"it cannot be read: .") as found:
        list(read_csv_part(gzip.GzipFile(tmp_path / "part.csv.gz"), SIGNATURE, ()).batches)
    assert "\n" not in str(found.value)
    with pytest.raises(MissingFile, match=r"part\.csv\.gz cannot be read: .") as monitored:
        batch(tmp_path, MonitoredVersion("m", 1, "0" * 32), ["a"])
    assert "\n" not in str(monitored.value)


@pytest.mark.parametrize("damage", DAMAGED)
def test_of_a_damaged_packed_table_no_project_is_made_and_no_rows_are_compared(tmp_path, damage):
    file = tmp_path / "table.csv.gz"
    file.write_bytes(DAMAGED[damage])
    with pytest.raises(UserError, match=r"table\.csv\.gz cannot be read as a table: ."):
        infer(file)
    with pytest.raises(MissingFile, match=r"table\.csv\.gz cannot be read as a table: ."):
        for _ in open_table(file, file.name).batches(["a"]):
            pass


@pytest.mark.parametrize("content", [b"a,b\r1,x\r2,y\r", b'"a,b\n' + b"1,x\n" * 50_000, b'"' + b"a," * 100_000])
def test_of_what_has_no_first_line_no_project_is_made(tmp_path, content):
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as a table: ."):
        infer(file)


@pytest.mark.parametrize("content", [b"a,b\r1,x\r2,y\r", b'"a,b\n' + b"1,x\n" * 50_000])
def test_what_has_no_first_line_is_a_bad_part(content):
    with pytest.raises(BadPart, match=r"it cannot be read: ."):
        read(content)


@pytest.mark.parametrize("header", ['"a","b"', "a,b", '"a",b', 'a,"b"'])
def test_a_mark_of_the_byte_order_is_no_part_of_the_first_name(header):
    """As PowerShell's Export-Csv and R write it."""
    (rows,) = read(b"\xef\xbb\xbf" + header.encode() + b'\r\n"1.5","x"\r\n')
    assert rows.to_pydict() == {"a": [1.5], "b": ["x"]}


def scored(answers):
    kept = pa.schema([("id", pa.int64())])
    target = io.BytesIO()
    pieces = [
        (Batch(pa.record_batch([pa.array(range(len(each)), pa.int64())], schema=kept), {}), pa.table({"predict": each}))
        for each in answers
    ]
    write(target, ScoredSchema(kept, {"prediction": None}, {}), pieces, lambda _: None)
    return pq.read_table(target)["prediction"]


def test_where_the_first_answers_are_all_missing_the_others_are_numbers():
    found = scored([pa.nulls(2), pa.array([0.5, None])])
    assert (found.type, found.to_pylist()) == (pa.float64(), [None, None, 0.5, None])
    assert np.isnan(scored([pa.array([np.nan]), pa.array([1.5])]).to_pylist()[0])
    assert scored([pa.nulls(1)]).type == pa.float64()
    assert scored([pa.array(["x"]), pa.nulls(1)]).to_pylist() == ["x", None]
