"""The files of a new project: those of the reference project, beside the library in a wheel, at its root in a clone."""

import re
import shutil
from pathlib import Path

from dovetail.errors import OutsideError

_WHOLE = ("params.schema.json", ".dvcignore", ".gitignore", "scripts/stage_deps.py")
_STAGES = "src/stages"
_OWN_SCRIPTS = "src/stages/cleaning"  # of the reference project's data sets
_ARTIFACTS = re.compile(r"\n(?:#[^\n]*\n)*artifacts:\n")  # the section, with what is said above it


def copy_to(project: Path) -> None:
    """Write the stages and what goes with them; a project's own dvc.yaml and params.yaml come afterwards.

    Raises:
        OutsideError: when this installation has no template.
    """
    root = _root()
    for name in _WHOLE:
        (project / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(root / name, project / name)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / _STAGES, project / _STAGES, ignore=ignored)
    for script in (project / _OWN_SCRIPTS).glob("*.py"):
        if script.name != "__init__.py":
            script.unlink()


def pipeline() -> str:
    """The text of dvc.yaml's stages, without the models of the reference project."""
    text = (_root() / "dvc.yaml").read_text(encoding="utf-8")
    return _ARTIFACTS.split(text)[0].rstrip() + "\n"


def _root() -> Path:
    here = Path(__file__)
    for root in (here.parents[3], here.parents[2] / "dovetail_template"):  # a clone; what a wheel brings
        if (root / _STAGES).is_dir() and (root / "dvc.yaml").is_file():
            return root
    raise OutsideError(
        "this installation of Dovetail brings no template for new projects",
        "reinstall Dovetail from its wheel or git repository",
    )
