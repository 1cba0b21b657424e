"""Scripts that set MLflow's tracking URI themselves: their runs are not found where the model's are."""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from dovetail.tracking.connection import ENV_TRACKING_URI
from dovetail.tracking.store import SQLITE
from dovetail.tracking.store_error import without_secrets
from dovetail.values.finding import Finding
from dovetail.values.lineage import Lineage

_SOMEWHERE = re.compile(r"[a-z][\w+.-]+:/(/[^/]|//)|databricks|/", re.IGNORECASE)  # a host, or an absolute path

_IMPORT = re.compile(r"^[ \t]*import[ \t]+([\w., \t]+)", re.MULTILINE)
_FROM = re.compile(r"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n#]+)", re.MULTILINE)


def is_relative(uri: str) -> bool:
    """Whether the place that a tracking URI names depends on the current folder."""
    if uri.startswith("sqlite:"):
        return not uri.startswith(f"{SQLITE}/")
    return _SOMEWHERE.match(uri) is None


class Scripts:
    """Python files below `root`: each is read once, however many models are made by it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, tuple[tuple[str, ...], tuple[tuple[int, str | None], ...]]] = {}

    def imports(self, script: str) -> tuple[str, ...]:
        """Of what a script imports, what lies beside it, in the root or in its `src`."""
        return self._read(script)[0]

    def uris(self, script: str) -> tuple[tuple[int, str | None], ...]:
        """The tracking URIs that a script sets, with their lines; None for one that is no literal."""
        return self._read(script)[1]

    def _read(self, script: str) -> tuple[tuple[str, ...], tuple[tuple[int, str | None], ...]]:
        if script not in self._known:
            source = _source(self.root / script)
            self._known[script] = tuple(_imported(self.root, script, source)), tuple(_uris(source))
        return self._known[script]


def of_model(scripts: Scripts, lineage: Lineage, store_uri: str) -> Iterator[Finding]:
    """The same as `findings`, of the stages that made a model."""
    commands = [(stage.name, stage.cmd) for stage in lineage.stages]
    return findings(scripts, lineage.programs, store_uri, commands)


def findings(
    scripts: Scripts, paths: Iterable[str], store_uri: str, commands: Iterable[tuple[str, str]] = ()
) -> Iterator[Finding]:
    """The lines of the Python files in `paths`, files and folders, that set another tracking URI than `store_uri`.

    So of the repository's modules that they import, and of `commands`, each a stage's name and what it runs.
    """
    root, stages = scripts.root, list(commands)
    named = chain(paths, (word for _, command in stages for word in re.findall(r"(?<!\S)\w[\w./-]*\.py\b", command)))
    for path in sorted(_with_imports(scripts, {inner for one in named for inner in _python_files(root, one)})):
        for line, uri in scripts.uris(path):
            next_command = f"delete line {line} of {path}: inside a stage MLflow finds the repository's store by itself"
            yield from _finding(f"{path}:{line}", uri, store_uri, next_command)
    for stage, command in stages:
        for uri in re.findall(rf"\b{ENV_TRACKING_URI}=(\S+)", command):
            next_command = f"delete {ENV_TRACKING_URI}={uri} from the cmd of {stage} in dvc.yaml"
            yield from _finding(f"the cmd of stage {stage}", uri.strip("'\";"), store_uri, next_command)


def _finding(where: str, uri: str | None, store_uri: str, next_command: str) -> Iterator[Finding]:
    if uri is not None and is_relative(uri):
        what = f"{where} sets the tracking URI to {uri!r}"
        why = "a temporary experiment runs in a folder that DVC deletes, and the run is deleted with it"
        yield Finding("error", what, why, next_command)
    elif uri != store_uri:
        what = f"{where} sets the tracking URI" + ("" if uri is None else f" to {without_secrets(uri)!r}")
        why = "the script's runs are in that store, and the model's run is another one in this repository's"
        yield Finding("warning", what, why, next_command)


def _python_files(root: Path, path: str) -> Iterator[str]:
    if (root / path).is_dir():
        yield from (file.relative_to(root).as_posix() for file in (root / path).rglob("*.py") if file.is_file())
    elif path.endswith(".py") and (root / path).is_file():
        yield Path(path).as_posix()


def _with_imports(scripts: Scripts, paths: Iterable[str]) -> set[str]:
    """The scripts and what they import, directly or not."""
    known, new = set[str](), set(paths)
    while new:
        known |= new
        new = {found for script in new for found in scripts.imports(script)} - known
    return known


def _imported(root: Path, script: str, source: str) -> Iterator[str]:
    for module in _modules(source):
        inside = module.replace(".", "/")
        for folder in {Path(script).parent, Path(), Path("src")}:
            found = (folder / f"{inside}{end}" for end in (".py", "/__init__.py"))
            yield from (path.as_posix() for path in found if (root / path).is_file())


def _modules(source: str) -> set[str]:
    """The modules that a Python source imports, with what it takes from them, which may be modules, too."""
    found = {name.strip().partition(" ")[0] for line in _IMPORT.findall(source) for name in line.split(",")}
    for module, taken in _FROM.findall(source):
        above = module.strip(".")
        found |= {above} | {f"{above}.{name}".strip(".") for name in re.findall(r"\w+", taken)}
    return found - {""}


def _source(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _uris(source: str) -> Iterator[tuple[int, str | None]]:
    if "tracking_uri" not in source.lower():
        return
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):  # no Python; null bytes
        return
    for node in nodes:
        value = None
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "set_tracking_uri":
            value = next(iter((*node.args, *(keyword.value for keyword in node.keywords))), None)
        elif isinstance(node, ast.Assign) and _is_variable(node.targets[0]):
            value = node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.setdefault", "os.putenv"):
            named = node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == ENV_TRACKING_URI
            value = node.args[1] if named and len(node.args) > 1 else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.lineno, value.value
        elif value is not None and ENV_TRACKING_URI not in ast.unparse(value):
            yield value.lineno, None


def _is_variable(target: ast.expr) -> bool:
    """Whether an assignment to `target` sets the environment variable."""
    return isinstance(target, ast.Subscript) and ENV_TRACKING_URI in ast.unparse(target)
