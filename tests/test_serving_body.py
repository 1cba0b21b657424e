"""A request's body, read without a server: what is taken, what is refused, and what it may cost."""

import io
import json
import os
import time
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dovetail.serving.engine import frames
from dovetail.serving.http import openapi
from dovetail.serving.protocol.body import CSV, JSON, PARQUET, read
from dovetail.serving.protocol.json_body import FORMS
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature
from dovetail.serving.settings import ServeOptions, Settings

EXAMPLES = int(os.environ.get("SERVING_EXAMPLES", "200"))  # more of them for a longer search
TYPES = ("double", "float", "long", "integer", "string", "boolean", "datetime")
ALL = Signature.of({"inputs": [{"name": name, "type": name} for name in TYPES], "outputs": []}, ["predict"])
ROW = {
    "double": 1.5,
    "float": 2,
    "long": 3,
    "integer": 4,
    "string": "x",
    "boolean": True,
    "datetime": "2026-01-02T03:04",
}
SETTINGS = Settings(Path(), "m", "production", options=ServeOptions(max_rows=5))
WHEN = datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001  (MLflow's have no zone)


def only(type_):
    return Signature.of({"inputs": [{"name": "a", "type": type_}]}, ["predict"])


def parquet(table):
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def test_each_type_is_read_from_each_form():
    expected = {**{name: [value] for name, value in ROW.items()}, "datetime": [WHEN]}
    frame = pd.DataFrame([ROW]).astype({"datetime": "datetime64[ns]", "integer": "int32"})
    bodies = {
        JSON: json.dumps({"dataframe_records": [ROW]}).encode(),
        CSV: frame.to_csv(index=False).encode(),
        PARQUET: parquet(pa.Table.from_pandas(frame)),
    }
    for kind, body in bodies.items():
        asked = read(body, kind, ALL, 10)
        assert dict(asked.columns) == expected, kind
        assert (asked.rows, asked.method) == (1, "predict")


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        (pa.array([["x"]]), "string"),
        (pa.array(["x"]), "double"),
        (pa.array([[1.0]]), "double"),
        (pa.array([1.5]), "long"),
        (pa.array([1]), "boolean"),
        (pa.array([True]), "double"),
    ],
)
def test_parquet_of_another_type(values, type_):
    with pytest.raises(Refused, match="expected") as caught:
        read(parquet(pa.table({"a": values})), PARQUET, only(type_), 10)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
)
def test_parquet_of_text_however_it_is_kept(type_):
    body = parquet(pa.table({"a": pa.array(["x", None, "y"]).cast(type_)}))
    assert read(body, PARQUET, only("string"), 10).columns == {"a": ["x", None, "y"]}


@pytest.mark.parametrize(
    ("values", "type_", "said"),
    [
        (pa.array([Decimal("1.50"), None]), "double", [1.5, None]),
        (pa.array([1.5, None], pa.float16()), "float", [1.5, None]),
        (pa.array([1, 2]).dictionary_encode(), "long", [1, 2]),
        (pa.array([date(2026, 1, 2), None]), "datetime", [datetime(2026, 1, 2), None]),  # noqa: DTZ001
        (pa.array([WHEN], pa.timestamp("ns")), "datetime", [WHEN]),
        (pa.array([True, False]), "boolean", [True, False]),
    ],
)
def test_parquet_of_other_types_that_hold_the_same(values, type_, said):
    assert read(parquet(pa.table({"a": values})), PARQUET, only(type_), 10).columns == {"a": said}


def test_parquet_of_a_time_that_python_cannot_say_is_refused():
    late = pa.array([253_402_300_800_000_000], pa.timestamp("us"))  # the year 10000
    with pytest.raises(Refused) as caught:
        read(parquet(pa.table({"a": late})), PARQUET, only("datetime"), 10)
    assert caught.value.status in (400, 422)


def test_true_and_false_are_taken_for_a_column_whose_booleans_became_numbers_since_some_are_missing():
    described = {"inputs": [{"name": "a", "type": "double", "required": False}], "booleans": ["a"]}
    marked = Signature.of(described, ["predict"])
    (column,) = marked.columns
    asked = [True, None, False, 1]
    bodies = {
        JSON: json.dumps({"dataframe_records": [{"a": value} for value in asked]}).encode(),
        CSV: b'a\nTrue\n""\nFalse\n',
        PARQUET: parquet(pa.table({"a": asked[:3]})),
    }
    for kind, body in bodies.items():
        rows = read(body, kind, marked, 10).columns["a"]
        assert rows[:3] == [1.0, None, 0.0], kind
        assert not any(isinstance(value, bool) for value in rows)
    with pytest.raises(Refused, match="expected true or false or null, got 'yes'"):
        column.check([True, "yes"])
    assert '{"anyOf": [{"type": "boolean"}, ' in json.dumps(openapi.document(SETTINGS, marked, {}, 1))


def test_a_missing_boolean_is_one_where_the_column_is_optional():
    optional = Signature.of({"inputs": [{"name": "a", "type": "boolean", "required": False}]}, ["predict"])
    body = parquet(pa.table({"a": pa.array([True, None])}))
    assert read(body, PARQUET, optional, 10).columns == {"a": [True, None]}
    with pytest.raises(Refused, match="expected true or false, got null"):
        read(body, PARQUET, only("boolean"), 10)


def test_a_small_file_that_unpacks_to_much_is_not_unpacked():
    body = parquet(pa.table({"a": pa.array(["x" * (1 << 20)] * 300)}))
    assert len(body) < 1 << 20
    began = time.process_time()
    with pytest.raises(Refused, match="unpacks to more") as caught:
        read(body, PARQUET, only("string"), 1000)
    assert caught.value.status == 413
    assert time.process_time() - began < 10


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_in_the_encodings_that_pythons_json_recognises(encoding):
    body = json.dumps({"inputs": {"a": ["rød"]}}, ensure_ascii=False).encode(encoding)
    assert read(body, JSON, only("string"), 10).columns == {"a": ["rød"]}
    with pytest.raises(Refused, match="not JSON"):
        read(b"\xff\xfe\x00", JSON, only("string"), 10)


def test_what_pandas_notes_in_parquet_is_not_read():
    table = pa.table({"a": [1.0]}).replace_schema_metadata({"pandas": "{"})
    assert read(parquet(table), PARQUET, only("double"), 10).columns == {"a": [1.0]}


def test_many_names_cost_no_more_than_their_number():
    names = [f"c{number}" for number in range(50_000)]
    body = json.dumps({"dataframe_split": {"columns": ["a", *names, "a"], "data": []}}).encode()
    began = time.process_time()
    with pytest.raises(Refused, match="there twice"):
        read(body, JSON, only("double"), 10)
    ragged = json.dumps({"dataframe_records": [{"a": 1.0}, *({name: 1} for name in names)]}).encode()
    read(ragged, JSON, only("double"), 100_000)
    with pytest.raises(Refused, match="too large a table"):
        read(ragged, JSON, Signature(None, None, ("predict",)), 100_000)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_rows_of_csv_are_counted_however_they_end(end):
    assert read(f"a{end}{f'1{end}' * 10}".encode(), CSV, only("double"), 10).rows == 10
    with pytest.raises(Refused, match="11 rows are more"):
        read(f"a{end}{f'1{end}' * 5000}1".encode(), CSV, only("double"), 10)


TWO = Signature.of({"inputs": [{"name": name, "type": "double"} for name in "ab"]}, ["predict"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2,\n3,4,\n", "row 0: expected 2 values, as the header has, got 3 values"),
        ("a,b\n9,1,2\n8,3,4\n", "row 0: expected 2 values, as the header has, got 3 values"),
        ("a,b\n1\n3,4\n", "row 0: expected 2 values, as the header has, got 1 value"),
        ("a,b\n1,2\n\n3\n", "row 1: expected 2 values, as the header has, got 1 value"),
        ('a,b\r"1",2\r"3,4"\r', "row 1: expected 2 values, as the header has, got 1 value"),
        ('a,b\n1,2\n""', "row 1: expected 2 values, as the header has, got 1 value"),
        ("a,b,\n1,2\n", "row 0: expected 3 values, as the header has, got 2 values"),
        ("a\n1,\n", "row 0: expected 1 value, as the header has, got 2 values"),
    ],
)
def test_a_row_of_csv_that_is_not_as_long_as_the_header_is_refused(text, said):
    signature = TWO if ",b" in text else only("double")
    with pytest.raises(Refused, match=said) as caught:
        read(text.encode(), CSV, signature, 10)
    assert caught.value.status == 422


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n3,4", "\ufeffb,a\r\n2,1\r\n4,3\r\n", 'n,a,b\r"x,\r\r""y",1,2\r \r\r"5"" of",3,4\r']
)
def test_rows_of_csv_that_are_as_long_as_the_header_are_read(text):
    assert read(text.encode(), CSV, TWO, 10).columns == {"a": [1, 3], "b": [2, 4]}


def test_a_long_text_of_csv_is_read():
    text = "x" * 1_000_000 + '"y"'
    assert read(f'"a"\n{text}\n'.encode(), CSV, only("string"), 10).columns == {"a": [text]}


@pytest.mark.parametrize("type_", ["double", "float"])
def test_whole_numbers_are_of_the_type_of_their_column(type_):
    for kind, body in (
        (JSON, b'{"inputs": {"a": [5, null, 2.5]}}'),
        (JSON, b'{"inputs": {"a": [5, 6]}}'),
        (CSV, b"a\n5\n6\n"),
    ):
        values = read(body, kind, only(type_), 10).columns["a"]
        assert {type(value) for value in values} <= {float, type(None)}
        assert values[0] == 5
    with pytest.raises(Refused, match="column 'a', row 1: expected a number"):
        read(b'{"inputs": {"a": [NaN, 1' + b"0" * 400 + b"]}}", JSON, only(type_), 10)


@pytest.mark.parametrize(
    "said", ["yesterday", "2026-W01-1", "20260102", "2026-01-02T03", "0001-01-01T00:00+01:00", 5, 1.5, True]
)
def test_what_is_no_time(said):
    with pytest.raises(Refused, match="a time in ISO 8601, in UTC or with its time zone"):
        read(json.dumps({"inputs": {"a": [said]}}).encode(), JSON, only("datetime"), 10)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["dataframe_split", "dataframe_records", "instances", "inputs", "params", "columns", "data", "index", "a"]
    ) | st.text(max_size=3), inner, max_size=3), max_leaves=12,
))  # fmt: skip
def test_whatever_is_sent_is_a_question_or_rejected(document):
    body = json.dumps(document).encode()
    for signature in (ALL, only("double"), Signature(None, None, ("predict",))):
        try:
            asked = read(body, JSON, signature, 100)
        except Refused as rejected:
            said = json.loads(rejected.body())
            lengths, status = set(), rejected.status
        else:
            said = None
            lengths, status = {len(values) for values in asked.columns.values()} - {asked.rows}, 200
        assert not lengths
        assert (status == 200) == (said is None)
        assert status < 500


OPTIONAL = Signature.of({"inputs": [{"name": n, "type": n, "required": False} for n in TYPES]}, ["predict"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # schemathesis' and hypothesis' own, about how they sample a schema
@pytest.mark.parametrize("signature", [ALL, OPTIONAL], ids=["required", "optional"])
def test_what_the_schema_allows_is_never_refused(signature):
    import schemathesis

    schema = schemathesis.openapi.from_dict(openapi.document(SETTINGS, signature, {}, 1))
    cases = schema["/invocations"]["POST"].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    forms = set()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None,
              phases=[Phase.generate], derandomize=True)  # fmt: skip
    @given(cases)
    def holds(case):
        if case.media_type == JSON:  # no schema says what a table in CSV or Parquet holds
            assert read(json.dumps(case.body).encode(), JSON, signature, 5).rows >= 1
            forms.update(set(case.body) & set(FORMS))

    holds()
    assert forms == set(FORMS)


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), max_size=5))
def test_frames_come_back(parts):
    buffer = bytearray(frames.answer(parts) + b"more")
    assert frames.parts(frames.split(buffer)) == parts
    assert buffer == b"more"


def test_no_frame_of_ours():
    with pytest.raises(frames.Malformed):
        frames.parts(b"\x01\x00")
