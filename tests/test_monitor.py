"""`dovetail monitor` on real repositories: what was served beside what the version was trained and tested on."""

import gzip
import json
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import needs_browser, widths
from project import BIN, facts

from dovetail.errors import MissingFile, StoreError, UnknownReference, UserError
from dovetail.monitoring import assessment, baseline, observed_rows, performance
from dovetail.monitoring.column_pair import is_text, pair
from dovetail.monitoring.html_page import page
from dovetail.monitoring.monitor import MonitorRequest, moment, monitor
from dovetail.monitoring.watch import WatchRequest, watch
from dovetail.promotion.comparison import Interval
from dovetail.repo.workspace import open_workspace
from dovetail.serving.log import rows
from dovetail.serving.log.prediction_log import PredictionLog, Served
from dovetail.tracking import monitoring_runs
from dovetail.tracking.connection import Tracking
from dovetail.values import tag_keys
from dovetail.values.scored import Scored

# MLflow says so of the loader's own type hints; the process that tries the model inherits that warnings are errors.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:(?s).*MLflow doesn't validate the data:UserWarning"),
]


@pytest.fixture(autouse=True)
def _there(judged, monkeypatch):
    monkeypatch.chdir(judged.root)


def serve(project, *, shift=0, version=1, request_id="r"):
    """Let the log say that the version answered rows like those it was trained on, `u` moved by `shift`."""
    u, v = [(i % 7) + shift for i in range(300)], [i % 11 for i in range(300)]
    said = ["b" if value > 3 else "a" for value in u]
    log = PredictionLog(project.root / "monitoring" / "m")
    answer = json.dumps(said).encode()
    log.served(Served(request_id, time.time(), version, "predict", {"u": u, "v": v}, answer))
    log.labelled(request_id, ["b" if value - shift > 3 else "a" for value in u], time.time())
    log.close()
    assert log.problem is None


def look(project, *, baselines=None, **options):
    with open_workspace(project.root) as workspace:
        tracking = Tracking(workspace.store_root)
        return monitor(workspace, tracking, MonitorRequest("m", **options), baselines=baselines).as_json()


def by_name(answer):
    return {column["name"]: column for column in answer["columns"]}


def test_what_is_served_as_trained_is_stable_and_what_has_moved_is_drift(judged):
    serve(judged)
    silent = judged.json("monitor", "m@staging", "--since", "2099-01-01")
    assert (silent["verdict"], silent["rows"], silent["run_id"]) == ("silent", 0, None)
    assert {column["reason"] for column in silent["columns"]} == {"nothing was served"}

    stable = look(judged)
    assert stable["notes"] == []
    assert (stable["verdict"], stable["rows"], stable["labelled"]) == ("stable", 300, 300)
    assert stable["reference"] == {"path": "train.csv", "md5": stable["reference"]["md5"], "rows": 140}
    assert stable["metric"]["served"] == stable["metric"]["test"] == {"value": 1.0, "low": 1.0, "high": 1.0}

    serve(judged, shift=3, request_id="moved")
    drift = judged.json("monitor", "m", "--html", "pages/m.html", code=1)
    assert (drift["verdict"], drift["rows"], drift["page"]) == ("drift", 600, "pages/m.html")
    columns = by_name(drift)
    assert columns["u"]["drifted"]
    assert columns["u"]["psi"] > 0.2
    assert not columns["v"]["drifted"]
    assert drift["prediction"]["drifted"]
    assert drift["metric"]["drifted"]
    assert drift["metric"]["served"]["high"] < 1

    runs = [run for run in judged.store().runs() if tag_keys.MONITOR_VERSION in run.data.tags]
    assert [run.info.run_id for run in runs] == [drift["run_id"]] == [stable["run_id"]]
    client = judged.store().client
    grown = client.get_metric_history(drift["run_id"], "psi/u")
    assert [point.value for point in grown] == [by_name(stable)["u"]["psi"], columns["u"]["psi"]]
    assert [point.value for point in client.get_metric_history(drift["run_id"], "drifted_columns")] == [0, 1]
    assert client.get_metric_history(drift["run_id"], "drifted/v") == []
    monitoring_runs.add(client, drift["run_id"], {"psi/u": 0.01, "psi/v": 0.01}, time.time())  # a look that is calm
    drawn = [point.value for point in client.get_metric_history(drift["run_id"], "drifted/u")]
    assert drawn == [columns["u"]["psi"], 0.01]
    assert client.get_experiment(runs[0].info.experiment_id).name == "m-monitoring"
    assert [file.path for file in client.list_artifacts(drift["run_id"])] == ["monitor.html"]
    (version,) = judged.store().versions()
    told = tag_keys.Monitoring.parse(facts(version))
    assert told == tag_keys.Monitoring("drift", drift["until"], drift["run_id"])
    assert f"**Monitored** {drift['until'][:16].replace('T', ' ')} UTC: drift" in version.description
    (model,) = client.get_run(drift["run_id"]).inputs.model_inputs
    assert version.source == f"models:/{model.model_id}"

    shown = (judged.root / "pages/m.html").read_text()
    assert shown == client_text(client, drift["run_id"])


def client_text(client, run_id):
    from mlflow.artifacts import load_text

    return load_text(f"{client.get_run(run_id).info.artifact_uri}/monitor.html")


def test_nobody_takes_the_monitoring_for_a_run_of_the_pipeline(judged):
    serve(judged)
    run_id = look(judged)["run_id"]
    assert judged.json("sync")["runs"] == {"created": 0, "present": 1}
    assert judged.json("doctor")["problems"] == []
    assert judged.json("gc")["delete"] == []
    assert judged.json("lineage", "m/1")["run_id"] != run_id
    assert judged.run("git", "status", "--short").stdout == ""
    assert judged.store().counts() == (2, 1)


def test_only_what_this_version_answered_and_in_this_time_counts(judged):
    serve(judged, shift=3, version=2)
    assert look(judged)["rows"] == 0
    serve(judged)
    assert look(judged)["rows"] == 300
    assert look(judged, since="2099-01-01")["rows"] == 0


def test_the_data_is_brought_by_lineage_and_not_taken_from_the_folder(judged):
    serve(judged)
    (judged.root / "train.csv").unlink()
    (judged.root / "train.csv").write_text("u,v,label,group\n9,9,a,x\n")
    assert look(judged)["verdict"] == "stable"
    judged.run("dvc", "remote", "add", "-d", "backup", str(judged.root.parent / "backup"))
    judged.run("dvc", "push", "-q", "train", "split", "judge")
    shutil.rmtree(judged.root / ".dvc/cache")
    assert look(judged)["verdict"] == "stable"


def test_columns_that_the_log_leaves_out_are_said_and_few_rows_are_no_alarm(judged):
    log = PredictionLog(judged.root / "monitoring" / "m", leave_out=frozenset({"v"}))
    log.served(Served("r", time.time(), 1, "predict", {"u": [9] * 99, "v": [1] * 99}, json.dumps(["b"] * 99).encode()))
    log.close()
    few = look(judged)
    assert few["verdict"] == "silent"
    assert by_name(few)["u"]["reason"] == "too few rows: 99 of 100"
    assert by_name(few)["v"]["reason"].startswith("not in the prediction log")
    assert look(judged, min_rows=50)["verdict"] == "drift"


def test_what_is_read_once_is_not_read_again(judged):
    serve(judged)
    known = {}
    look(judged, baselines=known)
    (kept,) = known.values()
    shutil.rmtree(judged.root / ".dvc/cache")
    assert look(judged, baselines=known)["verdict"] == "stable"
    assert next(iter(known.values())) is kept


def test_what_cannot_be_told_is_one_line_with_the_next_command(judged):
    with open_workspace(judged.root) as workspace:
        tracking = Tracking(workspace.store_root)
        with pytest.raises(UnknownReference, match="m has no version 7"):
            monitor(workspace, tracking, MonitorRequest("m/7"))
        with pytest.raises(UserError, match="--since 'soon' is not a time"):
            monitor(workspace, tracking, MonitorRequest("m", since="soon"))
        (judged.root / "mlflow.db").rename(judged.root / "away.db")
        with pytest.raises(StoreError, match="there is no MLflow store"):
            monitor(workspace, tracking, MonitorRequest("m"))


def test_each_look_sees_the_commits_that_are_there_by_then(judged):
    serve(judged)
    looks, heads = [], []

    @contextmanager
    def opened():
        with open_workspace(judged.root) as workspace:
            looks.append(workspace)
            yield workspace, Tracking(workspace.store_root)

    def tell(_):
        heads.append((looks[-1].git.head.sha, len(looks[-1].git.commits(["HEAD"]))))
        if len(heads) == 2:
            raise KeyboardInterrupt
        judged.write("another", "")
        judged.commit("another")

    watch(opened, WatchRequest(MonitorRequest("m"), 0.01), tell=tell, failed=pytest.fail)
    assert heads[1][1] == heads[0][1] + 1


def test_watching_outlives_a_store_that_is_away(judged):
    serve(judged)
    watching = subprocess.Popen(
        [BIN / "dovetail", "monitor", "m", "--watch", "0.2"], cwd=judged.root, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    try:
        assert "m/1: stable" in watching.stdout.readline()
        (judged.root / "mlflow.db").rename(judged.root / "away.db")
        assert any("no MLflow store" in line for line in watching.stderr)
        (judged.root / "away.db").rename(judged.root / "mlflow.db")
        serve(judged, shift=3, request_id="moved")
        while "m/1: drift in u" not in (said := watching.stdout.readline()):
            assert "m/1: stable" in said
    finally:
        watching.send_signal(signal.SIGTERM)
        watching.communicate(timeout=30)
    assert watching.returncode == 0


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("7d", datetime(2026, 2, 22, 12, tzinfo=UTC)),
        ("90m", datetime(2026, 3, 1, 10, 30, tzinfo=UTC)),
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-02-01T06:00+02:00", datetime(2026, 2, 1, 4, tzinfo=UTC)),
        ("999999d", datetime(1926, 3, 26, 12, tzinfo=UTC)),
        ("0001-01-01", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00+02:00", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59-02:00", datetime(9999, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_ago_or_iso(text, time):
    assert moment(text, datetime(2026, 3, 1, 12, tzinfo=UTC)) == time


def test_the_metric_has_drifted_where_the_intervals_do_not_meet():
    test = (["a", "b"] * 100, ["a", "b"] * 95 + ["b", "a"] * 5)
    alike = performance.compare("accuracy", test, (["a", "b"] * 100, ["a", "b"] * 93 + ["b", "a"] * 7), 100)
    assert not alike.drifted
    worse = performance.compare("accuracy", test, (["a", "b"] * 100, ["a", "b"] * 50 + ["b", "a"] * 50), 100)
    assert worse.drifted
    assert worse.served.low < worse.served.value == 0.5 < worse.served.high < worse.test.low
    few = performance.compare("accuracy", test, (["a"] * 99, ["b"] * 99), 100)
    assert (few.drifted, few.reason) == (False, "too few labels: 99 of 100")
    numbers = list(range(200))
    error = performance.compare("mae", (numbers, numbers), ([str(n) for n in numbers], [n + 1.0 for n in numbers]), 100)
    assert error.drifted
    assert error.served == Interval(1, 1, 1)
    assert performance.compare("r2", (numbers, numbers), ([1.0] * 200, [1.0] * 200), 100).reason.startswith("r2 is not")
    assert performance.compare("mae", (numbers, numbers), (["x"] * 200, numbers), 100).served is None


class Tags(HTMLParser):
    """What a page is made of, and that each tag that opens is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes = [], set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes += attrs


def answer_with(*columns):
    return {
        "model": "m<b>", "version": 3, "since": "2026-03-01T00:00:00Z", "until": "2026-03-08T00:00:00Z", "rows": 1234,
        "sampled": 1000, "labelled": 0, "verdict": "drift", "columns": columns, "prediction": None, "metric": None,
        "reference": {"path": "data/<x>.csv", "md5": "ab" * 16, "rows": 5}, "notes": ["no <test> set"],
    }  # fmt: skip


def test_one_label_that_is_no_number_voids_no_metric():
    numbers = [float(n % 17) for n in range(640)]
    truth = rows.union([
        pa.table({"label": numbers, "prediction": [n + 0.1 for n in numbers]}),
        pa.table({"label": ["text", "inf"], "prediction": [1.0, 2.0]}),
    ])  # fmt: skip
    tested = baseline.TestPredictions(numbers, numbers, "r2")
    metric = assessment.metric_of(tested, truth, 100)
    assert (metric.rows, metric.served.value > 0.99) == (640, True)
    assert assessment.unusable(tested, truth) == 2


@pytest.mark.parametrize("said", [float, lambda n: str(float(n)), lambda n: [1.0 - n, float(n), 0.0]])
def test_probabilities_are_compared_as_the_likeliest_class(said):
    classes = [n % 2 for n in range(400)]
    tested = baseline.TestPredictions(np.array(classes), np.array(classes), "accuracy", of_probabilities=True)
    served = pa.table({"label": classes, "prediction": [said(n * 0.8 + 0.1) for n in classes]})
    assert assessment.metric_of(tested, served, 100).served.value == 1.0


def test_the_page_needs_nothing_else_and_believes_no_name():
    evil = "<script>alert(1)</script>\"'&"
    pairs = [
        pair(evil, pd.Series([evil, "x"] * 9), pd.Series([evil, "y"] * 9)),
        pair("huge", pd.Series([1e308, -1e308, 0]), pd.Series([2.0**70])),
        pair("one", pd.Series([1.5]), pd.Series([1.5])),
        pair("none", pd.Series([None]), pd.Series([None])),
        pair("date", pd.Series([pd.Timestamp.max, pd.Timestamp.min]), pd.Series([], dtype=object)),
    ]
    columns = [
        {"name": one.name, "kind": one.kind, "drifted": True, "reason": evil, "psi": 0.5, "p_corrected": 1e-9,
         "missing": None, "unseen": 0.5, "wasserstein": None}
        for one in pairs
    ]  # fmt: skip
    text = page(answer_with(*columns), pairs)
    found = Tags(text)
    assert found.open == []
    assert not found.seen & {"script", "link", "img", "iframe"}
    assert not [value for name, value in found.attributes if name in ("src", "href") or name.startswith("on")]
    assert "nan" not in text
    assert "url(" not in text
    assert "in 5 of 5 columns" in text


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_lays_the_page_out_within_its_width(tmp_path, width):
    names = [f"a_column_with_quite_a_long_name_{number}" for number in range(7)]
    pairs = [pair(name, pd.Series(range(300)), pd.Series(range(100, 400))) for name in names]
    columns = [
        {"name": name, "kind": "number", "drifted": True, "reason": "the distribution has moved: PSI 1.24", "psi": 1.24,
         "p_corrected": 1e-9, "missing": {"served": 0.5}, "unseen": None, "wasserstein": 1.0}
        for name in names
    ]  # fmt: skip
    inside, needed = widths(tmp_path, page(answer_with(*columns), pairs), width)
    assert inside == width
    assert needed <= inside


def test_a_batch_is_looked_at_before_and_after_it_is_scored(judged, tmp_path):
    data, out = tmp_path / "data ü", tmp_path / "out"
    data.mkdir()
    for number in range(3):
        table = pa.table({"u": [i % 7 for i in range(100)], "v": [i % 11 for i in range(100)], "id": range(100)})
        pq.write_table(table, data / f"part-{number}.parquet")
    before = look(judged, data=data)
    assert (before["verdict"], before["rows"], before["data"]) == ("stable", 300, str(data))
    assert before["prediction"]["reason"] == "too few rows: 0 of 100"
    judged.run("dovetail", "predict", "m/1", "--data", str(data), "--out", str(out))
    after = look(judged, data=out)
    assert (after["verdict"], after["prediction"]["reason"]) == ("stable", "")
    client = judged.store().client
    assert len(client.get_metric_history(after["run_id"], "batch/psi/u")) == 2
    assert not client.get_metric_history(after["run_id"], "psi/u")
    assert [file.path for file in client.list_artifacts(after["run_id"])] == ["batch.html"]

    csv = tmp_path / "moved.csv"
    csv.write_text("v,u\n" + "".join(f"{i % 11},{i % 7 + 3}\n" for i in range(300)))
    drift = judged.json("monitor", "m/1", "--data", str(csv), code=1)
    assert [column["name"] for column in drift["columns"] if column["drifted"]] == ["u"]
    assert (
        f"300 rows, 0 labelled, in {csv})"
        in judged.run("dovetail", "monitor", "m/1", "--data", str(csv), code=1).stdout
    )
    pq.write_table(table.select(["id"]), tmp_path / "ids.parquet")
    absent = look(judged, data=tmp_path / "ids.parquet")
    assert {column["reason"] for column in absent["columns"]} == {f"not in {tmp_path / 'ids.parquet'}"}

    said = Scored("m", 9, "0" * 32, "", None, "x", "1" * 32)
    pq.write_table(table.replace_schema_metadata(said.metadata()), data / "part-0.parquet")
    with pytest.raises(UserError, match=r"was scored by m/9 .* not by m/1"):
        look(judged, data=data)
    (data / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingFile, match=r"part-0\.parquet cannot be read"):
        look(judged, data=data)
    with pytest.raises(MissingFile, match="there is no such file or folder"):
        look(judged, data=tmp_path / "nowhere")


def test_blank_lines_of_a_file_of_one_column_are_rows_as_predict_has_them(tmp_path):
    (tmp_path / "one.csv").write_text("u\n1\n\n3\n")
    (tmp_path / "two.csv").write_text("u,v\n1,2\n\n3,4\n")
    found = {name: observed_rows.batch(tmp_path / name, None, ["u"]) for name in ("one.csv", "two.csv")}
    assert [(one.rows, len(one.table)) for one in found.values()] == [(3, 3), (2, 2)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("u,v\n1,2\n3,4,\n", "row 1: expected 2 values, as the header has, got 3 values"),
        ("u,v\n9,1,2\n8,3,4\n", "row 0: expected 2 values"),
        ("u,v\n1\n3,4\n", "row 0: expected 2 values, as the header has, got 1 value"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_row_of_csv_that_is_not_as_long_as_the_header_is_refused(tmp_path, name, text, said):
    content = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MissingFile, match=rf"{name} cannot be read: {said}"):
        observed_rows.batch(tmp_path / name, None, ["u", "v"])


def test_text_in_csv_is_text_where_the_training_data_has_it(tmp_path):
    codes, words, flags = ["007", "042"] * 150, ["True", "1e5"] * 150, [True, False] * 150
    trained = pd.DataFrame({"code": codes, "word": words, "flag": flags})
    trained.to_csv(tmp_path / "rows.csv", index=False)
    texts = [name for name in trained.columns if is_text(trained[name])]
    seen = observed_rows.batch(tmp_path / "rows.csv", None, list(trained.columns), texts)
    for name in trained.columns:
        found = pair(name, trained[name], seen.table[f"input.{name}"].to_pandas())
        assert found.served.counts == found.reference.counts
