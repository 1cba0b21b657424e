"""The frame of a self-contained HTML page: its style, light and dark; no script, and nothing from the network."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files

# The browser itself refuses scripts and requests, whatever a name or a picture tries.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def document(title: str, body: str) -> str:
    """The whole page; `title` is plain text, `body` HTML."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{style("page")}{style("answers")}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def style(name: str) -> str:
    """A style sheet of this room."""
    return (files("dovetail.render") / "styles" / f"{name}.css").read_text(encoding="utf-8")


def joined(parts: Iterable[str], between: str = "") -> str:
    """The parts of HTML that are not empty."""
    return between.join(part for part in parts if part)


def chip(text: str, tone: str = "") -> str:
    """A short mark: `tone` is `good`, `bad`, `accent` or none."""
    return f'<span class="chip {tone}">{escape(text)}</span>'
