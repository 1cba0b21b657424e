"""What a dvc.yaml declares of models, metrics and plots, as DVC itself reads it."""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dovetail.errors import UnknownModel, UserError
from dovetail.repo import dvc_plots
from dovetail.repo.dvc_files import address, join, one_command, param_name
from dovetail.repo.dvc_values import RECEIPTS, Declared, Model, Out, Stage
from dovetail.values.documents import Unreadable, entries, mapping, shared_yaml, text
from dovetail.values.lineage import FileRef, StageRecord
from dovetail.values.registered_name import ALLOWED, can_be_registered, possible, registered_name

if TYPE_CHECKING:
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo
    from dvc.stage import Stage as DvcStage

REPORT_SUFFIXES = (".json", ".yaml", ".yml", ".toml", ".csv", ".png", "")  # what lies beside a model, named like it


def declared(repo: "Repo") -> Declared:
    """What DVC's index of the tree that `repo` stands at says."""

    def relative(path: str) -> str:
        return _relative(repo, path)

    stages = list(repo.index.stages)
    outs = [(out, relative(out.fs_path)) for stage in stages for out in stage.outs]
    addresses = {stage: _address(repo, stage) for stage in stages if stage.cmd}
    return Declared(
        models=_models(repo, _register_stages(stages, relative), relative),
        metrics=frozenset(path for out, path in outs if out.metric) | frozenset(_top_level_metrics(repo)),
        plots=frozenset(path for out, path in outs if out.plot) | frozenset(dvc_plots.top_level(repo, relative)),
        confusions=dict(dvc_plots.confusions(repo, outs, relative)),
        params=frozenset(_top_level_params(repo)),
        outs={path: addresses[out.stage] for out, path in outs if out.stage in addresses},
        stages=frozenset(addresses.values()),
        wdirs={
            name: join("", relative(stage.wdir))
            for stage, name in addresses.items()
            if join("", relative(stage.wdir)) != _folder(relative(stage.path))
        },
    )


def running(repo: "Repo", name: str, folder: Path, hashed: Callable[[str], FileRef]) -> StageRecord | None:
    """The stage that DVC runs as `name` in `folder`, as dvc.lock will record it, without its outs.

    DVC gives the name from where `dvc` was typed, so it is the folder that tells stages of several dvc.yaml apart.
    """
    from dvc.dependency import ParamsDependency

    short = name.rpartition(":")[2]
    for stage in repo.index.stages:
        if stage.cmd and stage.name == short and Path(stage.wdir).resolve() == folder.resolve():
            files = (dep for dep in stage.deps if dep.protocol == "local" and not isinstance(dep, ParamsDependency))
            return StageRecord(
                name=_address(repo, stage),
                cmd=one_command(stage.cmd),
                deps=tuple(hashed(join(_relative(repo, stage.wdir), dep.def_path)) for dep in files),
                params=_params(repo, stage),
                outs=(),
            )
    return None


def _relative(repo: "Repo", path: str) -> str:
    """A path, as DVC gives it, from the repository's root."""
    return str(repo.fs.as_posix(repo.fs.relpath(path, repo.root_dir)))


def _folder(path: str) -> str:
    return join("", posixpath.dirname(path))


def _top_level_metrics(repo: "Repo") -> Iterator[str]:
    """`metrics:` at the top of a dvc.yaml: files, which need not be an out of any stage."""
    from dvc.repo.metrics.show import _collect_top_level_metrics

    return (join("", str(repo.fs.as_posix(path))) for path in _collect_top_level_metrics(repo))


def _top_level_params(repo: "Repo") -> Iterator[str]:
    """`params:` at the top of a dvc.yaml: files that DVC shows beside those that stages depend on."""
    from dvc.repo.params.show import _collect_top_level_params

    return (join("", str(repo.fs.as_posix(path))) for path in _collect_top_level_params(repo))


def stages(repo: "Repo") -> list[Stage]:
    """Every stage and .dvc file of the working tree."""
    return [_stage(repo, stage) for stage in repo.index.stages]


def _stage(repo: "Repo", stage: "DvcStage") -> Stage:
    # A file of `dvc import` is its own repository's to keep.
    foreign = stage.is_repo_import
    # DVC runs each line of a text, and each entry of a list, in a shell of its own.
    commands = stage.cmd if isinstance(stage.cmd, list) else (stage.cmd or "").splitlines()
    return Stage(
        name=stage.addressing,
        address=_address(repo, stage),
        commands=tuple(commands),
        folder=_relative(repo, stage.wdir),
        frozen=bool(stage.frozen),
        deps=tuple(_relative(repo, dep.fs_path) for dep in stage.deps if dep.is_in_repo),
        outs=tuple(
            Out(
                _relative(repo, out.fs_path),
                out.hash_info.value,
                out.meta.size if out.meta else None,
                bool(out.use_cache and not foreign),
            )
            for out in stage.outs
            if out.is_in_repo
        ),
    )


def _address(repo: "Repo", stage: "DvcStage") -> str:
    """The name of a stage in the whole repository; that of a .dvc file is its path."""
    file = _relative(repo, stage.path)
    return address(_folder(file), stage.name) if stage.cmd else file


def params(repo: "Repo", stage: Stage) -> dict[str, Any]:
    """The values of the stage's params as they are in the params files now."""
    return next((_params(repo, found) for found in repo.index.stages if _address(repo, found) == stage.address), {})


def _params(repo: "Repo", stage: "DvcStage") -> dict[str, Any]:
    from dvc.dependency import ParamsDependency

    wdir = _relative(repo, stage.wdir)
    return {
        param_name(join(wdir, dep.def_path), key): value
        for dep in stage.deps
        if isinstance(dep, ParamsDependency)
        for key, value in dep.read_params().items()
    }


def artifacts_of(pipeline: bytes, params: bytes) -> dict[str, Mapping[str, Any]] | None:
    """The artifacts of a dvc.yaml, by DVC's names, with the params of a params.yaml in them.

    None where they take params from elsewhere (`vars`): then what DVC resolved counts.

    Raises:
        Unreadable: when one of the two is not what it has to be.
    """
    from dvc.exceptions import DvcException
    from dvc.parsing.context import Context

    content, values = mapping(shared_yaml(pipeline), "the whole"), mapping(shared_yaml(params), "the whole")
    artifacts = mapping(content.get("artifacts"), "artifacts")
    try:
        resolved = Context(dict(values)).resolve(dict(artifacts))
    except DvcException:
        return None
    return {name: mapping(artifact, f"artifacts.{name}") for name, artifact in resolved.items()}


def gates_of(artifacts: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The gates of each model that resolved artifacts declare, by its name in the registry."""
    metas = {name: _meta("dvc.yaml", name, artifact.get("meta")) for name, artifact in artifacts.items()}
    return {registered_name(name): meta["gates"] for name, meta in metas.items()}


def _register_stages(stages: "list[DvcStage]", relative: Callable[[str], str]) -> "dict[str, DvcStage]":
    """The register stages by their models' names; such a stage is known by the receipt that it writes."""
    return {name: stage for stage in stages for name in registered_by(relative(out.fs_path) for out in stage.outs)}


def registered_by(outs: Iterable[str]) -> list[str]:
    """The models whose receipts are among these outs."""
    receipts = (path.removeprefix(f"{RECEIPTS}/") for path in outs if path.startswith(f"{RECEIPTS}/"))
    return [registered_name(path.rpartition(".")[0]) for path in receipts]


def _undeclared(name: str, stage: "DvcStage", relative: Callable[[str], str]) -> Model:
    """What a register stage says of its model: the dep that is named like it, the card beside it, the gates' param."""
    files, params = _deps(stage, relative)
    named = [path for path in files if Path(path).stem == name and Path(path).suffix not in REPORT_SUFFIXES]
    card = str(Path(named[0]).with_suffix(".json")) if named else ""
    values = {key: value for dep in params for key, value in dep.read_params().items()}
    gates = next((value for key, value in values.items() if key.rpartition(".")[2] == "gates"), None)
    return Model(
        name=name,
        path=named[0] if len(named) == 1 else "",
        card=card if card in files else None,
        gates=_meta("params.yaml", name, {"gates": gates})["gates"],
        register_deps=files,
    )


def _deps(stage: "DvcStage", relative: Callable[[str], str]) -> "tuple[tuple[str, ...], list[ParamsDependency]]":
    """The files that a stage depends on, and its params."""
    from dvc.dependency import ParamsDependency

    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return tuple(relative(dep.fs_path) for dep in stage.deps if dep not in params), params


def declared_artifacts(repo: "Repo") -> dict[str, dict[str, Any]]:
    """What `repo.artifacts.read()` says, without its import of all of GTO, a fifth of a second, to warn of names."""
    from dvc.annotations import Artifact

    sections = repo.index._artifacts.items()  # noqa: SLF001  (as `read` does; tests/test_command_line.py compares the two)
    return {
        repo.fs.relpath(file, repo.root_dir): {name: Artifact(**value) for name, value in section.items()}
        for file, section in sections
    }


def _models(
    repo: "Repo", register_stages: "Mapping[str, DvcStage]", relative: Callable[[str], str]
) -> dict[str, Model]:
    """The `artifacts` of type model, and what has a register stage alone, whose params are read."""
    found: dict[str, Model] = {}
    files: dict[str, str] = {}
    for dvcfile, artifacts in declared_artifacts(repo).items():
        for artifact_name, artifact in artifacts.items():
            name = registered_name(artifact_name)
            if artifact.type == "model" or name in register_stages:
                _check_name(artifact_name, dvcfile)
                if name in found:
                    _refuse_second((found[name].declared_name, files[name]), (artifact_name, dvcfile))
                files[name] = dvcfile
                meta = _meta(dvcfile, artifact_name, artifact.meta)
                found[name] = Model(
                    name=name,
                    path=join(posixpath.dirname(dvcfile), artifact.path),
                    folder=posixpath.dirname(dvcfile),
                    desc=artifact.desc,
                    labels=tuple(artifact.labels),
                    card=join(posixpath.dirname(dvcfile), meta["card"]) if meta.get("card") else None,
                    gates=meta["gates"],
                    tables=tuple(join(posixpath.dirname(dvcfile), path) for path in meta["tables"]),
                    retrain=meta.get("retrain") or {},
                    serving=meta.get("serving") or {},
                    register_deps=_deps(register_stages[name], relative)[0] if name in register_stages else (),
                    artifact=artifact_name if artifact_name != name else "",
                )
    registered: dict[str, Model] = {}
    for name, stage in register_stages.items():
        _check_name(name, "dvc.yaml")
        registered[name] = found.get(name) or _undeclared(name, stage, relative)
        if not registered[name].path and name not in found:
            raise UnknownModel(
                f"the register stage of {name!r} does not depend on one file named like it, so its model is not known",
                f"add to dvc.yaml: artifacts: {{{name}: {{path: …, type: model}}}}",
            )
    return {**registered, **found}


def _meta(dvcfile: str, name: str, value: Any) -> dict[str, Any]:
    """What stands under `meta` of an artifact, `gates`, `card` and `tables` of the kind that they have to be."""
    place = f"artifacts.{name}.meta"
    try:
        meta = dict(mapping(value, place))
        if meta.get("card"):
            text(meta["card"], f"{place}.card")
        tables = [text(path, f"{place}.tables") for path in entries(meta.get("tables"), f"{place}.tables")]
        return meta | {"gates": mapping(meta.get("gates"), f"{place}.gates"), "tables": tables}
    except Unreadable as error:
        raise UserError(f"{dvcfile} cannot be read: {error}", "correct it, then: dvc status") from error


def _check_name(name: str, file: str) -> None:
    """DVC reads any text as a name, and tags, references and MLflow's registry take fewer."""
    if not can_be_registered(name):
        raise UserError(
            f"{file} declares a model {name!r}, which is not a valid model name: {ALLOWED}",
            f"rename it under artifacts: {possible(name)}",
        )


def _refuse_second(one: tuple[str, str], other: tuple[str, str]) -> None:
    """MLflow's registry has one namespace."""
    (name, file), (second, second_file) = one, other
    if name != second:
        raise UserError(
            f"{second_file} declares a model {second!r}, which is {name!r} of {file} in MLflow's registry: '.' for '/'",
            f"rename one of them under artifacts: {second.replace('/', '-').replace('.', '-')}",
        )
    files = " and ".join(sorted((file, second_file)))
    raise UserError(
        f"{files} both declare a model {name!r}; MLflow's registry would mix the two",
        "give one of them another name under artifacts:",
    )
