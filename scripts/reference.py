"""The reference in docs/reference, made from the code: commands, answers, tags, gates, params, the Python API.

    python scripts/reference.py                  writes the pages
    python scripts/reference.py --answers FOLDER  before that, records the shape of each JSON answer anew, in the project
                                                 that `dovetail demo --into FOLDER` left there

What the code does not say itself, such as examples, stands in docs/reference/texts.yaml. tests/test_demo.py
holds that the pages are those that this script writes, and runs the examples.
"""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

import dovetail
from dovetail import errors
from dovetail.cli import GROUPS, main
from dovetail.gates import rules
from dovetail.values import readable_tags, tag_keys, tag_layout

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/reference"
SHAPES = FOLDER / "answers.json"
SUBTITLES = {  # of the groups of `dovetail --help`
    "Begin": "a project, an adoption",
    "Look": "no model, tag or registry entry changes",
    "Decide": "what MLflow's registry names",
    "Repair": "what is lost, what is too much",
    "Run": "stages and models",
}
# The answers whose shape is recorded, by what is typed after `dovetail`; in the demo's project, in this order.
ANSWERS = (
    "new ../cider --data ../apples.csv --target sort", "add-data pears --data ../apples.csv", "add-model forest --data apples",
    "init", "list", "show apples/1", "status", "report apples", "register", "lineage apples@production",
    "lineage data/raw/apples.csv", "diff apples/1 HEAD", "promote apples --to shadow", "history apples", "doctor", "sync", "gc",
    "reproduce apples/1", "monitor apples", "predict apples --data data/raw/apples.csv --out build/night", "repro --dry",
    "retrain apples --with ../labelled.csv", "rollback apples --to shadow",
    "demo --into ../again",
)  # fmt: skip
_BEFORE = {  # what is typed before, so that there is something to say
    "rollback apples --to shadow": "dovetail promote apples --version 2 --to shadow --force --reason again",
}
_OPEN = {
    "params",
    "metrics",
    "packages",
    "available",
    "evidence",
    "computing",
    "settings",
    "aliases",
}  # their keys are the project's
_ALSO_HIDDEN = (tag_keys.COMMITTED, tag_keys.CLAIMED, tag_keys.NOTE)
_ELSEWHERE = (tag_keys.TURN_OWNER, tag_keys.TURN_HOLDER, tag_keys.TURN_BEAT, tag_keys.BOOLEANS)
_OTHERWISE = {  # what the Python API names otherwise than the command line, or does not have
    "`dovetail sync --all`": "`sync(everything=True)`",
    "`dovetail retrain MODEL --with DATA --from REV`": "`retrain(model, data, base=…)`",
    "`dovetail doctor --trace STAGE`": "`trace_stage(stage)`",
    "`dovetail new`": "`dovetail.new`, a function",
    "`dovetail serve`, `ui`, `demo`; `monitor --watch`": "not here: they run until they are stopped, or play a tour",
    "`lineage --mermaid`, `diff --markdown`": "not here: in a notebook an answer shows itself",
}
_NOTE = "<!-- Made by scripts/reference.py; do not edit. -->\n\n"


def texts() -> Any:
    """What stands beside the code."""
    return yaml.safe_load((FOLDER / "texts.yaml").read_text(encoding="utf-8"))


def pages() -> dict[str, str]:
    """Each page's text by its name."""
    said = texts()
    made = {
        "commands.md": "\n".join(_commands(said["commands"])),
        "answers.md": "\n".join(_answers()),
        "tags.md": "\n".join(_tags(said["tags"])),
        "gates.md": "\n".join(_gates(said["gates"])),
        "params.md": "\n".join(_params()),
        "python.md": "\n".join(_python()),
    }
    return {name: _NOTE + text.rstrip() + "\n" for name, text in made.items()}


def _commands(said: Mapping[str, Any]) -> Iterator[str]:
    _same(set(said), set(main.commands), "commands")
    _same(set(SUBTITLES), set(GROUPS), "groups")
    yield "# Commands\n"
    yield (
        "Every command answers on standard output, explains itself with `--help`, and ends with an [exit code](answers.md#exit-codes). "
        "The examples are those of the project that `dovetail demo` makes, and a test runs them.\n"
    )
    yield "`dovetail --version` says which version this is. `dovetail --traceback COMMAND …` shows where a known error was raised. "
    yield "`dovetail --color always COMMAND …` (or `never`) and `NO_COLOR` decide on colour, where a terminal would not.\n"
    yield "A **REF** names a model's state: `apples` (its production, else staging), `apples@production`, `apples/3`,"
    yield "`models:/apples@production`, `runs:/ID`, a git revision with a model (`v1.2:apples`, `HEAD~1:apples`); for data a path or an md5.\n"
    yield "| command | what it does |\n| --- | --- |"
    for command in (command for group in GROUPS.values() for command in group):
        first = (command.help or "").split("\n\n")[0].replace("\n", " ")
        yield f"| [`{command.name}`](#{command.name}) | {first} |"
    for title, group in GROUPS.items():
        yield f"\n## {title}: {SUBTITLES[title]}"
        for command in group:
            yield from _command(command.name or "", command, said[command.name])


def _command(name: str, command: click.Command, said: Mapping[str, Any]) -> Iterator[str]:
    context = click.Context(command, info_name=f"dovetail {name}")
    yield f"\n### {name}\n\n```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    examples = said["examples"]
    language = "sh" if said.get("runs_on") or name == "demo" else "bash"
    yield f"```{language}\n" + "\n".join(examples) + "\n```\n"
    if "more" in said:
        yield said["more"]
    yield "| option | |\n| --- | --- |"
    for option in (p for p in command.params if isinstance(p, click.Option)):
        spelled = max(option.opts, key=len)
        value = "" if option.is_flag else f" {option.make_metavar(context)}"
        default = option.default
        shown = f" Default: {default}." if option.show_default and default not in (None, ()) else ""
        yield f"| `{spelled}{value}` | {option.help}{shown} |"


def _answers() -> Iterator[str]:
    shapes = json.loads(SHAPES.read_text(encoding="utf-8"))
    yield "# Answers\n"
    yield "With `--json` standard output is one JSON document and nothing else, also on failure. Keys stay; new ones may come. `…` are"
    yield "the project's own keys. The shapes are recorded from real answers, and a test compares them.\n"
    for typed in ANSWERS:
        yield f"`dovetail {typed} --json`\n\n```text\n{shapes[typed]}\n```\n"
    yield "`dovetail monitor … --watch SECONDS --json` prints such a document on a line for each look.\n"
    yield '## Failures\n\n```text\n{"error": {"kind", "message", "next"}}\n```\n'
    yield "An error is one line that names the thing, its value and the next command. `kind` is one of:\n"
    tree = inspect.cleandoc(errors.__doc__ or "").split("\n\n", 1)[1]
    yield f"```text\n{tree}\n```\n"
    yield "## Exit codes\n\n| code | meaning |\n| --- | --- |"
    yield "| 0 | done |"
    yield "| 1 | the answer is no: problems were found, sides disagree, a gate refused, a version was not reproduced, or what is served has drifted |"
    yield "| 2 | you must change something: a name, a file, a key |"
    yield "| 3 | something outside failed: MLflow did not answer, another process held the lock; or Dovetail itself is at fault (`Defect`) |"
    yield "| 130 | the command was interrupted |"


def shape(answer: Any, key: str = "", depth: int = 0) -> str:
    """The keys of a document, as text; a list shows its richest entry."""
    pad = "  " * (depth + 1)
    if isinstance(answer, list):
        inner = max((shape(one, key, depth) for one in answer), key=len, default="")
        return f"[{inner}]"
    if not isinstance(answer, dict):
        return ""
    if key in _OPEN:
        return "{…}"
    parts = [f"{name}: {inner}" if (inner := shape(value, name, depth + 1)) else name for name, value in answer.items()]
    flat = "{" + ", ".join(parts) + "}"
    if len(flat) + 2 * depth <= 100 and "\n" not in flat:  # noqa: PLR2004  (fits a page)
        return flat
    lines, line = [], ""
    for part in parts:
        if line and ("\n" in part or len(line) + len(part) > 96 - 2 * depth):
            lines.append(line)
            line = ""
        line += f"{part}, "
    return "{\n" + "\n".join(f"{pad}{one.rstrip()}" for one in [*lines, line.rstrip(", ")]) + "\n" + "  " * depth + "}"


def record(project: Path) -> None:
    """Ask every command of ANSWERS in the demo's project, and keep the shapes."""
    write_labelled(project)
    shapes = {}
    for typed in ANSWERS:
        if before := _BEFORE.get(typed):
            subprocess.run(before.split(), cwd=project, capture_output=True, check=False)
        done = subprocess.run(
            ["dovetail", *typed.split(), "--json"], cwd=project, capture_output=True, text=True, check=False
        )
        shapes[typed] = shape(json.loads(done.stdout))
        sys.stdout.write(f"{typed}: exit code {done.returncode}\n")
    SHAPES.write_text(json.dumps(shapes, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_labelled(project: Path) -> None:
    """Labelled rows for `retrain`: the demo's own under other ids."""
    header, *rows = (project.parent / "apples.csv").read_text(encoding="utf-8").splitlines()
    new = [row.replace("A-", "B-").replace(",NA,", ",6.5,") for row in rows[:60]]
    (project.parent / "labelled.csv").write_text("\n".join([header, *new]) + "\n", encoding="utf-8")


def _tags(said: Mapping[str, Any]) -> Iterator[str]:
    hidden = [*tag_layout.TOGETHER, tag_layout.DATA, *tag_layout.ALONE.values(), *_ALSO_HIDDEN]
    _same(set(said), {*readable_tags.KEYS, *tag_layout.PLAIN, *hidden, *_ELSEWHERE}, "tags")
    former = {place: f"`{fact}`" for fact, place in tag_layout.ALONE.items()}
    former[tag_layout.DATA] = f"`{tag_keys.DATA_PREFIX}<path>`, one each"
    yield "# Tags\n"
    yield "Runs and versions carry these tags. They are the link to git and DVC, and it is content, not an id.\n"
    yield "## For people\n"
    yield "First on MLflow's pages, in its lists and its filters, and kept current by `register`, `promote`, `rollback`, `monitor`,"
    yield "`reproduce` and `sync`.\n"
    yield from _table(said, readable_tags.KEYS)
    yield "\n## To search for\n"
    yield from _table(said, tag_layout.PLAIN)
    yield "\nFor example ``mlflow.search_runs(search_all_experiments=True, filter_string=\"tags.`dovetail.model.md5` = '…'\")``.\n"
    yield "## For Dovetail\n"
    yield "MLflow's pages hide keys that begin with `mlflow.`; its clients show them. What is written together stands in one tag, as JSON."
    yield "The last column is the tag of its own that the fact had in the former layout: Dovetail reads both, and"
    yield "[`dovetail sync` turns the one into the other](../adr/0018-pages-show-names-tags-keep-facts-together.md).\n"
    yield "| tag | field | what it says | formerly |\n| --- | --- | --- | --- |"
    for name in hidden:
        fields = tag_layout.TOGETHER.get(name)
        if fields is None:
            yield f"| `{name}` | | {said[name].strip()} | {former.get(name, '')} |"
            continue
        _same(set(said[name]), set(fields.values()), name)
        for fact, field in fields.items():
            yield f"| `{name}` | `{field}` | {said[name][field].strip()} | `{fact}` |"
    yield "\n## Elsewhere\n"
    yield from _table(said, _ELSEWHERE)


def _table(said: Mapping[str, Any], names: Iterable[str]) -> Iterator[str]:
    yield "| tag | what it says |\n| --- | --- |"
    for name in names:
        yield f"| `{name}` | {said[name].strip()} |"


def _gates(said: Mapping[str, Any]) -> Iterator[str]:
    _same(set(said), {"metric", *rules.KINDS}, "gates")
    yield "# Gates\n"
    yield "What a version must meet. They stand beside the model, in `params.yaml`, and are versioned with it. When they are asked, and by"
    yield "whom: [promotion](../promotion.md#gates).\n"
    yield "| gate | asked | what it holds |\n| --- | --- | --- |"
    for name, gate in said.items():
        shown = "*a metric*" if name == "metric" else f"`{name}`"
        yield f"| {shown} | {gate['asked']} | {gate['holds'].strip()} |"
    yield "\n## Keys and defaults\n\n```yaml\ngates:"
    yield f"  accuracy: {_flow(rules.BOUNDS)}  # or any other metric's name"
    for name, keys in rules.KINDS.items():
        yield f"  {name}: {f'{{column: {_flow(rules.SLICE)}}}' if name == rules.SLICES else _flow(keys)}"
    yield "```"


def _flow(keys: Mapping[str, Any]) -> str:
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in keys.items()}
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=1000).strip()


def _params() -> Iterator[str]:
    schema = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
    yield "# params.yaml\n"
    yield "What a project of Dovetail's stages says: this repository, and one that `dovetail new` made. `params.schema.json` lets an editor"
    yield "complete and check it; a misspelt key stops the pipeline with the place, the value and what is allowed there.\n"
    yield "## The file\n"
    yield from _keys(schema)
    for name, block in schema["$defs"].items():
        yield f"\n## {name}\n\n{block.get('description', '')}\n"
        yield from _keys(block)


def _keys(block: Mapping[str, Any]) -> Iterator[str]:
    required = block.get("required", [])
    yield "| key | type | default | |\n| --- | --- | --- | --- |"
    for name, key in block.get("properties", {}).items():
        default = "required" if name in required else f"`{json.dumps(key['default'])}`" if "default" in key else ""
        yield f"| `{name}` | {_type(key)} | {default} | {key.get('description', '')} |"
    if isinstance(extra := block.get("additionalProperties"), dict) and extra:
        yield f"| *any other* | {_type(extra)} | | |"


def _type(key: Mapping[str, Any]) -> str:  # noqa: PLR0911  (a kind a line)
    """A JSON schema's type in words, blocks as links."""
    if "$ref" in key:
        name = key["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if kinds := key.get("anyOf") or key.get("oneOf"):
        return " or ".join(_type(one) for one in kinds if one.get("type") != "null")
    if "enum" in key:
        return " or ".join(f"`{value}`" for value in key["enum"])
    if "const" in key:
        return f"`{key['const']}`"
    kind = str(key.get("type", "anything"))
    if kind == "array":
        return f"list of {_type(key.get('items', {}))}"
    if kind == "object" and isinstance(values := key.get("additionalProperties"), dict) and values:
        return f"mapping to {_type(values)}"
    return {"object": "mapping", "string": "text"}.get(kind, kind)


def _python() -> Iterator[str]:
    yield "# Python API\n"
    yield "The verbs of the command line as methods, with the same answers: frozen dataclasses whose `as_json()` is the document of `--json`.\n"
    yield "```python\nimport dovetail\n\nrepository = dovetail.open()\nprint(repository.status().in_sync)\n```\n"
    yield "Errors are `dovetail.DovetailError`s: `message`, `next_command`, `exit_code`, `kind`. Options are arguments of the same name, but for:\n"
    yield "| command | here |\n| --- | --- |"
    yield from (f"| {command} | {here} |" for command, here in _OTHERWISE.items())
    yield ""
    for name in ("open", "new"):
        yield from _function(f"dovetail.{name}", getattr(dovetail, name))
    yield f"## dovetail.Repository\n\n{inspect.cleandoc(dovetail.Repository.__doc__ or '')}\n"
    for name, method in inspect.getmembers(dovetail.Repository, inspect.isfunction):
        if not name.startswith("_"):
            yield from _function(f"Repository.{name}", method, "###")


def _function(name: str, function: Any, heading: str = "##") -> Iterator[str]:
    signature = (
        re.sub(r"(->|:) '([^']+)'", r"\1 \2", str(inspect.signature(function)))
        .replace("self, ", "")
        .replace("self", "")
    )
    signature = re.sub(r"<function [^>]*>", "...", re.sub(r"\b(?:[A-Za-z_]\w*\.)+(\w+)", r"\1", signature))
    yield f"{heading} {name}\n\n```python\n{name}{signature}\n```\n\n{inspect.cleandoc(function.__doc__ or '')}\n"


def _same(said: set[str], there: set[str], what: str) -> None:
    if missing := sorted(there - said):
        raise SystemExit(f"docs/reference/texts.yaml says nothing of the {what} {', '.join(missing)}")
    if gone := sorted(said - there):
        raise SystemExit(f"docs/reference/texts.yaml speaks of {what} that are gone: {', '.join(gone)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--answers"]:
        record(Path(sys.argv[2]) / "apples")
    for page, text in pages().items():
        (FOLDER / page).write_text(text, encoding="utf-8")
