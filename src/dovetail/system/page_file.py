"""A page that a command writes to the file that `--html` names."""

from pathlib import Path

from dovetail.errors import UserError


def write_page(path: Path, html: str) -> None:
    """Write the page, and the folder that it goes to.

    Raises:
        UserError: when it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {path} cannot be written: {error.strerror}", "--html with another path") from error
