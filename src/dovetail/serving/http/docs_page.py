"""The server's description for people: one page that needs nothing from elsewhere, whose commands paste and run."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from dovetail.serving.protocol.body import CSV, JSON
from dovetail.serving.protocol.json_body import FORMS

_HOST = re.compile(r"[\w.-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  (where a server listens is no address to ask)
_BEARER = '-H "authorization: Bearer $TOKEN"'
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --wash: #8881; --accent: light-dark(#2563a8, #6cb0f5); }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: clamp(1.4rem, 5vw, 2rem); line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 2.2rem 0 .2rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h2 b { color: var(--accent); } p { margin: .3rem 0; } a { color: var(--accent); }
code, pre { font: 14px/1.5 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { padding: .75rem .9rem; overflow-x: auto; border-radius: 8px; background: var(--wash);
  border: 1px solid var(--line); user-select: all; white-space: pre; overflow-wrap: normal; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td:first-child { width: 10rem; } details { margin-top: .6rem; } summary { cursor: pointer; opacity: .75; }
"""


def address(scope: Mapping[str, Any], host: str, port: int) -> str:
    """Where the server was asked, as far as that is an address; else where it listens."""
    asked = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    named = asked if _HOST.fullmatch(asked) else f"{_ANYWHERE.get(host, host)}:{port}"
    return f"{scope.get('scheme', 'http')}://{named}"


def page(described: dict[str, Any], at: str) -> str:
    """The page of an OpenAPI document; `at` is the server's address."""
    title, version = escape(described["info"]["title"]), escape(described["info"]["version"])
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>",
        f"<p>Version {version} answers now. <a href=openapi.json>openapi.json</a> says the same to programs.</p>",
    ]
    if described["components"]["securitySchemes"]:
        parts.append("<p>The commands take one of the server's tokens from the shell: <code>TOKEN=…</code></p>")
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            named = f"<b>{method.upper()}</b> <code>{escape(path)}</code>"
            parts.append(f"<h2>{named}</h2><p>{escape(about['summary'])}</p>")
            for told, command in _commands(described, path, at):
                parts.append(f"{f'<p>{escape(told)}</p>' if told else ''}<pre>{escape(command)}</pre>")
            if path == "/invocations":
                parts.append(_columns(about))
            answers = "".join(
                f"<tr><td>{status}<td>{escape(said['description'])}" for status, said in about["responses"].items()
            )
            parts.append(f"<details><summary>Answers</summary><table>{answers}</table></details>")
    return "\n".join(parts)


def index(models: Sequence[str]) -> str:
    """The page of a server of several models: where each describes itself."""
    links = "".join(
        f"<li><a href='models/{quote(name)}/docs'>{escape(name)}</a>: "
        f"<code>POST /models/{escape(quote(name))}/invocations</code>"
        for name in models
    )
    head = "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    return f"{head}<title>Models</title><style>{_STYLE}</style><h1>Models, served by Dovetail</h1><ul>{links}</ul>"


def _commands(described: dict[str, Any], path: str, at: str) -> Iterator[tuple[str, str]]:
    """What to type, with what it is; each runs as it stands."""
    about = next(iter(described["paths"][path].values()))
    token = f" {_BEARER}" if about.get("security") else ""
    content = described["paths"]["/invocations"]["post"]["requestBody"]["content"]
    example = content[JSON].get("example")
    url = shlex.quote(f"{at}{path}")
    if "requestBody" not in about:
        yield "", f"curl{token} {url}"
    elif example and path == "/invocations":
        yield "The model's own input example, as JSON:", _post(url, token, JSON, _text(example))
        if text := content[CSV].get("example"):
            yield "As CSV:", _post(url, token, CSV, text)
    elif path == "/invocations":
        told = "The version says nothing of what it takes. A table rows.csv, with the columns' names in its first line:"
        yield told, f"curl{token} -H 'content-type: {CSV}' {url} --data-binary @rows.csv"
    elif example and path == "/feedback":
        asked = shlex.quote(f"{at}/invocations")
        first = _post(f"-s -o /dev/null -D - {asked}", token, JSON, _text(example))
        labels = ", ".join(["null"] * _rows(example))
        body = '"{\\"request_id\\": \\"$id\\", \\"labels\\": [' + labels + ']}"'
        asking = f"id=$({first} | tr -d '\\r' | sed -n 's/^x-request-id: //p')"
        telling = f"curl{token} -H 'content-type: {JSON}' {url} --data-binary {body}"
        told = "The header X-Request-Id names the request; null is a label that is not known yet:"
        yield told, f"{asking}\n{telling}"


def _post(url: str, token: str, kind: str, body: str) -> str:
    return f"curl{token} -H 'content-type: {kind}' {url} --data-binary {shlex.quote(body)}"


def _text(example: Any) -> str:
    return json.dumps(example, ensure_ascii=False).replace("], [", "],\n  [")


def _rows(example: Any) -> int:
    form: Any = next((example[form] for form in FORMS if form in example), [])
    if isinstance(form, list):
        return len(form)
    columns = [form["data"]] if "data" in form else [values for values in form.values() if isinstance(values, list)]
    return max(map(len, columns), default=1)


def _columns(about: dict[str, Any]) -> str:
    forms = about["requestBody"]["content"][JSON]["schema"]["oneOf"]
    columns = forms[1]["properties"]["dataframe_records"]["items"].get("properties", {})
    rows = "".join(f"<tr><td><code>{escape(name)}</code><td>{_kind(value)}" for name, value in columns.items())
    return f"<p>Columns:</p><table>{rows}</table><p>As JSON ({', '.join(FORMS)}), CSV or Parquet.</p>" if rows else ""


def _kind(value: dict[str, Any]) -> str:
    return " or ".join(each["type"] for each in value.get("anyOf", [value]))
