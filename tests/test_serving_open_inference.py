"""The Open Inference Protocol (V2): what its clients ask is answered as MLflow's paths answer it."""

import gzip
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import templates
from project import copy_of
from serving import COLUMNS, ROWS, SPLIT, Server

from dovetail.serving.protocol.body import PredictionRequest
from dovetail.serving.protocol.open_inference import infer_answer, read_infer
from dovetail.serving.protocol.refused import Refused
from dovetail.serving.protocol.signature import Signature

TYPES = {"size": "FP64", "count": "INT64", "color": "BYTES", "fresh": "BOOL"}
PACKAGES = Path(sys.prefix) / "open-inference"  # where `make open-inference` puts them
TRITON = """
import json, sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

client, columns = InferenceServerClient(sys.argv[1]), json.loads(sys.argv[2])
about = client.get_model_metadata("m")
kinds = {"FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}
inputs = []
for each in about["inputs"]:
    values = columns[each["name"]]
    one = InferInput(each["name"], [len(values)], each["datatype"])
    one.set_data_from_numpy(np.array(values, dtype=kinds[each["datatype"]]), binary_data=False)
    inputs.append(one)
asked = [InferRequestedOutput("predict", binary_data=False)], [InferRequestedOutput("predict_proba", binary_data=False)]
said = [client.infer("m", inputs, outputs=outputs, request_id="mine") for outputs in asked]
print(json.dumps({
    "live": client.is_server_live(), "ready": client.is_server_ready() and client.is_model_ready("m"),
    "name": client.get_server_metadata()["name"], "id": said[0].get_response()["id"],
    "predict": said[0].as_numpy("predict").tolist(), "predict_proba": said[1].as_numpy("predict_proba").tolist(),
    "by default": client.infer("m", inputs).as_numpy("predict").tolist(),
}))
try:
    client.infer("m", inputs[1:])
except Exception as error:
    print(error.status(), error.message())
"""
WHOLE = [[9.5, 3, "red", True], [8.0, 8, "blue", True]]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_of(templates.served(tmp_path_factory), tmp_path_factory.mktemp("v2") / "p")


@pytest.fixture(scope="module")
def server(project):
    with Server(project, "--max-rows", "50000") as running:
        yield running


def tensors(rows, *, shape=lambda size: [size]):
    return [
        {"name": name, "shape": shape(len(rows)), "datatype": TYPES[name], "data": [row[place] for row in rows]}
        for place, name in enumerate(COLUMNS)
    ]


def infer(server, inputs, **more):
    return server.ask("/v2/models/m/infer", {"inputs": inputs, **more})


def test_says_who_it_is_and_what_the_model_takes(server):
    assert server.ask("/v2").json["name"] == "dovetail"
    assert server.ask("/v2/health/live").json == {"live": True}
    assert server.ask("/v2/health/ready").json == {"ready": True}
    assert server.ask("/v2/models/m/ready").json == {"name": "m", "ready": True}
    about = server.ask("/v2/models/m").json
    assert (about["name"], about["versions"]) == ("m", ["1"])
    assert {each["name"]: each["datatype"] for each in about["inputs"]} == TYPES
    assert [(each["name"], each["datatype"]) for each in about["outputs"]] == [
        ("predict", "BYTES"), ("predict_proba", "FP64"),
    ]  # fmt: skip
    assert set(server.ask("/v2/models/other").json) >= {"error"}


@pytest.mark.skipif(not (PACKAGES / ".installed").exists(), reason="make open-inference installs it")
def test_tritons_client_is_answered_as_mlflows_paths_answer(server):
    columns = {name: [row[place] for row in WHOLE] for place, name in enumerate(COLUMNS)}
    command = [sys.executable, "-c", TRITON, f"127.0.0.1:{server.port}", json.dumps(columns)]
    env = {**os.environ, "PYTHONPATH": str(PACKAGES)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, refused = done.stdout.splitlines()
    asked = {"dataframe_split": {"columns": COLUMNS, "data": WHOLE}}
    labels = server.predict(asked).json["predictions"]
    shares = server.predict({**asked, "params": {"method": "predict_proba"}}).json["predictions"]
    assert json.loads(said) == {
        "live": True, "ready": True, "name": "dovetail", "id": "mine",
        "predict": labels, "predict_proba": shares, "by default": labels,
    }  # fmt: skip
    assert refused.startswith("422 ")
    assert "size" in refused


@pytest.mark.parametrize("shape", [lambda size: [size], lambda size: [size, 1]])
def test_predicts_what_invocations_predicts(server, shape):
    answer = infer(server, tensors(ROWS, shape=shape), id="mine")
    (output,) = answer.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("predict", "BYTES", [4])
    assert output["data"] == server.predict().json["predictions"]
    assert (answer.json["model_name"], answer.json["model_version"], answer.json["id"]) == ("m", "1", "mine")
    assert answer.version == "1"


@pytest.mark.parametrize(
    "asked", [{"parameters": {"method": "predict_proba"}}, {"outputs": [{"name": "predict_proba"}]}]
)
def test_probabilities_are_a_matrix(server, asked):
    (output,) = infer(server, tensors(ROWS), **asked).json["outputs"]
    same = server.predict({**SPLIT, "params": {"method": "predict_proba"}}).json["predictions"]
    assert (output["datatype"], output["shape"]) == ("FP64", [4, 2])
    assert output["data"] == [value for row in same for value in row]


def test_one_matrix_stands_for_all_columns(server):
    flat = {"name": "input", "shape": [2, 4], "datatype": "BYTES", "data": [value for row in WHOLE for value in row]}
    nested = {**flat, "data": WHOLE}
    same = infer(server, tensors(WHOLE)).json["outputs"]
    assert infer(server, [flat]).json["outputs"] == infer(server, [nested]).json["outputs"] == same


def test_a_large_body_and_feedback_on_what_was_answered(server):
    answer = infer(server, tensors(ROWS * 5000))
    assert answer.json["outputs"][0]["shape"] == [20_000]
    said = {"request_id": answer.headers["x-request-id"], "labels": ["one:yes"]}
    assert answer.json["id"] == said["request_id"]
    assert server.ask("/feedback", said).status == 202
    assert server.metric("dovetail_predicted_rows_total") >= 20_000


ONE = {"name": "size", "shape": [1], "datatype": "FP64", "data": [1.0]}
REFUSED = {
    "no JSON": (b"{", 400, "not JSON"),
    "a list": ([], 400, "no inputs"),
    "no inputs": ({}, 400, "no inputs"),
    "inputs that are none": ({"inputs": [1]}, 400, "no inputs"),
    "no name": ({"inputs": [{**ONE, "name": None}]}, 400, "no name"),
    "an unknown datatype": ({"inputs": [{**ONE, "datatype": "FP128"}]}, 422, "datatype"),
    "a list for a datatype": ({"inputs": [{**ONE, "datatype": []}]}, 422, "datatype"),
    "no shape": ({"inputs": [{**ONE, "shape": None}]}, 422, "shape"),
    "a negative shape": ({"inputs": [{**ONE, "shape": [-1]}]}, 422, "values for the shape"),
    "another shape": ({"inputs": [{**ONE, "shape": [2]}]}, 422, "1 values for the shape [2]"),
    "nested otherwise": ({"inputs": [{**ONE, "shape": [1, 2], "data": [[1.0]]}]}, 422, "another shape"),
    "no data": ({"inputs": [{**ONE, "data": None}]}, 400, "no data"),
    "no rows": ({"inputs": [{**each, "shape": [0], "data": []} for each in tensors(ROWS)]}, 422, "no rows"),
    "no columns": ({"inputs": [{**ONE, "shape": [2, 0], "data": []}]}, 422, "no data has the shape [2, 0]"),
    "less than nothing": ({"inputs": [{**ONE, "shape": [-1, -1]}]}, 422, "no data has the shape [-1, -1]"),
    "twice": ({"inputs": [ONE, ONE]}, 422, "there twice"),
    "a missing column": ({"inputs": [ONE]}, 422, "columns are missing"),
    "unlike rows": ({"inputs": [*tensors(ROWS)[:3], {**ONE, "name": "fresh", "data": [True]}]}, 422, "unlike"),
    "text for a number": ({"inputs": [{**tensors(WHOLE)[0], "data": ["a", "b"]}, *tensors(WHOLE)[1:]]}, 422, "'size'"),
    "many rows": ({"inputs": [{**ONE, "shape": [50_001]}]}, 422, "50001 rows"),
    "an unknown output": ({"inputs": tensors(WHOLE), "outputs": [{"name": "fit"}]}, 422, "predict_proba"),
    "two outputs": ({"inputs": tensors(WHOLE), "outputs": [{"name": "a"}, {"name": "b"}]}, 422, "one output"),
    "an id of another type": ({"inputs": tensors(WHOLE), "id": 5}, 400, "id"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_is_wrong(server, case):
    body, status, said = REFUSED[case]
    answer = server.ask("/v2/models/m/infer", body)
    assert (answer.status, said in answer.json["error"]) == (status, True), answer.body


@pytest.mark.parametrize("shape", [[0, 0], [2, 0], [0], [0, 2], [-1], [-1, 1], [1, -1], [-1, -1]])
def test_a_model_without_columns_refuses_a_tensor_without_values(shape):
    asked = {"inputs": [{"name": "input", "shape": shape, "datatype": "FP64", "data": [1.0] * abs(math.prod(shape))}]}
    with pytest.raises(Refused) as refused:
        read_infer(json.dumps(asked).encode(), Signature(None, None, ("predict",)), 100)
    assert refused.value.status == 422


def test_a_model_without_columns_takes_one_matrix_and_no_matrix_beside_others():
    matrix = {"shape": [2, 3], "datatype": "FP64", "data": [1.0] * 6}
    plain = Signature(None, None, ("predict",))
    one = read_infer(json.dumps({"inputs": [{"name": "a", **matrix}]}).encode(), plain, 100)
    assert one.rows == 2
    both = {"inputs": [{"name": "a", **matrix}, {"name": "b", **matrix}]}
    with pytest.raises(Refused, match="3 columns beside other inputs"):
        read_infer(json.dumps(both).encode(), plain, 100)


def test_nan_is_read_as_invocations_reads_it():
    asked = {"inputs": [{"name": "a", "shape": [2], "datatype": "FP64", "data": [1.0, math.nan]}]}
    request = read_infer(json.dumps(asked).encode(), Signature(None, None, ("predict",)), 100)
    assert request.rows == 2


@pytest.mark.parametrize(
    ("answered", "datatype", "shape", "data"),
    [
        ([{"0": 1.5}, {"0": 2.5}], "FP64", [2], [1.5, 2.5]),  # a Series
        ([["a"], ["b"]], "BYTES", [2], ["a", "b"]),  # CatBoost with several classes
        ([{"p": 1.0, "q": 2.0}], "BYTES", [1], ['{"p": 1.0, "q": 2.0}']),
    ],
)
def test_answers_are_values_as_the_log_has_them(answered, datatype, shape, data):
    request = PredictionRequest({"a": [1.0]}, len(answered), "predict")
    said = json.loads(infer_answer(("m", 1), request, "double", json.dumps(answered).encode(), "r"))
    (output,) = said["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == (datatype, shape, data)


@pytest.mark.parametrize("path", ["/invocations", "/models/m/invocations", "/feedback", "/v2/models/m/infer"])
def test_a_packed_body_is_refused_by_the_name_of_the_header(server, path):
    answer = server.ask(path, gzip.compress(b"{}"), {"content-encoding": "gzip"})
    assert (answer.status, answer.json["field"], answer.json["got"]) == (415, "content-encoding", "gzip")
    assert server.ask(path, b"{}", {"content-encoding": "identity"}).status != 415


def test_bytes_behind_the_json_are_refused_in_one_line(server):
    answer = server.ask("/v2/models/m/infer", b"{}", {"inference-header-content-length": "2"})
    assert (answer.status, "binary_data=False" in answer.json["expected"]) == (415, True)
