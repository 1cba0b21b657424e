"""What computed: told, written, read again, and set on another machine as far as that machine can."""

import pytest

from dovetail.reproduction.explain import Question, by_settings, variants
from dovetail.values import computing, stage_settings
from dovetail.values.environment import Environment, changes, pinned
from dovetail.values.lineage import StageRecord

HERE = {"machine": "x86_64", "cores": "2", "cpu": "avx avx2 fma sse4_2"}
RECORDED = {
    **HERE, "cores": "8", "blas.library": "libscipy_openblas 0.3.30", "blas.kernel": "Haswell", "blas.threads": "8",
    "openmp.threads": "8", "variable.MKL_CBWR": "AVX2",
}  # fmt: skip


def test_this_process_says_what_it_computes_with(monkeypatch):
    from sklearn.ensemble import RandomForestClassifier  # loads BLAS and OpenMP, too
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    monkeypatch.setenv("OMP_DYNAMIC", "false")
    facts = computing.of_process(type("Model", (), {"n_jobs": 3})())
    assert facts.items() >= computing.of_machine().items()
    assert int(facts["cores"]) >= 1
    assert int(facts["openmp.threads"].split(",")[0]) >= 1
    assert facts["variable.OMP_DYNAMIC"] == "false"
    assert facts["joblib.n_jobs"] == "3"
    assert facts["joblib.backend"] == "loky"
    search = GridSearchCV(make_pipeline(RandomForestClassifier(n_jobs=4)), {}, n_jobs=2)
    assert computing.of_process(search)["joblib.n_jobs"] == "2, 4"
    assert "openblas" not in facts["blas.library"] or facts["blas.kernel"]


def test_it_stands_beside_the_packages_and_leaves_their_digest_alone():
    packages = Environment("3.11.7", {"numpy": "2.1"})
    both = pinned(packages.text + computing.text(RECORDED))
    assert (both.python, both.packages, both.computing) == ("3.11.7", {"numpy": "2.1"}, RECORDED)
    assert both.md5 == packages.md5
    other = Environment("3.11.7", {"numpy": "2.1"}, {**RECORDED, "openmp.threads": "2"})
    assert [(c.name, c.expected, c.actual) for c in changes(both, other)] == [("openmp.threads", "8", "2")]
    assert changes(both, packages) == ()  # nothing is known of the other
    assert computing.digest(RECORDED) != computing.digest(other.computing)


def test_the_same_machine_with_the_same_variables_needs_no_setting():
    assert computing.settings({}, HERE) == {}
    assert (
        computing.settings({**RECORDED, **HERE, "variable.MKL_CBWR": "AVX2"}, {**HERE, "variable.MKL_CBWR": "AVX2"})
        == {}
    )


def test_another_machine_is_set_as_it_was_recorded():
    here = {**HERE, "variable.OMP_NUM_THREADS": "1", "variable.RAYON_NUM_THREADS": "1"}
    assert computing.settings(RECORDED, here) == {
        "OMP_NUM_THREADS": "8", "OPENBLAS_NUM_THREADS": "8", "OPENBLAS_CORETYPE": "Haswell", "MKL_CBWR": "AVX2",
        "POLARS_MAX_THREADS": "8", "RAYON_NUM_THREADS": "8",
    }  # fmt: skip
    assert computing.settings({**RECORDED, "cores": "2"}, here)["RAYON_NUM_THREADS"] is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({"machine": "aarch64"}, "computed on aarch64, this is x86_64"),
        ({"blas.kernel": "SkylakeX"}, "kernel SkylakeX, which needs avx512bw avx512f avx512vl"),
        ({"cpu": "avx avx2 avx512f fma sse4_2"}, "a CPU with avx512f"),
    ],
)
def test_what_this_machine_cannot_do_is_said(changed, says):
    said = computing.unavailable({**RECORDED, **changed}, HERE)
    assert says in said
    assert bool(said) == bool(says)
    if "kernel" in said:
        assert "OPENBLAS_CORETYPE" not in computing.settings({**RECORDED, **changed}, HERE)


def question(**changed):
    about = {"stage": "s", "expected": "e", "actual": "a", "recorded": {}, "here": HERE, "used": {}}
    return Question(**(about | changed))


def test_threads_are_tried_before_kernels_and_none_twice():
    tried = list(variants(question()))
    assert [kind for kind, _ in tried] == sorted((kind for kind, _ in tried), reverse=True)
    assert [s["OMP_NUM_THREADS"] for kind, s in tried if kind == "threads"] == ["1", "4"]  # 2 cores: 2 is what it was
    assert [s["OPENBLAS_CORETYPE"] for kind, s in tried if kind == "kernel"] == [
        "Zen",
        "Haswell",
        "Sandybridge",
        "Nehalem",
    ]
    assert next(variants(question(used={"OMP_NUM_THREADS": "8"}))) == ("threads", {"OMP_NUM_THREADS": None})


def test_a_stage_that_moves_with_threads_is_told_where_none_gives_the_recorded_bytes():
    cause = by_settings(question(), lambda settings: settings.get("OMP_NUM_THREADS", "a"))
    assert (cause.kind, "another number of threads, and which was used is not recorded" in cause.detail) == (
        "threads",
        True,
    )
    cause = by_settings(
        question(recorded={**RECORDED, "machine": "riscv64"}), lambda s: s.get("OPENBLAS_CORETYPE", "a")
    )
    assert cause.kind == "kernel"
    assert "computed on riscv64" in cause.detail


def test_a_stage_that_nothing_moves_has_another_cause():
    assert by_settings(question(), lambda _: "a") is None
    assert by_settings(question(), lambda _: None) is None  # it failed under each
    elsewhere = by_settings(question(recorded={**RECORDED, "machine": "aarch64"}), lambda _: "a")
    assert elsewhere.kind == "machine"
    assert "it was computed on aarch64, this is x86_64" in elsewhere.detail


@pytest.mark.parametrize(
    ("cmd", "sets"),
    [
        ("python train.py", {}),
        ("OMP_NUM_THREADS=1 OTHER=2 python train.py RAYON_NUM_THREADS=3", {"OMP_NUM_THREADS": "1"}),
        ("cd a && env MKL_CBWR='AVX2,STRICT' python train.py; echo", {"MKL_CBWR": "AVX2,STRICT"}),
        ("export OMP_NUM_THREADS=4\npython train.py", {"OMP_NUM_THREADS": "4"}),
        ("export OMP_NUM_THREADS=4\nOMP_NUM_THREADS=$N python train.py", {"OMP_NUM_THREADS": "$N"}),
        ("OMP_NUM_THREADS=2 python 'train.py", {}),  # no shell would run it
    ],
)
def test_the_variables_that_a_command_sets_are_found(cmd, sets):
    assert stage_settings.set_by(cmd) == sets


def test_a_stage_has_what_it_sets_itself_before_what_holds_for_all():
    def stage(name, cmd="python x.py", **params):
        return StageRecord(name, cmd, (), params, ())

    shared = {**RECORDED, "variable.OMP_NUM_THREADS": "8"}
    stages = [
        stage("plain"),
        stage("same", "OMP_NUM_THREADS=8 python x.py"),
        stage("sub dir/dvc.yaml:train@a:b", "OMP_NUM_THREADS=1 NPY_DISABLE_CPU_FEATURES='A B' python x.py"),
        stage("fixed", reproducible=True),
        stage("free", reproducible=False),
    ]
    said = {"plain": {"openmp.threads": "3", "cpu": "avx", "blas.kernel": "Haswell"}}
    facts = computing.parse(computing.text({**shared, **stage_settings.of_stages(stages, shared, said)}))
    assert {key: value for key, value in facts.items() if key.startswith("stage.")} == {
        "stage.plain": "openmp.threads=3",
        "stage.sub dir/dvc.yaml:train@a:b": "variable.NPY_DISABLE_CPU_FEATURES='A B' variable.OMP_NUM_THREADS=1",
        "stage.fixed": "reproducible=true",
    }
    own = stage_settings.of_stage(facts, "sub dir/dvc.yaml:train@a:b")
    assert own == {**shared, "variable.NPY_DISABLE_CPU_FEATURES": "A B", "variable.OMP_NUM_THREADS": "1"}
    assert stage_settings.of_stage(facts, "same") == shared
    elsewhere = {"machine": "x86_64", "cores": "1", "cpu": "sse4_2"}
    assert computing.unavailable(stage_settings.of_stage(facts, "fixed"), elsewhere) == ""
    assert "kernel Haswell" in computing.unavailable(stage_settings.of_stage(facts, "free"), elsewhere)
    assert [stage_settings.fixes_its_own(facts, name) for name in ("fixed", "free", "plain")] == [True, False, False]


def test_what_a_process_says_of_itself_is_read_again_and_nothing_else_is():
    assert stage_settings.parse_settings_tag(stage_settings.settings_tag(RECORDED)) == {
        key: RECORDED[key] for key in RECORDED if key not in ("cpu", "blas.library")
    }
    for tag in (None, "", "{", "[1]", "null"):
        assert stage_settings.parse_settings_tag(tag) == {}
