"""What was found out once about bytes that do not change, kept in DVC's temporary folder, which git ignores."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_MOST = 1000  # entries; the oldest go


class ValueCache:
    """Answers by key, in one file of a repository; where that cannot be read there are none."""

    def __init__(self, root: Path, name: str) -> None:
        self._file = root / ".dvc" / "tmp" / f"dovetail-{name}.json"

    def all(self) -> Mapping[str, Any]:
        """Every answer, the oldest first."""
        try:
            known = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def add(self, key: str, answer: Any) -> None:
        """Keep an answer in mind; where nothing can be written, it is not."""
        kept = {known: value for known, value in self.all().items() if known != key}
        written = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(json.dumps(dict([*list(kept.items())[1 - _MOST :], (key, answer)])))
            written.replace(self._file)
        except OSError:
            with suppress(OSError):
                written.unlink(missing_ok=True)
