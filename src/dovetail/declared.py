"""What a dvc.yaml declares of models, metrics and plots, as DVC itself reads it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dovetail.errors import UnknownModel
from dovetail.snapshot import RECEIPTS, Declared, Model

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import Stage

REPORT_SUFFIXES = (".json", ".yaml", ".yml", ".toml", ".csv", ".png", "")  # what lies beside a model, named like it


def declared(repo: "Repo") -> Declared:
    """What DVC's index of the tree that `repo` stands at says."""

    def relative(path: str) -> str:
        return str(repo.fs.as_posix(repo.fs.relpath(path, repo.root_dir)))

    stages = list(repo.index.stages)
    outs = [(out, relative(out.fs_path)) for stage in stages for out in stage.outs]
    return Declared(
        models=_models(repo, _register_stages(stages, relative)),
        metrics=frozenset(path for out, path in outs if out.metric),
        plots=frozenset(path for out, path in outs if out.plot),
    )


def gates_of(pipeline: str, params: str) -> dict[str, Mapping[str, Any]]:
    """The gates of each artifact in the text of a dvc.yaml, with the params of a params.yaml's text in them.

    Empty where they take params from elsewhere (`vars`): then what DVC resolved counts.
    """
    from dvc.exceptions import DvcException
    from dvc.parsing.context import Context

    content, values = yaml.safe_load(pipeline) or {}, yaml.safe_load(params) or {}
    try:
        artifacts = Context(values).resolve(content.get("artifacts") or {})
    except DvcException:
        return {}
    return {name: (artifact.get("meta") or {}).get("gates") or {} for name, artifact in artifacts.items()}


def _register_stages(stages: "list[Stage]", relative: Callable[[str], str]) -> dict[str, Model]:
    """The model of each register stage, by name; such a stage is known by the receipt that it writes."""
    return {
        Path(path).stem: _undeclared(Path(path).stem, stage, relative)
        for stage in stages
        for path in (relative(out.fs_path) for out in stage.outs)
        if path.startswith(f"{RECEIPTS}/")
    }


def _undeclared(name: str, stage: "Stage", relative: Callable[[str], str]) -> Model:
    """What a register stage says of its model: the dep that is named like it, the card beside it, the gates' param."""
    from dvc.dependency import ParamsDependency

    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    files = tuple(relative(dep.fs_path) for dep in stage.deps if dep not in params)
    named = [path for path in files if Path(path).stem == name and Path(path).suffix not in REPORT_SUFFIXES]
    card = str(Path(named[0]).with_suffix(".json")) if named else ""
    values = {key: value for dep in params for key, value in dep.read_params().items()}
    gates = next((value for key, value in values.items() if key.rpartition(".")[2] == "gates"), None)
    return Model(
        name=name,
        path=named[0] if len(named) == 1 else "",
        card=card if card in files else None,
        gates=gates or {},
        beside=files,
    )


def _models(repo: "Repo", register_stages: Mapping[str, Model]) -> dict[str, Model]:
    """The `artifacts` of type model, and what has a register stage without such an entry."""
    found = {}
    for dvcfile, artifacts in repo.artifacts.read().items():
        for name, artifact in artifacts.items():
            if artifact.type == "model" or name in register_stages:
                meta = artifact.meta or {}
                found[name] = Model(
                    name=name,
                    path=(Path(dvcfile).parent / artifact.path).as_posix(),
                    desc=artifact.desc,
                    labels=tuple(artifact.labels),
                    card=meta.get("card"),
                    gates=meta.get("gates") or {},
                    beside=register_stages[name].beside if name in register_stages else (),
                )
    for name, model in register_stages.items():
        if name not in found and not model.path:
            raise UnknownModel(
                f"the register stage of {name!r} does not depend on one file named like it, so its model is not known",
                f"add to dvc.yaml: artifacts: {{{name}: {{path: …, type: model}}}}",
            )
    return {**register_stages, **found}
