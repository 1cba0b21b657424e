"""Steps end in any order; what they add to dvc.lock and .gitignore stands in that of the plan, as DVC writes it."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from dovetail.repo.dag_step import Step
from dovetail.repo.unfinished import Unfinished, still_there, text_of


class PlanOrder:
    """The files that the steps of a plan add lines to."""

    def __init__(self, steps: Sequence[Step], note: Unfinished) -> None:
        """`note` is of the files before the first step, of those runs too that were killed; what it lacks is added."""
        self._steps = steps
        self._note = note
        for file in (str(file) for step in steps for file in step.ignores):
            text = text_of(Path(file))
            if not text.startswith(note.ignored.setdefault(file, text)):
                note.ignored[file] = text
        for path, stage in {step.stage.path: step.stage for step in steps if step.name}.items():
            now = list(stage.dvcfile.lockfile_contents.get("stages") or {})
            note.recorded[path] = still_there(note.recorded.get(path, now), now)

    @property
    def locks(self) -> list[Path]:
        """The files in which the steps are recorded."""
        return [Path(path).with_suffix(".lock") for path in self._note.recorded]

    def order_ignored(self, files: Iterable[Path] | None = None) -> None:
        """Let the lines that are new in .gitignore, these or all, stand in the order of the plan."""
        for file in map(Path, self._note.ignored) if files is None else files:
            now, before = text_of(file), self._note.ignored[str(file)]
            new = now.removeprefix(before).splitlines(keepends=True)
            ordered = sorted(new, key=lambda line: self._places.get(str(file.parent) + line.strip(), -1))
            if now.startswith(before) and ordered != new:
                file.write_text(before + "".join(ordered), encoding="utf-8")

    @cached_property
    def _places(self) -> dict[str, int]:
        outs = (out.fspath for step in self._steps for out in step.stage.outs)
        return {path: place for place, path in enumerate(outs)}

    def order_lock(self) -> None:
        """Let the entries that are new in dvc.lock stand in the order of the plan, whoever was first."""
        from dvc.utils.serialize import load_yaml, modify_yaml

        for path, before in self._note.recorded.items():
            lock = Path(path).with_suffix(".lock")
            if not lock.is_file():
                continue
            now = list(load_yaml(str(lock)).get("stages") or {})
            planned = [step.name for step in self._steps if step.stage.path == path]
            others = [name for name in now if name not in set(planned)]  # of a run with other targets that was killed
            ordered = [name for name in dict.fromkeys([*before, *others, *planned]) if name in set(now)]
            if ordered != now:
                with modify_yaml(str(lock)) as content:
                    entries = dict(content["stages"])
                    content["stages"].clear()
                    content["stages"].update((name, entries[name]) for name in ordered)
