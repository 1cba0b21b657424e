"""The small tables of a model's results, as artifacts of its run that MLflow shows as tables."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from dovetail.errors import DovetailError
from dovetail.repo.dvc_values import Model
from dovetail.repo.tree import Tree
from dovetail.values import small_table, tag_keys
from dovetail.values.lineage import Lineage
from dovetail.values.small_table import SmallTable

FOLDER = "tables"  # in the run's artifacts
_MOST = 30
_LONGEST = 100  # characters of a name


def result_tables(tree: Tree, model: Model, lineage: Lineage, plots: Mapping[str, Path]) -> dict[str, str]:
    """Metrics by slice, and what of the plots and of `meta: {tables: […]}` is a table, by the path in the run.

    Of a plot that DVC draws as a table of confusion it is that table, of its records none.
    """
    found: dict[str, str] = {}
    for path, table in (*_slices(tree, model, lineage), *_files(tree, model, lineage, plots)):
        if len(found) < _MOST:
            found.setdefault(f"{FOLDER}/{path}.json", table.text)
    return found


def _slices(tree: Tree, model: Model, lineage: Lineage) -> Iterator[tuple[str, SmallTable]]:
    refs = tree.made(tree.declared.metrics, lineage, files=True)
    own = [ref for ref in refs if any(ref.overlaps(path) for path in model.register_deps)] or list(refs)
    for ref in own:
        for name, table in small_table.slices(tree.parsed(ref)):
            yield tag_keys.shown_name(name).replace("/", "_")[:_LONGEST], table


def _files(tree: Tree, model: Model, lineage: Lineage, plots: Mapping[str, Path]) -> Iterator[tuple[str, SmallTable]]:
    for place, file in plots.items():
        inside = sorted(one for one in file.rglob("*") if one.is_file()) if file.is_dir() else [file]
        for one in inside:
            path = PurePosixPath(place, *one.relative_to(file).parts)
            if path.suffix in small_table.SUFFIXES and one.stat().st_size <= small_table.LARGEST:
                yield from _table(path, one.read_bytes(), tree.declared.confusions.get(str(path)))
    for ref in tree.made(frozenset(model.tables), lineage, files=True):
        with suppress(DovetailError):  # its bytes are nowhere
            yield from _table(PurePosixPath(ref.path), tree.read(ref))


def _table(
    path: PurePosixPath, content: bytes, counted: tuple[str, str] | None = None
) -> Iterator[tuple[str, SmallTable]]:
    if len(content) > small_table.LARGEST:
        return
    table = small_table.confusion(content, path.suffix, *counted) if counted else None
    if table := table or small_table.read(content, path.suffix):
        yield str(path.with_suffix("")), table
