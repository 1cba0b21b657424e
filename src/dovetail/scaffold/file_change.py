"""A file of the project as it is and as it is to be."""

from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file, relative to the root, as it is and as it is to be."""

    path: str
    before: str
    after: str

    def diff(self) -> str:
        """The change as `diff -u` shows it."""
        shown = (text.encode(errors="surrogateescape").decode(errors="replace") for text in (self.before, self.after))
        before, after = (text.splitlines() for text in shown)
        return "\n".join(unified_diff(before, after, f"a/{self.path}", f"b/{self.path}", lineterm=""))

    def write(self, root: Path) -> None:
        """Write the file with the line ends that it has."""
        file = root / self.path
        ends = "\r\n" if file.is_file() and b"\r\n" in file.read_bytes() else "\n"
        with file.open("w", encoding="utf-8", errors="surrogateescape", newline=ends) as written:
            written.write(self.after)


def text_of(file: Path) -> str:
    """The file's text with plain line ends; bytes that are not UTF-8 come back as they were."""
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""
