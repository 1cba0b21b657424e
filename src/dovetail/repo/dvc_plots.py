"""What a dvc.yaml says of plots, at its top and where they are made, as DVC itself reads it."""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dovetail.repo.dvc_files import join

if TYPE_CHECKING:
    from dvc.repo import Repo

_CONFUSION = ("confusion", "confusion_normalized")  # DVC's templates
_Relative = Callable[[str], str]  # a path of DVC's from the repository's root


def top_level(repo: "Repo", relative: _Relative) -> Iterator[str]:
    """The files and folders that the `plots:` at the top of a dvc.yaml draw."""
    from dvc.repo.plots import infer_data_sources

    for folder, name, options in _named(repo, relative):
        yield from (join(folder, str(source)) for source in infer_data_sources(name, options))


def confusions(
    repo: "Repo", outs: Iterable[tuple[Any, str]], relative: _Relative
) -> Iterator[tuple[str, tuple[str, str]]]:
    """The plots that DVC draws as a table of confusion, with the fields that it counts; `outs` with their paths."""
    drawn: list[tuple[str, str, Any]] = [("", path, out.plot) for out, path in outs]
    for folder, name, how in [*drawn, *_named(repo, relative)]:
        if not isinstance(how, Mapping) or how.get("template") not in _CONFUSION:
            continue
        file, x, y = name, how.get("x"), how.get("y")
        if isinstance(y, Mapping) and len(y) == 1:  # of a plot that has a name of its own: file → field
            ((file, y),) = y.items()
            x = x.get(file) if isinstance(x, Mapping) else x
        if isinstance(x, str) and isinstance(y, str):
            yield join(folder, str(file)), (x, y)


def _named(repo: "Repo", relative: _Relative) -> Iterator[tuple[str, str, Any]]:
    """Each entry of the `plots:` at the top of a dvc.yaml: the folder that it stands in, its name, how it is drawn."""
    for dvcfile, plots in repo.index._plots.items():  # noqa: SLF001  (DVC gives it no other way without reading the files)
        folder = posixpath.dirname(relative(dvcfile))
        for entry in plots:
            for name, options in entry.items() if isinstance(entry, Mapping) else ((entry, None),):
                yield folder, name, options
