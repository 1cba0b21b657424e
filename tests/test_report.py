"""`dovetail report`: one page that needs neither a network nor scripts, whatever the names on it are."""

import json
import random
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
import templates
from browser import needs_browser, widths
from project import Project, isolate

from dovetail.render import graph_svg, timeline
from dovetail.render.graph import Edge, Graph, Node, layout
from dovetail.render.lineage_graph import graph
from dovetail.render.metric_bars import bars
from dovetail.render.report import page
from dovetail.tracking.connection import Tracking
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.values.tag_keys import Monitoring

HOSTILE = "<script>alert(1)</script>\"'><img src=http://x onerror=alert(1)>&amp;</style></svg>"
PNG = bytes.fromhex("89504e470d0a1a0a") + b"the rest"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def check_self_contained(html):
    """No script, no handler of an event, and nothing that a browser would fetch."""
    found = Elements(html).found
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in found}
    for _, attributes in found:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith("#")
        assert "url(" not in attributes.get("style", "")
    assert "@import" not in html.partition("</style>")[0]
    assert "url(" not in html.partition("</style>")[0]


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A project whose production was promoted, plotted and monitored; what it answers, and its page."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(tmp_path_factory, patch)
        folder = tmp_path_factory.mktemp("reported") / "small"
        project = Project(shutil.copytree(templates.small(tmp_path_factory), folder, symlinks=True))
        written = "pathlib.Path('out/plots/p.png').write_bytes(bytes.fromhex('89504e470d0a1a0a') + b'the rest')"
        project.write("train.py", f"{(project.root / 'train.py').read_text()}{written}\n")
        project.run("dvc", "repro", "-q")
        project.commit("with a picture")
        project.run("dovetail", "promote", "m", "--reason", "the <first>")
        with Tracking(project.root).store() as store:
            version = store.version("m", 1)
            run = store.observe(MonitoredVersion("m", 1, version.md5), {"rows": 120, "psi/a": 0.31, "psi/b": 0.02}, 1e9)
            store.tag_version(version, Monitoring("drift", "2026-03-01T12:00:00Z", run).tags())
        said = project.run("dovetail", "report", "m", "--html", "build/m.html").stdout
        answer = project.json("report")
        return project, said, answer, (project.root / "build/m.html").read_text()


def test_one_page_says_what_show_lineage_history_and_monitor_say(reported):
    project, said, answer, html = reported
    assert said.splitlines()[-1] == (project.root / "build/m.html").as_uri()
    (one,) = answer["models"]
    shown = project.json("show", "m")
    assert {key: one[key] for key in shown} == shown
    assert one["history"] == project.json("history", "m")["events"]
    assert (one["drift"]["verdict"], one["drift"]["rows"]) == ("drift", 120)
    assert [column["name"] for column in one["drift"]["columns"]] == ["a", "b"]
    assert [plot["path"] for plot in one["plots"]] == ["out/plots/p.png"]
    text = " ".join(Elements(html).text.split())
    for told in (
        "m/1",
        "@production",
        "0.7",
        "accuracy ≥ 0.5",
        "data.csv",
        "train",
        "the <first>",
        "0.31",
        "version 1",
    ):
        assert told in text
    assert "m#production#1" in text
    check_self_contained(html)
    assert not (project.root / "build/report.html").exists()  # --json alone writes none
    assert "build" not in project.run("git", "status", "--porcelain", "--untracked-files=all").stdout


def test_names_are_text_and_nothing_else(reported):
    """Each text of the answer, be it the name of a model, a stage, a column or a person, replaced by an attack."""
    _, _, answer, _ = reported
    kept = {"time", "md5", "made", "kind", "verdict", "sha"}

    def attacked(value, key=""):
        if isinstance(value, dict):
            named = key in {"metrics", "params", "packages"}
            return {name + HOSTILE * named: attacked(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [attacked(inner, key) for inner in value]
        return HOSTILE + value if isinstance(value, str) and key not in kept else value

    pictures = {plot["md5"]: ("image/png", PNG) for plot in answer["models"][0]["plots"]}
    html = page(attacked(answer), pictures)
    check_self_contained(html)
    elements = [{tag for tag, _ in Elements(text).found} for text in (html, page(answer, pictures))]
    assert elements[0] <= elements[1] | {"details", "summary", "h3", "table", "tbody", "tr", "td"}
    assert "&lt;script&gt;alert(1)" in html


def test_the_browser_is_told_to_refuse_scripts_and_requests(reported):
    policy = next(
        a["content"] for t, a in Elements(reported[3]).found if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "img-src data:" in policy


def test_what_there_is_nothing_to_report_of_is_said(small):
    done = small.run("dovetail", "report", code=2)
    assert "m" in done.stderr
    assert "next:" in done.stderr
    assert not (small.root / "build/report.html").exists()


def test_a_page_that_cannot_be_written_is_one_line(reported):
    project = reported[0]
    done = project.run("dovetail", "report", "m", "--html", "data.csv/m.html", code=2)
    assert done.stderr.count("\n") == 1
    assert "data.csv/m.html" in done.stderr


def test_a_picture_that_is_in_no_cache_is_a_note_on_the_page(reported, tmp_path):
    project, _, answer, _ = reported
    md5 = answer["models"][0]["plots"][0]["md5"]
    kept = project.root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    here = project.root / "out/plots/p.png"
    kept.rename(tmp_path / "away")
    here.rename(tmp_path / "away, too")
    (one,) = project.json("report", "m")["models"]
    (tmp_path / "away").rename(kept)
    (tmp_path / "away, too").rename(here)
    assert one["plots"] == []
    assert "p.png" in one["notes"][0]["what"]
    assert one["notes"][0]["next"].startswith("dvc push")


@pytest.mark.parametrize("seed", range(20))
def test_boxes_of_a_graph_do_not_overlap_and_each_line_leads_on(seed):
    chance = random.Random(seed)
    count = chance.randint(1, 25)
    nodes = tuple(Node(str(number), "stage", f"n{number}") for number in range(count))
    pairs = {(chance.randrange(count), chance.randrange(count)) for _ in range(2 * count)}  # circles among them
    sizes = {node.id: chance.uniform(20, 120) for node in nodes}
    found = layout(Graph(nodes, tuple(Edge(str(a), str(b)) for a, b in pairs)), sizes, 10)
    for number in range(found.layers):
        layer = sorted((at.across, name) for name, at in found.nodes.items() if at.layer == number)
        for (one, name), (other, after) in pairwise(layer):
            assert other - one >= (sizes[name] + sizes[after]) / 2 + 10 - 1e-6
    assert {(edge.source, edge.target) for edge, _ in found.lines} == {(str(a), str(b)) for a, b in pairs if a < b}
    for _, places in found.lines:
        assert [place.layer for place in places] == list(range(places[0].layer, places[-1].layer + 1))


def test_the_graph_of_a_lineage_has_its_sources_its_stages_and_its_version(reported):
    found = graph(reported[2]["models"][0])
    assert [(node.kind, node.title) for node in found.nodes] == [
        ("data", "data.csv"),
        ("stage", "train"),
        ("version", "m/1"),
    ]
    assert [(edge.source, edge.target) for edge in found.edges] == [
        ("data data.csv", "stage train"),
        ("stage train", "version"),
    ]
    down = graph(reported[0].json("lineage", "data.csv"))
    assert [node.title for node in down.nodes] == ["data.csv", "m/1"]
    assert graph_svg.drawn(down, "x").count("<svg") == 2  # for a screen and for a phone


def test_metrics_that_are_no_numbers_or_huge_have_their_place():
    html = bars({"a": float("nan"), "b": 1e300, "b_low": -1e300, "b_high": float("inf"), "c": -3.0, "baseline.c": 2.0})
    assert "nan" in html
    assert all(0 <= float(place) <= 100 for place in re.findall(r"(?:left|right):([-\d.]+)%", html))
    assert bars({}) == ""


def test_the_strip_is_true_to_time_and_leaves_out_what_moved_nothing():
    def event(day, version, **more):
        known = {"kind": "promote", "alias": "production", "from": None, "semver": None, "tag": "t", "commit": "c" * 40}
        rest = {"actor": "A <a>", "reason": "", "evidence": {}, "problem": ""}
        return {**known, **rest, "time": f"2026-03-{day:02}T00:00:00+00:00", "version": version, **more}

    events = [event(20, None, kind="unassign"), event(11, 9, problem="the commit lacks it"), event(10, 2), event(1, 1)]
    html = timeline.timeline(events, "production", "2026-03-21T00:00:00+00:00")
    assert re.findall(r"flex:(\d+) ", html) == [str(days * 86400) for days in (9, 10, 1)]
    assert "moved nothing: the commit lacks it" in html
    assert "version 1 for 9 days" in html


@needs_browser
@pytest.mark.parametrize("width", [390, 1366])
def test_a_browser_lays_the_page_out_within_its_width(reported, tmp_path, width):
    inside, needed = widths(tmp_path, re.sub(r"<meta http-equiv=[^>]*>", "", reported[3]), width)
    assert inside == width
    assert needed <= inside


def test_the_api_writes_the_same_page(reported, tmp_path):
    import dovetail

    project = reported[0]
    answer = dovetail.open(project.root).report("m", html=tmp_path / "m.html")
    assert json.loads(json.dumps(answer.as_json()))["models"] == project.json("report", "m")["models"]
    assert "m#production#1" in (tmp_path / "m.html").read_text()


def test_plots_that_only_the_top_of_dvc_yaml_names_and_those_that_git_keeps(small):
    picture = "bytes.fromhex('89504e470d0a1a0a') + b'"
    small.write(
        "train.py",
        f"""{(small.root / "train.py").read_text()}
pathlib.Path('out/seen').mkdir(exist_ok=True)
for name in ('a', 'b'):
    pathlib.Path(f'out/seen/{{name}}.png').write_bytes({picture}' + name.encode())
pathlib.Path('kept.png').write_bytes({picture}kept')
""",
    )
    small.replace("dvc.yaml", "plots: [out/plots]", "plots: [{kept.png: {cache: false}}]")
    small.replace("dvc.yaml", "outs: [out/m.joblib]", "outs: [out/m.joblib, out/seen]")
    small.replace("dvc.yaml", "out/metrics.json, out/plots]", "out/metrics.json]")
    small.replace("dvc.yaml", "artifacts:", "plots:\n  - out/seen/a.png\nartifacts:")
    small.run("dvc", "repro", "-q")
    small.commit("plots")
    small.write("kept.png", "another one by now")
    (model,) = small.json("report", "m")["models"]
    assert [plot["path"] for plot in model["plots"]] == ["kept.png", "out/seen/a.png"]
    assert model["notes"] == []
