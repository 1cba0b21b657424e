"""Public DVC repositories in miniature: the shape of their dvc.yaml, adopted by `dovetail init --yes`, or refused.

Of each only the stages, paths and declarations are kept, shortened; what its scripts do is one script that writes each
out by its name. The address of each is https://github.com/ and the name of its case.
"""

import pytest
import yaml
from project import Project

import dovetail
from dovetail.errors import UserError

pytestmark = pytest.mark.slow

STAGE = """
import json, pathlib, pickle, sys, zipfile
import joblib
from sklearn.dummy import DummyRegressor
from sklearn.preprocessing import LabelEncoder, StandardScaler
def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith((".json", ".yaml")):
        path.write_text(json.dumps({"accuracy": 0.75}))
    elif path.suffix in (".keras", ".h5"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("config.json"), "{}")
            archive.writestr(zipfile.ZipInfo("model.weights.h5"), "weights")
    elif path.suffix == ".pth":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("model/data.pkl"), "weights")
    elif path.suffix in (".pkl", ".joblib"):
        if "encoder" in path.name or "preproc" in path.name:
            thing = LabelEncoder().fit(["a", "b"])
        elif path.name[:2] in ("X_", "y_"):
            thing = [[1.0], [2.0]]
        else:
            thing = DummyRegressor().fit([[0.0], [1.0]], [1.0, len(path.as_posix())])
        joblib.dump(thing, path)
    elif not path.suffix:
        write(path / "part.csv")
    else:
        path.write_text("a,b\\n1,2\\n")
for out in sys.argv[1:]:
    write(pathlib.Path(out))
"""


def stage(outs, deps=(), reports=(), **more):
    """A stage that writes its outs and its uncached metrics."""
    written = [*outs, *reports]
    declared = {"cmd": f"python stage.py {' '.join(written)}", "deps": ["stage.py", *deps], **more}
    declared |= {"outs": list(outs)} if outs else {}
    return declared | ({"metrics": [{report: {"cache": False}} for report in reports]} if reports else {})


ADOPTED = {
    # An artifact is declared already, and one that is no model.
    "iterative/example-get-started": (
        {
            "dvc.yaml": {
                "artifacts": {
                    "stackoverflow-dataset": {"path": "data/data.xml", "type": "dataset"},
                    "text-classification": {"path": "model.pkl", "type": "model", "labels": ["nlp"]},
                },
                "stages": {
                    "featurize": stage(["data/features"], params=["featurize.ngrams"]),
                    "train": stage(["model.pkl"], ["data/features"], params=["train.seed"]),
                },
            },
            "params.yaml": {"featurize": {"ngrams": 2}, "train": {"seed": 1}},
        },
        ("text-classification", "model.pkl", ["model.pkl"]),
    ),
    # Metrics and plots at the top of dvc.yaml, in folders as outs; weights beside the model; an archive made of them.
    "iterative/example-get-started-experiments": (
        {
            "dvc.yaml": {
                "metrics": ["results/train/metrics.json"],
                "stages": {
                    "train": {
                        "cmd": "python stage.py models/model.pkl models/model.pth results/train/metrics.json",
                        "deps": ["stage.py"],
                        "outs": ["models/model.pkl", "models/model.pth", "results/train"],
                    },
                    "sagemaker": {
                        "cmd": "tar -cf model.tar.gz models/model.pth",
                        "deps": ["models/model.pth"],
                        "outs": ["model.tar.gz"],
                    },
                },
            },
        },
        ("example-get-started-experiments", "models/model.pkl", ["models/model.pkl", "results/train/metrics.json"]),
    ),
    # Paths from params.yaml; tables that are pickles, too; a stage that always runs.
    "iterative/demo-bank-customer-churn": (
        {
            "dvc.yaml": {
                "stages": {
                    "check_packages": stage(["${base.pkg_list_fname}"], always_changed=True),
                    "data_split": stage(["data/X_train.pkl", "data/y_train.pkl"], ["${base.pkg_list_fname}"]),
                    "train": stage(["${train.models_dir}/${train.model_fname}"], ["data/X_train.pkl"]),
                }
            },
            "params.yaml": {
                "base": {"pkg_list_fname": "pkg.txt"},
                "train": {"models_dir": "models", "model_fname": "clf.joblib"},
            },
        },
        ("demo-bank-customer-churn", "models/clf.joblib", ["models/clf.joblib"]),
    ),
    # Transformers beside the model; a folder of results.
    "1Khizar/Credit-Risk-Model-Building": (
        {
            "dvc.yaml": {
                "stages": {
                    "data_transformation": stage(["src/models/preprocessor.pkl", "src/models/label_encoder.pkl"]),
                    "model_training": stage(["src/models/model.pkl"], ["src/models/preprocessor.pkl"]),
                    "model_evaluation": stage(["src/Results"], ["src/models/model.pkl"]),
                }
            }
        },
        ("Credit-Risk-Model-Building", "src/models/model.pkl", ["src/models/model.pkl"]),
    ),
    # Folders as outs, written with ./ and a slash behind, one with a transformer in it; deps inside of them.
    "11Alexei11/car-prices": (
        {
            "dvc.yaml": {
                "stages": {
                    "preprocess": {
                        "cmd": "python stage.py data/stages/preprocess/string_encoders.pkl",
                        "deps": ["./stage.py"],
                        "outs": ["./data/stages/preprocess/"],
                    },
                    "train": stage(
                        ["data/stages/train/model.pkl"],
                        ["data/stages/preprocess/string_encoders.pkl"],
                        params=[{"configs/pipeline-config.yml": ["train.train_share"]}],
                    ),
                },
                "metrics": ["data/stages/evaluate/metrics.json"],
            },
            "configs/pipeline-config.yml": {"train": {"train_share": 0.8}},
        },
        ("car-prices", "data/stages/train/model.pkl", ["data/stages/train/model.pkl"]),
    ),
    # Pipelines in folders, each with a dvc.yaml and params; stages that run at the root; no dvc.yaml there.
    "Kiennguyen08/income_pipeline_tpbank": (
        {
            "pipelines/train/dvc.yaml": {
                "vars": [{"PIPELINE_DIR": "pipelines/train"}],
                "stages": {
                    "train": stage(["${train.model_path}"], reports=["reports/train/metrics.json"], wdir="../.."),
                },
            },
            "pipelines/train/params.yaml": {"train": {"model_path": "models/model.joblib"}},
            "pipelines/predict/dvc.yaml": {
                "stages": {"predict": stage(["predictions.csv"], ["models/model.joblib"], wdir="../..")}
            },
        },
        (
            "income_pipeline_tpbank",
            "models/model.joblib",
            ["../../models/model.joblib", "../../reports/train/metrics.json"],
        ),
    ),
    # One stage whose data are by `dvc add`.
    "2024aa05042/mlops-assignment-1": (
        {"dvc.yaml": {"stages": {"train": stage(["models/pipeline_prod.joblib"], ["data/raw/heart.csv"])}}},
        ("pipeline_prod", "models/pipeline_prod.joblib", ["models/pipeline_prod.joblib"]),
    ),
}

REFUSED = {
    # Keras: the model, and a folder with another.
    "13-suraj/Chicken-Disease-Classification-CNN": (
        {
            "dvc.yaml": {
                "stages": {
                    "prepare_base_model": {
                        "cmd": "python stage.py artifacts/prepare_base_model/base_model.h5",
                        "deps": ["stage.py"],
                        "outs": ["artifacts/prepare_base_model"],
                    },
                    "training": stage(["artifacts/training/model.keras"], ["artifacts/prepare_base_model"]),
                }
            }
        },
        "artifacts/training/model.keras: it is a Keras model",
    ),
    # Text only, uncached: no model at all.
    "0Xuser100/egyptian-civil-code-rag": (
        {"dvc.yaml": {"stages": {"extract_corpus": stage([], reports=["data/processed/code.json"])}}},
        "no output of a stage looks like a model",
    ),
    # The model is a dep of a stage and no stage's out.
    "iterative/magnetic-tiles-defect": (
        {"dvc.yaml": {"stages": {"evaluate": stage([], reports=["metrics.json"], deps=["models/fastai.pkl"])}}},
        "no output of a stage looks like a model",
    ),
    # A model for each item of a foreach: which one is to be shown, only its owner can say.
    "a foreach over models": (
        {
            "dvc.yaml": {
                "stages": {"train": {"foreach": "${models}", "do": stage(["models/${item}/model.pkl"])}},
            },
            "params.yaml": {"models": ["forest", "linear"]},
        },
        "several files may be models: models/forest/model.pkl, models/linear/model.pkl",
    ),
}


def made(folder, files):
    """The repository, its stages run, all of it committed."""
    project = Project(folder)
    project.root.mkdir()
    project.run("git", "init", "-q")
    project.run("dvc", "init", "-q")
    project.write("stage.py", STAGE)
    project.write("models/fastai.pkl", "")
    for path, content in files.items():
        project.write(path, yaml.safe_dump(content, sort_keys=False))
    if "data/raw/heart.csv" in str(files):
        project.write("data/raw/heart.csv", "a,b\n1,2\n")
        project.run("dvc", "add", "-q", "data/raw/heart.csv")
    project.run("dvc", "repro", "-q", "-R", ".")
    with (project.root / ".gitignore").open("a") as ignore:
        ignore.write("/.venv")  # without a newline, as three of ten have it
    project.commit("as people have it")
    return project


def registers(project, dvc_yaml):
    """The register stage of a dvc.yaml."""
    stages = yaml.safe_load((project.root / dvc_yaml).read_text())["stages"]
    return stages["register"]


@pytest.mark.parametrize("repository", ADOPTED)
def test_a_public_repository_is_adopted_by_init_alone(tmp_path, repository):
    files, (name, path, deps) = ADOPTED[repository]
    project = made(tmp_path / repository.rpartition("/")[2], files)
    answer = project.json("init", "--yes")
    assert (answer["model"], answer["path"]) == (name, path)
    dvc_yaml = next(iter(files))
    assert {change["path"] for change in answer["changes"]} == {dvc_yaml, ".gitignore"}
    assert registers(project, dvc_yaml)["deps"] == deps
    assert (project.root / ".gitignore").read_text().endswith("/.venv\n/mlflow.db*\n/mlruns/\n")
    project.run("dvc", "repro", "-q", "-R", ".")
    project.commit("adopted")
    assert project.store().aliases() == {name: {"staging": 1}}
    repo = dovetail.open(project.root)
    assert repo.doctor().problems == ()
    assert repo.init().changes == ()


@pytest.mark.parametrize("repository", REFUSED)
def test_what_cannot_be_adopted_is_refused_with_its_reason_and_nothing_is_written(tmp_path, repository):
    files, reason = REFUSED[repository]
    project = made(tmp_path / "repo", files)
    with pytest.raises(UserError) as refused:
        dovetail.open(project.root).init(yes=True)
    assert reason in refused.value.message
    assert refused.value.next_command
    assert project.run("git", "status", "--porcelain").stdout == ""
