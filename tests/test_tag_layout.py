"""Tags in MLflow's store: hidden, few, whole; read in the former layout as in this one, and turned into this one."""

import json
from itertools import count

import pytest
import templates
from mlflow.utils.validation import MAX_TAG_VAL_LENGTH, _validate_tag_name
from project import copy_of

import dovetail
from dovetail.tracking.connection import Tracking
from dovetail.tracking.monitoring_runs import MonitoredVersion
from dovetail.values import readable_tags, tag_keys, tag_layout
from dovetail.values.description import CommitFact, DataFact, EventFact, Facts, GateFact, LookFact
from dovetail.values.lineage import FileRef
from dovetail.values.tag_keys import Monitoring, Provenance, Reproduction
from dovetail.values.tag_layout import migration, plain, stored

D = "d" * 32
SAID = {
    **Provenance(
        "f", D, {"data/a.csv": D, "o\u0308de/\udce9.csv": D}, "e", "c" * 40, dirty=False, stage="train", experiment="x",
        signature=True, value="v2:1", computing_md5="k",
    ).tags(),
    **Reproduction("identical", "2026-03-01T12:00:00+00:00", D, "numpy 2.1 \u2192 2.2").tags(),
    **Monitoring("drift", "2026-03-01T12:00:00Z", "r").tags(),
    tag_keys.ONNX: "same on 3 rows", tag_keys.ONNX_MD5: D, tag_keys.PACKAGE: D, tag_keys.PICKLE_ALLOW: "mine",
    tag_keys.COMPUTING: '{"threads": "2"}', tag_keys.TRIAL: "3", tag_keys.DVC_EXECUTION: "host 12 1.00",
    tag_keys.DVC_INPUTS: D, tag_keys.MONITOR_VERSION: "1", "mine": "stays", tag_keys.NOTE: "a note",
}  # fmt: skip
MANY = {f"data/sources/region {n}/orders of the year 2026 \u2013 {n:03}.parquet": f"{n:032x}" for n in range(100)}


def visible(tags):
    return [key for key in tags if not key.startswith("mlflow.")]


def test_pages_show_what_is_searched_for_and_nothing_else_of_the_machinery():
    assert visible(stored(SAID)) == [
        "dovetail.fingerprint", "dovetail.model.md5", "dovetail.dvc.inputs", "dovetail.monitor.version", "mine",
    ]  # fmt: skip
    assert plain(stored(SAID)) == SAID
    facts_of_today = {
        value for name, value in vars(tag_keys).items() if name.isupper() and str(value).startswith("dovetail.")
    }
    turns = {tag_keys.TURN_OWNER, tag_keys.TURN_HOLDER, tag_keys.TURN_BEAT}
    elsewhere = {tag_keys.BOOLEANS, *turns, tag_keys.DATA_PREFIX}
    places = {*tag_layout.PLAIN, *tag_layout.ALONE, *(fact for one in tag_layout.TOGETHER.values() for fact in one)}
    assert places == facts_of_today - elsewhere  # one that is new has a place
    assert {*tag_layout.FORMER_OF_RUNS} <= places - {*tag_layout.PLAIN}


@pytest.mark.parametrize(
    "data", [MANY, {"x/" * 2000 + "y": D}, {"\udce9" * 2000: D}, {f"{n}" * 60: D for n in range(2000)}]
)
def test_any_number_of_data_files_fits_into_tags_that_mlflow_takes(data):
    tags = stored(Provenance("f", D, data).tags())
    assert len(tags) <= 4 + sum(map(len, data)) / 1000
    for key, value in tags.items():
        _validate_tag_name(key)
        assert len(value) <= tag_layout.LONGEST < MAX_TAG_VAL_LENGTH
        value.encode()
    assert Provenance.parse(plain(tags), data).data == data


def test_both_layouts_read_the_same_and_what_an_older_dovetail_wrote_since_holds():
    assert plain(SAID) == plain(stored(SAID)) == plain({**stored(SAID), **SAID}) == SAID
    later = {**stored(SAID), tag_keys.REPRODUCE_VERDICT: "different"}
    assert plain(later)[tag_keys.REPRODUCE_VERDICT] == "different"
    assert plain(later)[tag_keys.REPRODUCE_ENV_MD5] == D
    change = migration(later)
    assert change.delete == (tag_keys.REPRODUCE_VERDICT,)
    assert json.loads(change.set["mlflow.dovetail.reproduction"])["verdict"] == "different"
    assert not migration(stored(SAID))
    assert (
        plain(tag_layout.changed(stored(SAID), {tag_keys.PACKAGE: "p"})).items()
        >= {tag_keys.PACKAGE: "p", tag_keys.SIGNATURE: "from the card"}.items()
    )


@pytest.mark.parametrize("broken", ["", "{", "[1]", '"x"', '{"verdict": 1}', "null", '{"else": "x"}'])
def test_a_tag_that_somebody_broke_says_nothing(broken):
    said = plain({"mlflow.dovetail.reproduction": broken, "mlflow.dovetail.data": broken, "mine": "x"})
    assert Reproduction.parse(said) is None
    assert said["mine"] == "x"


def test_a_migration_that_is_killed_after_any_step_loses_nothing_and_comes_to_the_same():
    for tags, run in ((SAID, None), ({**stored(SAID), tag_keys.PACKAGE: "p"}, None), (SAID, SAID)):
        kept = tag_layout.of_version if run else dict  # what a version's run says, the version says no more
        for killed in count():
            store, left = dict(tags), killed
            read = migration(tags, run)  # by another clone, which is slower
            for do in (migration, migration, lambda *_, read=read: read):  # killed, done again, and the other one
                change = do(store, run)
                for key, value in change.set.items():
                    if left:
                        store[key], left = value, left - 1
                    assert kept(plain(store)) == kept(plain(tags))
                for key in change.delete:
                    if left:
                        left -= store.pop(key, None) is not None
                    assert kept(plain(store)) == kept(plain(tags))
                left = 1000
            assert store == stored(kept(plain(tags)))
            if killed > 2 * len(SAID):
                break
    searched = [key for key in migration(SAID).delete if key in tag_layout.FORMER_OF_RUNS]
    assert searched == list(migration(SAID).delete)[-len(searched) :]  # a search finds what is not done


FACTS = Facts(
    "m", 2, metrics={"accuracy": 0.9}, gates=(GateFact(name="accuracy", passed=True, value=0.9, limit=">= 0.5"),
        GateFact(name="champion", passed=True, value=None, limit="")),
    data=(DataFact(FileRef("split/train.csv", D), "training"),
        DataFact(FileRef("raw/a b.csv", D), "source")),
    commit=CommitFact("c" * 40, "w = 8\n", "Ada"),
    events=(EventFact("Promoted to production", 1772366400, "Ada", "m#production#1"),),
    looks=(LookFact("Monitored", "drift", "2026-03-01T12:00:00Z"),
        LookFact("Reproduced", "identical", "2026-03-02T12:00:00+00:00")),
)  # fmt: skip


def test_a_person_reads_names_first():
    said = readable_tags.of_version(FACTS)
    assert said == {
        "Commit": "cccccccc w = 8",
        "Data": "a b.csv (dddddddd)",
        "Decision": "Promoted to production, by Ada, 2026-03-01",
        "Gates": "all 2 passed",
        "Monitored": "drift, 2026-03-01",
        "Reproduced": "identical, 2026-03-02",
    }
    assert sorted([*said, *visible(stored(SAID))])[: len(said)] == list(said)
    assert set(readable_tags.of_run(FACTS)) == {"Commit", "Data", "Gates"}
    assert readable_tags.of_run(Facts("m", None, experiment="bold-sun")) == {"Experiment": "bold-sun"}
    assert readable_tags.of_run(
        Facts("m", None, gates=(GateFact(name="accuracy", passed=False, value=0.1, limit=""),))
    ) == {
        "Commit": "none yet",
        "Gates": "FAILED: accuracy",
    }
    many = tuple(DataFact(FileRef(path, D), "source") for path in MANY)
    for key, text in readable_tags.of_run(
        Facts("m", 1, data=many, commit=CommitFact("c" * 40, "x\0" * 500, ""))
    ).items():
        assert (len(text) < 200, text.isprintable()) == (True, True), key


def test_a_key_that_was_somebody_elses_before_stays_theirs():
    wanted = readable_tags.of_run(FACTS)
    change = readable_tags.change({"data": "theirs"}, wanted)
    assert list(change.set) == [tag_keys.CLAIMED, "Commit", "Gates"]
    tags = {"data": "theirs", **change.set}
    assert not readable_tags.change(tags, wanted)
    gone = readable_tags.change(tags, {"Commit": "another", "Data": "x"})
    assert (gone.set, gone.delete) == ({"Commit": "another"}, ("Gates",))


def former(project):
    """Turn all tags of the store into those that an older Dovetail wrote."""
    client = project.store().client

    def older(tags):
        mine = {*readable_tags.KEYS, tag_keys.CLAIMED}
        return {key: value for key, value in plain(tags).items() if key not in mine}

    for run in project.store().runs():
        tags, wanted = run.data.tags, older(run.data.tags)
        for key in tags.keys() - wanted.keys():
            client.delete_tag(run.info.run_id, key)
        for key in wanted.keys() - tags.keys():
            client.set_tag(run.info.run_id, key, wanted[key])
    for one in project.store().versions():
        told = plain(client.get_run(one.run_id).data.tags)  # a version said it all again
        said = {key: told[key] for key in told if key in (tag_keys.FINGERPRINT, tag_keys.DATA_PREFIX + "data.csv")}
        tags, wanted = one.tags, older(one.tags) | said
        for key in tags.keys() - wanted.keys():
            client.delete_model_version_tag(one.name, one.version, key)
        for key in wanted.keys() - tags.keys():
            client.set_model_version_tag(one.name, one.version, key, wanted[key])


def everything(project):
    """All tags of the store, by what has them."""
    shown = project.store()
    runs = {run.info.run_id: run.data.tags for run in shown.runs()}
    versions = {(one.name, one.version): one.tags for one in shown.versions()}
    return runs | versions


def answers(project):
    """What each verb that reads MLflow says."""
    repo = dovetail.open(project.root)
    asked = {
        "status": repo.status, "list": repo.list, "doctor": repo.doctor, "gc": repo.gc,
        "lineage": lambda: repo.lineage("m/1"), "data": lambda: repo.lineage("data.csv"),
        "show": lambda: repo.show("m/1"), "history": lambda: repo.history("m"), "diff": lambda: repo.diff("m/1", "m/2"),
        "promote": lambda: repo.promote("m", version=2, dry_run=True), "report": repo.report,
    }  # fmt: skip
    with Tracking(project.root).store() as store:
        live = [(one.run.id, one.execution, one.parent, one.computing) for one in store.live_runs("inputs")]
        monitored = store.monitored("m", 1)
    said = {name: ask().as_json() for name, ask in asked.items()}
    said["report"].pop("made")
    return said | {"live": live, "monitored": monitored}


@pytest.fixture
def project(tmp_path_factory, tmp_path):
    """Two versions, the first promoted and looked at; a trial, and a run that a script opened."""
    project = copy_of(templates.versions(tmp_path_factory), tmp_path / "small")
    project.run("dovetail", "promote", "m", "--version", "1")
    with Tracking(project.root).store() as store:
        version = store.version("m", 1)
        watched = store.observe(MonitoredVersion("m", 1, version.md5), {"psi/a": 0.3}, 1e9)
        store.tag_version(version, Monitoring("drift", "2026-03-01T12:00:00Z", watched).tags())
        store.tag_version(version, Reproduction("identical", "2026-03-01T12:00:00Z", D, "nothing").tags())
        store.tag_version(version, {tag_keys.ONNX: "same on 3 rows", tag_keys.ONNX_MD5: D})
        told = {key: SAID[key] for key in (tag_keys.DVC_EXECUTION, tag_keys.COMPUTING, tag_keys.DVC_STAGE)}
        store.client.create_run("0", tags=stored({tag_keys.DVC_INPUTS: "inputs", **told}))
        store.client.create_run("0", tags=stored({tag_keys.TRIAL: "3"}))
    return project


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # of mlflow.pyfunc's import
def test_a_store_of_the_former_layout_is_read_and_migrated(project):
    project.run("dovetail", "sync", "--all")
    after, said = everything(project), answers(project)
    former(project)
    assert not any("mlflow.dovetail.provenance" in tags for tags in everything(project).values())
    assert answers(project) == said
    before = {place: plain(tags) for place, tags in everything(project).items()}

    for step in ("set_model_version_tag:3", "delete_model_version_tag:5", "delete_tag:7"):
        project.killed(step, "sync")
        now = everything(project)
        for place, tags in before.items():
            kept = tag_layout.of_version(tags) if isinstance(place, tuple) else tags
            assert plain(now[place]).items() >= kept.items(), (step, place)
    assert project.json("sync")["retagged"] > 0
    assert everything(project) == after
    assert answers(project) == said
    assert project.json("sync")["retagged"] == 0
    assert everything(project) == after

    former(project)
    with Tracking(project.root).store() as store:  # written before anybody has synced
        for _ in range(2):
            store.tag_version(store.version("m", 1), Reproduction("different", "t", D, "unknown").tags())
            assert store.version("m", 1).reproduced == "different"
            assert store.version("m", 1).onnx == "same on 3 rows"
