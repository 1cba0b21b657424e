"""Models of commits from before a repository adopted Dovetail: today's entries, where a commit has their paths."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dovetail.repo.dvc_values import Model
from dovetail.values.lineage import FileRef, StageRecord


def adopted_models(
    declared: Mapping[str, Model], today: Iterable[Model], records: Sequence[StageRecord], added: Sequence[FileRef]
) -> dict[str, Model]:
    """Those of `today` that `declared` lacks and whose path a stage made there, or `dvc add` kept, by name.

    Nobody can add an `artifacts:` entry to a commit of before: today's is used, without what was not there then.
    """
    taken = {model.path for model in declared.values()}
    wanted = [model for model in today if model.name not in declared and model.path not in taken]
    return {model.name: _as_of(model, records) for model in wanted if _is_kept(model.path, records, added)}


def _is_kept(path: str, records: Sequence[StageRecord], added: Sequence[FileRef]) -> bool:
    kept = [*(out for record in records for out in record.outs), *added]
    return any(ref.path == path or (ref.is_folder and path.startswith(f"{ref.path}/")) for ref in kept)


def _as_of(model: Model, records: Sequence[StageRecord]) -> Model:
    card = model.card if model.card and any(record.makes(model.card) for record in records) else None
    deps = tuple(path for path in model.register_deps if any(record.makes(path) for record in records))
    return replace(model, card=card, register_deps=deps)
