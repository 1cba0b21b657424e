"""Where the prediction log of a model is: a folder, or one in a bucket of S3; one setting says so to all commands."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dovetail.errors import UserError

FOLDER = "monitoring"  # below the root
ENV_LOG = "DOVETAIL_LOG"  # a folder, or s3://BUCKET/FOLDER; each model has its own below it
_S3 = "s3://"


@dataclass(frozen=True, slots=True)
class S3Folder:
    """A folder in a bucket: `s3://bucket/a/folder`, as people write it."""

    address: str

    def __truediv__(self, name: str) -> "S3Folder":
        return S3Folder(f"{self.address}/{name}")

    def __str__(self) -> str:
        return self.address

    @property
    def url(self) -> str:
        """The address as a URL: a space, an umlaut or a `#` in a name are escaped."""
        return _S3 + quote(self.address.removeprefix(_S3))


Place = Path | S3Folder


def log_folder(root: Path, model: str) -> Place:
    """Where the model's prediction log is: below what DOVETAIL_LOG says, else in `monitoring/` at the root.

    Raises:
        UserError: when DOVETAIL_LOG names something else than a folder or a bucket of S3.
    """
    given = os.environ.get(ENV_LOG, "").strip()
    if not given:
        return root / FOLDER / model
    if "://" not in given:
        return Path(given).expanduser().absolute() / model
    bucket = given.removeprefix(_S3).strip("/")
    if not given.startswith(_S3) or not bucket:
        raise UserError(
            f"{ENV_LOG} is {given!r}: no folder, and no bucket of S3", f"export {ENV_LOG}=s3://BUCKET/FOLDER"
        )
    return S3Folder(_S3 + bucket) / model
