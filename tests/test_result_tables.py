"""Results that are small tables show as tables on MLflow's pages: metrics by slice, plots, what `meta` names."""

import json
from pathlib import Path

import pytest
from project import TRAIN

from dovetail.values import small_table

SCORES = """
json.dump({"accuracy": w / 10, "by": {"region": {"north": {"accuracy": 0.5, "rows": 2}, "süd": {"accuracy": 1}}}},
          open("out/metrics.json", "w"))
pathlib.Path("out/importance.csv").write_text("feature,importance\\na,0.5\\nb c,-1\\n")
pathlib.Path("out/sorts.csv").write_text("actual,predicted\\n" + "a,b\\n" * 3 + "b,b\\n" * 2000)
pathlib.Path("out/signs.json").write_text('[{"is": "+", "said": "-"}]')
"""
CONFUSION = """\
plots:
  - sorts: {template: confusion, x: actual, y: {out/sorts.csv: predicted}}
"""


def logged(run):
    return {entry["path"] for entry in json.loads(run.data.tags["mlflow.loggedArtifacts"]) if entry["type"] == "table"}


def texts(project, run, paths):
    return [Path(project.store().client.download_artifacts(run.info.run_id, path)).read_bytes() for path in paths]


@pytest.mark.slow
def test_metrics_by_slice_plots_and_named_files_are_tables_once_also_when_killed_and_made_anew(small):
    small.write("train.py", TRAIN + SCORES)
    small.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out/m.joblib, out/importance.csv, out/sorts.csv]")
    small.replace("dvc.yaml", "[out/plots]", "[out/plots, {out/signs.json: {template: confusion, x: is, y: said}}]")
    small.write("dvc.yaml", (small.root / "dvc.yaml").read_text() + CONFUSION)
    small.replace("dvc.yaml", "meta: {", "meta: {tables: [out/importance.csv], ")
    small.run("dvc", "repro", "-q", "train")
    small.commit("trained")
    small.killed("log_inputs", "register")
    small.run("dovetail", "register")
    (run,) = small.store().runs()
    asked = (
        "tables/by.region.json", "tables/out/importance.json", "tables/out/plots/p.json", "tables/out/sorts.json",
        "tables/out/signs.json",
    )  # fmt: skip
    assert logged(run) == set(asked)
    assert run.data.metrics["by.region.north.accuracy"] == 0.5
    by_region, importance, plot, sorts, signs = map(json.loads, texts(small, run, asked))
    assert by_region["columns"] == ["region", "accuracy", "rows"]
    assert by_region["data"] == [["north", 0.5, 2], ["süd", 1, None]]
    assert importance == {"columns": ["feature", "importance"], "data": [["a", 0.5], ["b c", -1]]}
    assert plot == {"columns": ["x", "y"], "data": [[1, 7]]}
    assert sorts == {"columns": ["actual ↓ predicted →", "a", "b"], "data": [["a", 0, 3], ["b", 0, 2000]]}
    assert signs == {"columns": ["is ↓ said →", "+", "-"], "data": [["+", 0, 1], ["-", 0, 0]]}
    before = texts(small, run, asked)
    (small.root / "mlflow.db").unlink()
    small.run("dovetail", "sync")
    made = next(run for run in small.store().runs() if "by.region.north.accuracy" in run.data.metrics)
    assert logged(made) == set(asked)
    assert texts(small, made, asked) == before


@pytest.mark.slow
def test_a_script_s_own_tables_stay(small):
    script = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_table({'a': [1]}, 'mine.json')\n"
    small.write("train.py", TRAIN + script)
    small.run("dvc", "repro", "-q")
    (run,) = small.store().runs()
    assert logged(run) == {"mine.json", "tables/out/plots/p.json"}


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (
            {"classes": {"a": {"recall": 1.0}, "b": {"precision": 0.5}}},
            [("classes", ("classes", "recall", "precision"))],
        ),
        (
            {"by": {"sex": {"f": {"n": 1}}, "age": {"old": {"n": 2}}}},
            [("by.sex", ("sex", "n")), ("by.age", ("age", "n"))],
        ),
        ({"baseline": {"accuracy": 0.3}}, []),
        ({"a": {"recall": 1.0}, "b": {"recall": 0.5}}, []),  # nobody says of what they are slices
        ({"mixed": {"a": {"n": 1}, "b": 2}}, []),
        ({"texts": {"a": {"n": "one"}}}, []),
        ({"flags": {"a": {"n": True}}}, []),
        ({"doubled": {"a": {"doubled": 1}}}, []),  # a column of the slices' own name
        ({"empty": {}}, []),
        ([1, 2], []),
        (None, []),
    ],
)
def test_what_is_a_slice(document, found):
    assert [(name, table.columns) for name, table in small_table.slices(document)] == found


@pytest.mark.parametrize(
    ("suffix", "text", "rows"),
    [
        (".csv", "a,b\n1,x\n007,1_0\n-0.5,\n", ((1, "x"), ("007", "1_0"), (-0.5, None))),
        (".csv", '"a, b",c\r\n"ü\nn",nan\r\n', (("ü\nn", None),)),
        (".csv", "a,b\nnan,inf\n9007199254740993,1e3\n", ((None, "inf"), ("9007199254740993", 1000.0))),
        (".tsv", "a\tb\n1\t2\n", ((1, 2),)),
        (".json", '[{"a": 1, "b": "x"}, {"a": null}]', ((1, "x"), (None, None))),
        (".json", '{"roc": [{"fpr": 0, "tpr": 0.5}]}', ((0, 0.5),)),
        (".yaml", "- {a: 1}\n", ((1,),)),
        (".json", '[{"a": [1]}]', None),
        (".json", '{"a": 1}', None),
        (".json", "[]", None),
        (".json", '{"a"', None),
        (".csv", "a,a\n1,2\n", None),
        (".csv", "a,b\n1\n", None),
        (".csv", "a,b\n", None),
        (".csv", "", None),
        (".csv", b"\xff\xfe", None),
        (".csv", "a\n" + "1\n" * 1001, None),
    ],
)
def test_what_is_a_table(suffix, text, rows):
    found = small_table.read(text if isinstance(text, bytes) else text.encode(), suffix)
    assert (found and found.rows) == rows
    assert found is None or json.loads(found.text, parse_constant=pytest.fail)["data"] == [list(row) for row in rows]


@pytest.mark.parametrize(
    ("suffix", "text", "rows"),
    [
        (".csv", "id,is,said\n1,1,10\n2,10,10\n3,1,1\n", ((1, 1, 1), (10, 0, 1))),  # in the order of numbers
        (".json", '[{"is": "a", "said": "b"}, {"is": 1, "said": "b"}]', ((1, 0, 0, 1), ("a", 0, 0, 1), ("b", 0, 0, 0))),
        (".csv", "is,other\n1,1\n", None),
        (".csv", "is", None),
        (".csv", "is,said\n" + "".join(f"{n},{n}\n" for n in range(101)), None),  # no classes
    ],
)
def test_a_table_of_confusion_counts_the_records(suffix, text, rows):
    found = small_table.confusion(text.encode(), suffix, "is", "said")
    assert (found and found.rows) == rows
