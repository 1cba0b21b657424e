"""A page that a command writes to the file that `--html` names, or to `build/`."""

from pathlib import Path

from dovetail.errors import UserError

FOLDER = "build"  # where pages go by default, and in the documentation


def write_page(path: Path, html: str) -> None:
    """Write the page, and the folder that it goes to; a new `build` is one that git ignores.

    Raises:
        UserError: when it cannot be written there.
    """
    try:
        if path.parent.name == FOLDER and not path.parent.exists():
            path.parent.mkdir(parents=True)
            (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {path} cannot be written: {error.strerror}", "--html with another path") from error
