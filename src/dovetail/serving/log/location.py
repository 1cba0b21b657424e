"""Where the prediction log of a model is."""

from pathlib import Path

FOLDER = "monitoring"  # below the root


def log_folder(root: Path, model: str) -> Path:
    """The folder of a model's prediction log."""
    return root / FOLDER / model
