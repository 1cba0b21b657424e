"""The stages of one dataset and one model, run one after the other in this process, and what went wrong with them."""

import json
import traceback
import warnings

import yaml

from dovetail.errors import UserError
from dovetail.gates import rules
from dovetail.gates.evidence import Evidence
from stages import clean, evaluate, ingest, split, train
from stages.common.errors import StageError
from stages.common.params import load_params

DATASET = {
    "raw": "raw.csv",
    "schema": {
        "columns": {
            "x": {"dtype": "float64", "nullable": True, "checks": {"in_range": {"min_value": -99, "max_value": 99}}},
            "t": {"dtype": "str", "nullable": True, "checks": {"str_length": {"max_value": 9}}},
            "y": {"dtype": "str", "nullable": False},
        },
        "strict": False,
    },
    "clean": {"engine": "polars", "max_rejected": 0.5, "separator": ",", "null_values": [""], "encoding": "utf-8"},
    "deliver": [],
}
MODEL = {
    "data": "d",
    "target": "y",
    "split": {"test_size": 0.4, "seed": 1, "stratify": False, "drop": ["t"]},
    "train": {
        "estimator": "sklearn.tree.DecisionTreeClassifier",
        "params": {"max_depth": 3, "random_state": 0},
        "prepare": "auto",
    },
    "gates": {"accuracy": {"min": 0.5}, "champion": {"margin": 0.1}},
}
TABLE = "x,t,y\n" + "".join(f"{row % 7},word{row % 3},{'ab'[row % 2]}\n" for row in range(40))


def run_all(folder, *, judged):
    """Ingest, clean, split, train and, if `judged`, evaluate, until one refuses. Returns what is wrong, or nothing.

    Wrong is anything but files or one line: a traceback, an error of several lines, counts that do not add up.
    """
    reached = "params"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            params = load_params(folder / "params.yaml")
            model = params.models.get("m")
            key = model.data if model else "d"
            raw = folder / params.datasets[key].raw if key in params.datasets else folder / "raw.csv"
            if not raw.exists():
                raw = folder / "raw.csv"
            reached = "gates"
            _ask_gates(folder / "params.yaml", params)
            for reached, stage in _stages(folder, key, raw, judged=judged):  # noqa: B007  told below
                stage(params)
    except (StageError, UserError) as error:
        message = str(error)
        if "\n" in message and "write one, for example" not in message:
            return f"{reached}: several lines: {message!r}"
        return "a message without words" if len(message) < 10 else ""
    except Exception as error:  # noqa: BLE001  whatever comes is what is looked for
        return _told(reached, error)
    except BaseException as error:  # Rust's panics are no Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        return _told(reached, error)
    return _wrong_counts(folder)


def _ask_gates(file, params):
    """What `dovetail register` asks, with the block as it stands in the file that the stages took."""
    for name in params.models:
        given = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)["models"][name]["gates"]
        rules.evaluate(given, Evidence({"accuracy": 0.5, "rows_in": 2, "rows_rejected": 1}))


def _stages(folder, key, raw, *, judged):
    parts = {name: folder / "out" / f"{name}.parquet" for name in ("train", "test")}
    found = folder / "out" / "m.search.json"
    cleaned, model = folder / "out" / "clean.parquet", folder / "out" / "m.joblib"
    copied = folder / "out" / raw.name
    yield "ingest", lambda params: ingest.run("s", params, source=raw, raw=copied)
    yield (
        "clean",
        lambda params: clean.run(
            key,
            params,
            raw=raw,
            clean=cleaned,
            rejected=folder / "out" / "rejected.parquet",
            metrics=folder / "out" / "clean.json",
        ),
    )
    yield "split", lambda params: split.run("m", params, clean=cleaned, **parts)
    yield "train", lambda params: train.run("m", params, train=parts["train"], model=model, search=found)
    if judged:
        outputs = {"metrics": "m.json", "plots": "plots", "importance": "i.csv", "card": "card.json"}
        yield (
            "evaluate",
            lambda params: evaluate.run(
                "m",
                params,
                model=model,
                search=found,
                **parts,
                **{name: folder / "out" / path for name, path in outputs.items()},
            ),
        )


def _told(reached, error):
    last = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in last if "/stages/" in frame.filename and "/tests/" not in frame.filename]
    where = f"{ours[-1].filename.rpartition('/stages/')[2]}:{ours[-1].lineno}" if ours else "?"
    return f"{reached}: {type(error).__name__} in {where}: {' '.join(str(error).split())[:150]}"


def _wrong_counts(folder):
    for file in (folder / "out").glob("*.json"):
        json.loads(file.read_text(), parse_constant=lambda name: {}[name])
    counts = json.loads((folder / "out" / "clean.json").read_text())
    if counts["rows_in"] != counts["rows_out"] + counts["rows_rejected"] + counts["rows_dropped"]:
        return f"rows that do not add up: {counts}"
    return ""
