"""Writes down which files of a repository a Python process opens, and where in its code.

Copied as `sitecustomize.py` on the PYTHONPATH of a traced stage, so that every Python of it, of any environment, runs
it first. It travels alone: it imports nothing of Dovetail's and nothing that takes time.
"""

import os
import sys
from typing import Any

LOG, ROOTS = "DOVETAIL_AUDIT_LOG", "DOVETAIL_AUDIT_ROOTS"  # environment: the file to append to, the trees to watch
SEPARATOR = "\t"  # between the fields of a line: kind, path, file:line
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_DVC = (
    f"{os.sep}site-packages{os.sep}dvc{os.sep}",
    f"{os.sep}site-packages{os.sep}dvc_",
    f"{os.sep}dovetail{os.sep}registration{os.sep}script_uris.py",
)  # which reads scripts to tell what they set


def watch(log: int, roots: tuple[str, ...]) -> None:
    """Append a line to the open file `log` for each file below `roots` that this process opens from now on."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" or event == "sqlite3.connect":  # noqa: PLR1714  (a tuple to search in costs at each event)
            try:
                line = _line(args[0], args[2] if event == "open" else os.O_RDONLY, roots)
                if line:
                    os.write(log, line)
            except (OSError, ValueError, TypeError):
                pass  # a stage must not fail for being watched

    sys.addaudithook(hook)


def _line(path: Any, flags: Any, roots: tuple[str, ...]) -> "bytes | None":
    if isinstance(path, int):
        return None
    full = os.path.abspath(os.path.join(os.getcwd(), os.fsdecode(path)))  # noqa: PTH100, PTH109, PTH118  (fast)
    if not full.startswith(roots):
        return None
    kind, where = ("write" if (flags or 0) & _WRITES else "read"), ""
    frame = sys._getframe(2)  # noqa: SLF001  (the only way to see the caller; of this function and the hook)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_DVC) or any(part in name for part in _DVC):
            kind = "dvc"  # DVC's own reading, in a stage that calls it
            break
        if not where and not name.startswith("<") and os.path.abspath(name).startswith(roots):  # noqa: PTH100
            where = f"{os.path.abspath(name)}:{frame.f_lineno}"  # noqa: PTH100
        frame = frame.f_back  # type: ignore[assignment]
    return (SEPARATOR.join((kind, full, where)) + "\n").encode(errors="replace")


def _start() -> None:
    log = os.environ.get(LOG)
    if log:
        opened = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(opened, SEPARATOR.join(("python", sys.executable, "")).encode() + b"\n")
        watch(opened, tuple(root + os.sep for root in os.environ[ROOTS].split(os.pathsep)))


def _next() -> None:
    """The `sitecustomize` that this one stands in front of."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]  # noqa: PTH100
    sys.modules.pop(__name__, None)
    try:
        __import__(__name__)
    except ImportError:
        sys.modules[__name__] = _own


if __name__ == "sitecustomize":
    _own = sys.modules[__name__]
    _start()
    _next()
