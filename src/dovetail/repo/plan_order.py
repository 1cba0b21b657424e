"""Steps end in any order; what they add to dvc.lock and .gitignore stands in that of the plan, as DVC writes it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from dovetail.repo.dag_step import Step


class PlanOrder:
    """The files that the steps of a plan add lines to."""

    def __init__(self, steps: Sequence[Step]) -> None:
        """Note what the files say before the first step."""
        self._steps = steps
        self._ignored = {file: _text(file) for step in steps for file in step.ignores}
        self._recorded: dict[str, list[str]] = {}
        for step in steps:
            if step.name and step.stage.path not in self._recorded:
                recorded = step.stage.dvcfile.lockfile_contents.get("stages") or {}
                self._recorded[step.stage.path] = list(recorded)

    def order_ignored(self, step: Step) -> None:
        """Let the lines that are new in .gitignore stand in the order of the plan: steps end in any order."""
        for file in step.ignores:
            now, before = _text(file), self._ignored[file]
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

        for path, before in self._recorded.items():
            lock = Path(path).with_suffix(".lock")
            if not lock.is_file():
                continue
            now = list(load_yaml(str(lock)).get("stages") or {})
            planned = [step.name for step in self._steps if step.stage.path == path]
            ordered = [name for name in dict.fromkeys([*before, *planned, *now]) if name in now]
            if ordered != now:
                with modify_yaml(str(lock)) as content:
                    entries = dict(content["stages"])
                    content["stages"].clear()
                    content["stages"].update((name, entries[name]) for name in ordered)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""
