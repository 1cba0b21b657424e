"""The compiled path of `dovetail serve` against scikit-learn's own: the iris forest of 100 trees, one row at a time.

In a clone of this tree whose iris asks for `serving: {compile: onnx}`. What the process that holds the model takes for
a prediction, columns to JSON, both ways in turn; before that both have to say the same. Exit code 1 when the target is
missed.
"""

import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import sklearn
from pipeline import MODEL, Bench, environment, this_tree

from dovetail.serving.engine.model_process import ServedModel

ROUNDS, REQUESTS = 30, 100
TARGET = 0.5


def models(folder: Path) -> tuple[ServedModel, ServedModel]:
    """The version's model, as scikit-learn alone and compiled."""
    sklearn.set_config(skip_parameter_validation=True)  # as the engine does
    md5 = hashlib.md5((folder / f"data/{MODEL}.joblib").read_bytes()).hexdigest()
    onnx = hashlib.md5((folder / "compiled/model.onnx").read_bytes()).hexdigest()
    found = ServedModel(folder, md5, ()), ServedModel(folder, md5, (), onnx)
    for each in found:
        each.warm()
    return found


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="dovetail-bench-") as scratch:
        bench = Bench(Path(scratch), environment(Path(scratch, "home")))
        clone = bench.clone(this_tree(bench))
        dvc_yaml = clone / "dvc.yaml"
        card = f"      card: models/{MODEL}.json\n"
        asked = dvc_yaml.read_text().replace(card, f"{card}      serving: {{compile: onnx}}\n")
        dvc_yaml.write_text(asked)
        bench.run(clone, "dvc", "repro", f"register@{MODEL}")
        (folder,) = (file.parent.parent for file in (clone / "mlruns").rglob("compiled/model.onnx"))
        ways = models(folder)
        example = json.loads((folder / "serving_input_example.json").read_text())["dataframe_split"]
        rows = [{name: [value] for name, value in zip(example["columns"], row, strict=True)} for row in example["data"]]
        for method in ("predict", "predict_proba"):
            said = [[each.predict(method, [1], row) for row in rows] for each in ways]
            if said[0] != said[1]:
                sys.exit(f"not the same answers: {said}")
        times: tuple[list[float], list[float]] = [], []
        for _ in range(ROUNDS):
            for each, found in zip(ways, times, strict=True):
                began = time.perf_counter()
                for _ in range(REQUESTS):
                    each.predict("predict", [1], rows[0])
                found.append((time.perf_counter() - began) / REQUESTS * 1000)
    plain, compiled = (statistics.median(found) for found in times)
    met = compiled / plain <= TARGET
    print(f"one row: compiled {compiled:.3f} ms / scikit-learn {plain:.3f} ms = {compiled / plain:.3f}x  "
          f"<= {TARGET}x  {'met' if met else 'MISSED'}")  # fmt: skip
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
