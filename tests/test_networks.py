"""Networks and statistical models, in MLflow's folders or one file: registered, promoted, loaded by flavor, served.

PyTorch and TensorFlow are large, so they are no requirement: `make networks` installs them and runs this file.
"""

import json

import numpy as np
import pytest
from serving import Server

from dovetail.models.trusted_loaders import TRUSTED

DATA = """
import os, shutil
import mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
rows = pd.DataFrame({"u": np.linspace(0, 1, 40), "v": np.linspace(1, 0, 40)}).astype("float32")
target = 2 * rows["u"] - rows["v"]
shutil.rmtree("out/m.joblib", ignore_errors=True)
os.makedirs("out", exist_ok=True)
"""
FLAVORS = {
    "statsmodels": """
import statsmodels.api as sm
model = sm.OLS(target.astype("float64"), rows.astype("float64")).fit()
mlflow.statsmodels.save_model(model, "out/m.joblib", input_example=rows.astype("float64").head(2),
    signature=infer_signature(rows.astype("float64"), model.predict(rows.astype("float64"))))
""",
    "pytorch": """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
table = rows.to_numpy()
said = model(torch.tensor(table)).detach().numpy()
mlflow.pytorch.save_model(model, "out/m.joblib", input_example=table[:2], signature=infer_signature(table, said))
""",
    "tensorflow": """
import keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
table = rows.to_numpy()
said = model.predict(table, verbose=0)
mlflow.tensorflow.save_model(model, "out/m.joblib", input_example=table[:2], signature=infer_signature(table, said))
""",
}
ASK = """
import json, mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model("models:/m@production")
rows = pd.DataFrame({"u": [0.0, 1.0], "v": [1.0, 0.0]})
said = model.predict(rows.to_numpy("float32") if model.metadata.signature.inputs.is_tensor_spec() else rows)
own = mlflow.%s.load_model("models:/m@production")
print(json.dumps({"said": np.ravel(said).tolist(), "own": type(own).__module__}))
"""
SPLIT = {"dataframe_split": {"columns": ["u", "v"], "data": [[0.0, 1.0], [1.0, 0.0]]}}


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_folder_of_the_flavor_is_staged_promoted_loaded_and_served(small, flavor):
    small.replace("train.py", 'joblib.dump(model, "out/m.joblib")', DATA + FLAVORS[flavor])
    small.run("dvc", "repro", "-q", "train")
    assert f"export {TRUSTED}=mlflow.{flavor}" in small.run("dovetail", "register", code=2).stderr
    trust = {TRUSTED: f"mlflow.{flavor}"}
    small.run("dvc", "repro", "-q", **trust)
    small.commit(flavor)
    assert small.json("promote", "m", **trust)["promoted"]
    answer = json.loads(small.run("python", "-c", ASK % flavor).stdout.splitlines()[-1])
    assert answer["own"].partition(".")[0] in (flavor, "torch", "keras")
    with Server(small, patience=240, TF_CPP_MIN_LOG_LEVEL="3", **trust) as server:  # TensorFlow alone takes a minute
        said = server.predict(SPLIT).json["predictions"]
    assert np.ravel([list(one.values()) if isinstance(one, dict) else one for one in said]) == pytest.approx(
        answer["said"], rel=1e-6
    )


TORCH = """
import numpy as np, torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)).eval()
rows = torch.rand(3, 2)
"""
KERAS = """
import keras
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
"""
FILES = {  # flavor and ending → how the stage writes it
    ("pytorch", "script.pt"): TORCH + "torch.jit.script(model).save(PATH)",
    ("pytorch", "module.pt"): TORCH + "torch.save(model, PATH)",
    ("pytorch", "pt2"): TORCH + "torch.export.save(torch.export.export(model, (rows,), "
    "dynamic_shapes=({0: torch.export.Dim('n')},)), PATH)",
    ("keras", "keras"): KERAS + "model.save(PATH)",
    ("tensorflow", "h5"): KERAS + "model.save(PATH)",
}
CARD = {
    "inputs": [{"name": name, "dtype": "float64", "nullable": False} for name in ("u", "v")],
    "output": {"dtype": "float32"},
    "example": {"columns": ["u", "v"], "data": [[0.0, 1.0]]},
}
ASK_FILE = """
import json, mlflow, numpy as np, pandas as pd
said = mlflow.pyfunc.load_model("models:/m@production").predict(pd.DataFrame({"u": [0.0, 1.0], "v": [1.0, 0.0]}))
own = mlflow.%s.load_model("models:/m@production")
print(json.dumps({"said": np.ravel(said).tolist(), "own": type(own).__module__}))
"""


@pytest.mark.parametrize("kind", FILES, ids=lambda kind: kind[1])
def test_a_file_of_a_whole_network_is_staged_promoted_loaded_and_served_where_its_loader_is_trusted(small, kind):
    flavor, ending = kind
    small.replace("train.py", 'joblib.dump(model, "out/m.joblib")', FILES[kind].replace("PATH", f"'out/m.{ending}'"))
    small.write("card.json", json.dumps(CARD))
    text = (small.root / "dvc.yaml").read_text().replace("out/m.joblib", f"out/m.{ending}")
    small.write("dvc.yaml", text.replace("meta: {gates", "meta: {card: card.json, gates", 1))
    small.run("dvc", "repro", "-q", "train")
    refused = small.run("dovetail", "register", code=2).stderr
    assert f"mlflow.{flavor}, which loads it, can run any code that the file holds; next: export {TRUSTED}=" in refused
    trust = {TRUSTED: f"mlflow.{flavor}", "TF_CPP_MIN_LOG_LEVEL": "3"}
    small.run("dvc", "repro", "-q", **trust)
    small.commit(ending)
    (packaged,) = (file for file in (small.root / "mlruns").rglob("data/model.*"))
    assert packaged.read_bytes() == (small.root / f"out/m.{ending}").read_bytes()
    assert small.json("promote", "m", **trust)["promoted"]
    answer = json.loads(small.run("python", "-c", ASK_FILE % flavor, **trust).stdout.splitlines()[-1])
    assert answer["own"].partition(".")[0] in ("torch", "keras")
    with Server(small, patience=240, **trust) as server:
        said = server.predict(SPLIT).json["predictions"]
    assert said == pytest.approx(answer["said"], rel=1e-6)


@pytest.mark.parametrize(
    "written", ["torch.save(model.state_dict(), PATH)", "torch.save({'w': model[0].weight}, PATH)"]
)
def test_weights_without_their_class_are_refused_wherever(small, written):
    small.replace("train.py", 'joblib.dump(model, "out/m.joblib")', (TORCH + written).replace("PATH", "'out/m.joblib'"))
    small.run("dvc", "repro", "-q", "train")
    refused = small.run("dovetail", "register", code=2, **{TRUSTED: "mlflow.pytorch"}).stderr
    assert (
        "it is a PyTorch file of weights, without the class of their model; next: let the stage write ONNX" in refused
    )
