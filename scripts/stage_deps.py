"""Write which files of src/stages each stage imports into dvc.yaml, among its deps: `python scripts/stage_deps.py`.

A file beside src/stages/__main__.py is a dep itself; of a folder there the whole folder is, so that a new file in it
needs no line. Imports are followed as the sources state them, those within functions, too.
"""

import ast
import re
import sys
from pathlib import Path

_STAGES = "src/stages"
_STAGE = re.compile(r"^  (\w+):\n(?:    .*\n|\n)+", re.MULTILINE)  # a block of dvc.yaml's section `stages`
_DEPS = re.compile(rf"(?:^ +- {_STAGES}/.*\n)+", re.MULTILINE)  # its lines that this script writes


def imported(stages: Path, name: str) -> set[Path]:
    """The files below `stages` that its module `name` imports, directly or not, itself included."""
    found: set[Path] = set()
    todo = [name]
    while todo:
        place = stages / todo.pop().replace(".", "/")
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file in found or not file.is_file():  # a name within a module that is itself among those to look at
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "stages":
                module = (node.module or "").removeprefix("stages").lstrip(".")
                todo += [module, *(f"{module}.{alias.name}".lstrip(".") for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [a.name.removeprefix("stages.") for a in node.names if a.name.startswith("stages.")]
    return found - {stages / "__init__.py"}


def deps(stages: Path, stage: str) -> list[str]:
    """The deps of a stage below `stages`, as dvc.yaml names them."""
    files = imported(stages, "__main__") | imported(stages, stage)
    return sorted({f"{_STAGES}/{file.relative_to(stages).parts[0]}" for file in files})


def written(text: str, stages: Path) -> str:
    """The text of a dvc.yaml with the deps as the sources have them; its other lines and comments stay."""

    def stage(block: re.Match[str]) -> str:
        def lines(old: re.Match[str]) -> str:
            dash = old[0][: old[0].index("-")]
            return "".join(f"{dash}- {dep}\n" for dep in deps(stages, block[1]))

        return _DEPS.sub(lines, block[0], count=1)

    return _STAGE.sub(stage, text)


def main() -> int:
    """Write dvc.yaml anew where it differs."""
    pipeline = Path("dvc.yaml")
    if not pipeline.is_file() or not Path(_STAGES).is_dir():
        print(f"{pipeline} or {_STAGES} is missing; run from the repository's root", file=sys.stderr)
        return 2
    old = pipeline.read_text(encoding="utf-8")
    new = written(old, Path(_STAGES))
    if new != old:
        pipeline.write_text(new, encoding="utf-8")
        print("dvc.yaml: deps on src/stages as the sources import them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
