"""What a body may cost: memory and processor time are those of a process of its own, and bounded."""

import asyncio
import io
import json
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving import matching

from dovetail.serving.engine.batching import Batcher
from dovetail.serving.engine.body_reader import BodyReader
from dovetail.serving.protocol.body import CSV, JSON, PARQUET, PredictionRequest
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import ServeOptions

MIB = 1 << 20


def signature(type_):
    return Signature.of({"inputs": [{"name": "a", "type": type_}]}, ["predict"])


def texts(number, size):
    """A Parquet file of distinct texts, written one at a time."""
    target = io.BytesIO()
    with pq.ParquetWriter(target, pa.schema([("a", pa.string())]), compression="zstd") as writer:
        for place in range(number):
            writer.write_table(pa.table({"a": [f"{place:04}" * (size // 4)]}))
    return target.getvalue()


def asked(*bodies, **limits):
    """What the reader says of each body: the request, or the refusal; and the peak memory of its process in MiB."""

    async def ask():
        reader, said = BodyReader(ServeOptions(), **limits), []
        try:
            for body, kind, type_ in bodies:
                try:
                    said.append(await reader.request(body, kind, signature(type_)))
                except Refused as refused:
                    said.append(refused)
            assert body_processes()
            peak = max(_peak(process.pid) for process in body_processes())
        finally:
            reader.close()
        return said, peak

    return asyncio.run(ask())


def body_processes():
    return matching(psutil.Process().children(), lambda one: any("body_process" in part for part in one.cmdline()))


def _peak(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def test_a_small_file_of_a_thousand_large_texts_is_refused_before_it_is_unpacked():
    body = texts(1000, MIB)
    assert len(body) < MIB
    asked((texts(1, 10), PARQUET, "string"))  # what is imported is in the file cache
    began = time.perf_counter()
    (said,), peak = asked((body, PARQUET, "string"))
    assert (said.status, "unpacks to more" in said.message) == (413, True)
    print(f"{len(body)} bytes of Parquet: {time.perf_counter() - began:.2f} s with the process's start, {peak} MiB")
    assert peak < 3 * 64 + 150  # with Python, pyarrow and the file itself


def test_text_that_fits_is_read_in_pieces():
    (said,), _ = asked((texts(40, MIB), PARQUET, "string"))
    assert getattr(said, "rows", said) == 40
    assert all(len(text) == MIB for text in said.columns["a"])


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"[[]]", b'{"b":[]}'])
def test_millions_of_tiny_lists_are_refused_before_they_are_parsed(piece):
    body = b'{"inputs":{"a":[' + b",".join([piece] * 1_500_000) + b"]}}"
    (said,), peak = asked((body, JSON, "double"))
    assert (said.status, said.message) == (422, "the body has more than 110000 lists and objects")
    assert peak < 150


def test_brackets_within_texts_are_no_lists():
    body = json.dumps({"inputs": {"a": ['[{"\\' * 20] * 10_000}}).encode()
    (said,), _ = asked((body, JSON, "string"))
    assert said.rows == 10_000


def test_a_body_that_takes_more_memory_is_refused_and_the_next_is_read():
    large = b"a\n" + b"1.2345678\n" * 100_000
    said, _ = asked((large, CSV, "double"), (b'{"inputs":{"a":[1]}}', JSON, "double"), memory=MIB)
    assert (said[0].status, "more memory" in said[0].message) == (413, True)
    assert said[1].columns == {"a": [1]}


def test_a_body_that_takes_more_time_is_refused_and_the_next_is_read():
    slow = b"a\n" + b"1.2345678\n" * 100_000
    said, _ = asked((slow, CSV, "double"), (b'{"inputs":{"a":[1]}}', JSON, "double"), seconds=0.002)
    assert (said[0].status, "takes more than 0.002 s" in said[0].message) == (413, True)
    assert said[1].columns == {"a": [1]}


@pytest.mark.slow
def test_who_waits_for_a_process_that_reads_waits_no_longer_than_a_request_may():
    """Two processes read bodies; where both hang, those who wait for one have the same time as those who have one."""

    async def ask():
        reader = BodyReader(ServeOptions(timeout=10))
        body = json.dumps({"inputs": {"a": "x"}}).encode()

        async def one():
            began = time.monotonic()
            with pytest.raises(Refused) as refused:
                await reader.request(body, JSON, signature("string"))
            return refused.value.status, refused.value.message, time.monotonic() - began

        try:
            later = time.monotonic() + 60
            await asyncio.gather(*(reader.request(body, JSON, signature("string"), later) for _ in range(2)))
            for process in body_processes():
                process.suspend()
            return await asyncio.gather(*(one() for _ in range(6)))
        finally:
            reader.close()

    said = asyncio.run(ask())
    assert {each[:2] for each in said} == {(503, "the body was not read in time")}
    assert max(seconds for *_, seconds in said) < 19


def test_what_was_spent_on_reading_a_body_is_not_there_for_its_answer():
    async def ask():
        batcher = Batcher([], seconds=30, together=True, on_batch=lambda _: None)
        asked = asyncio.ensure_future(batcher.predict(PredictionRequest({"a": [1]}, 1, "predict"), time.monotonic()))
        await asyncio.sleep(0.01)
        batcher.expire()
        await asked

    with pytest.raises(Refused, match="no answer in time"):
        asyncio.run(ask())
