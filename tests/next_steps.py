"""Every `next` that the library says, read out of its source: `next_steps.yaml` says of each how it is held.

python tests/next_steps.py   prints those that the table lacks, by the kind that they look like
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import yaml

from dovetail import errors

SOURCE = Path(errors.__file__).parent
TABLE = Path(__file__).with_suffix(".yaml")
_ERRORS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
_LOOK = re.compile(
    r"(ls|df|git (show|log|ls-tree|status)|(dvc|git) remote list|dvc (config|plots|stage list)|mlflow doctor|look into"
    r"|dovetail (list|history|lineage|show|doctor|status|\w+ --help))\b"
)
_KINDS = {
    "look": _LOOK,
    "again": re.compile("the same"),
    "install": re.compile(r"(python -m )?pip install |install "),
    "untried": re.compile(r"(dovetail|dvc|git|rm|mv|mlflow|export|unset|echo|\{)"),
    "edit": re.compile(""),
}


def said():
    """Each as (file, text), with what is put together at run time as `{code}`; `= code` where all of it is."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        places = {}
        for function in ast.walk(tree):  # an inner one comes later
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                places |= dict.fromkeys(ast.walk(function), function)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if (step := _step(call)) is not None:
                known = _assigned(places[call]) if call in places else {}
                for one in _alternatives(step, known):
                    if text := _text(one):
                        found.setdefault((file.relative_to(SOURCE).as_posix(), text))
    return list(found)


def _step(call):
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    position = {"Finding": 3} | dict.fromkeys(_ERRORS, 1)
    if name in position and len(call.args) > position[name]:
        return call.args[position[name]]
    return next((one.value for one in call.keywords if one.arg in ("next", "next_command")), None)


def _assigned(function):
    """What each name stands for in a function."""
    found = defaultdict(list)
    for node in ast.walk(function):
        if isinstance(node, ast.NamedExpr):
            found[node.target.id].append(node.value)
        for target in node.targets if isinstance(node, ast.Assign) else ():
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
            for name, value in pairs:
                if isinstance(name, ast.Name):
                    found[name.id].append(value)
    return found


def _alternatives(node, known):
    if isinstance(node, ast.IfExp):
        return [*_alternatives(node.body, known), *_alternatives(node.orelse, known)]
    if isinstance(node, ast.BoolOp):
        return [one for value in node.values for one in _alternatives(value, known)]
    if isinstance(node, ast.Name) and node.id in known:
        others = {name: values for name, values in known.items() if name != node.id}
        return [one for value in known[node.id] for one in _alternatives(value, others)]
    return [node]


def _text(node):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (
            part.value if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}" for part in node.values
        )
        return "".join(parts)
    return f"= {ast.unparse(node)}"


def table():
    """What the table says: (file, text) → kind, or the test that tries it."""
    found = {}
    for kind, content in yaml.safe_load(TABLE.read_text()).items():
        for file, texts in content["steps"].items():
            if isinstance(texts, dict):
                found |= {(file, text): test for text, test in texts.items()}
            else:
                found |= {(file, text): kind for text in texts}
    return found


def rows():
    """Each row of the table as it stands there: YAML keeps the last of two keys that are one, and says nothing."""
    return re.findall(r"^    (?:- |  )\S.*", TABLE.read_text(), re.MULTILINE)


def _kind(text):
    if text.startswith("= "):
        return "passed_on"
    return next(kind for kind, form in _KINDS.items() if form.match(text))


if __name__ == "__main__":
    lacking = defaultdict(lambda: defaultdict(list))
    for place, words in sorted(set(said()) - set(table())):
        lacking[_kind(words)][place].append(words)
    print(
        yaml.safe_dump({kind: {"steps": dict(files)} for kind, files in lacking.items()}, allow_unicode=True, width=999)
    )
