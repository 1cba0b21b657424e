"""The documentation site: `make docs`. Its pages are the Markdown files that git's pages show, too."""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())

project = "Dovetail"
author = "the authors of Dovetail"
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
html_theme = "furo"  # system fonts, light and dark, readable on a phone, no script from the network
html_title = "Dovetail"
html_show_sourcelink = False
html_show_copyright = False  # there would be no name behind the sign
html_copy_source = False
html_static_path: list[str] = []
exclude_patterns = ["reference/texts.yaml"]
copybutton_exclude = ".linenos, .gp"

# Pages at the root of the repository that are read on the site, too.
_GUESTS = {
    "SECURITY.md": "security",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "README.md": "index",
}


def _in_site(app: Any, name: str, source: list[str]) -> None:  # noqa: ARG001  (Sphinx's signature)
    """Links that leave docs/ go to the guest's page, or become the path that they name."""

    def link(found: re.Match[str]) -> str:
        text, target = found.groups()
        if target.startswith(("http", "#", "mailto:")):
            return found[0]
        path, hash_, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(name), path))
        if place in _GUESTS:
            page = posixpath.relpath(_GUESTS[place], posixpath.dirname(name) or ".")
            return f"[{text}]({page}.md{hash_}{anchor})"
        if not place.startswith("docs/"):
            return f"{text} (`{place}`)" if text.strip("`") != place else text
        if (ROOT / place).is_dir():
            return text
        return found[0]

    source[0] = re.sub(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", link, source[0])
    source[0] = source[0].replace("```mermaid", "```text")  # git's pages draw it; here it would need a script


def _guests(app: Any) -> None:
    """Bring the guests into the source folder for the build."""
    for place, page in _GUESTS.items():
        if page != "index":
            text = (ROOT / place).read_text(encoding="utf-8")
            (Path(app.srcdir) / f"{page}.md").write_text(re.sub(r"\]\(docs/", "](", text), encoding="utf-8")


def setup(app: Any) -> None:
    """Sphinx's entry point."""
    app.connect("builder-inited", _guests)
    app.connect("source-read", _in_site)
