"""The digest that DVC gives a folder: that of the listing of its files, with `.dir` behind it."""

import hashlib
import json
from collections.abc import Iterable

SUFFIX = ".dir"


def folder_md5(files: Iterable[tuple[str, str]]) -> str:
    """The digest of a folder with these files: the path in it and the md5 of each."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + SUFFIX
