"""Load a joblib file or a plain pickle as an MLflow pyfunc. Self-contained: this file travels inside the model.

It needs joblib and what the model itself needs, not Dovetail.
"""

import hashlib
import importlib
import io
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MD5_KEY = "dovetail.model.md5"
ALLOW_KEY = "dovetail.pickle.allow"
METHODS = ("predict", "predict_proba")

# What a pickled model may name: these packages …
ALLOWED = ("sklearn", "numpy", "scipy", "skrub", "pandas")
# … but not those of their parts that read files, run code or carry other libraries along …
_EXCEPT = (
    "numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.ctypeslib", "numpy.lib", "numpy.load", "numpy.loadtxt",
    "numpy.genfromtxt", "numpy.fromfile", "numpy.memmap", "pandas.io", "pandas.eval", "pandas.core.computation",
    "pandas.read_", "pandas.testing", "scipy.io", "scipy.datasets", "sklearn.datasets", "sklearn.externals",
    "sklearn.utils._testing",
)  # fmt: skip
# … and single names of what every pickle is made of.
_NAMES = frozenset(
    {f"builtins.{name}" for name in ("object", "set", "frozenset", "slice", "range", "complex", "bytearray", "bytes",
                                     "str", "int", "float", "bool", "list", "tuple", "dict", "type", "Ellipsis",
                                     "NotImplemented")}
    | {"copyreg._reconstructor", "copyreg.__newobj__", "_codecs.encode", "collections.OrderedDict",
       "collections.defaultdict", "collections.Counter", "collections.deque", "functools.partial", "datetime.date",
       "datetime.datetime", "datetime.time", "datetime.timedelta", "datetime.timezone", "zoneinfo.ZoneInfo._unpickle",
       "decimal.Decimal", "fractions.Fraction", "uuid.UUID", "types.SimpleNamespace",
       "joblib.numpy_pickle.NumpyArrayWrapper", "joblib.numpy_pickle.NDArrayWrapper"}
)  # fmt: skip
_reading = threading.local()


class NotAllowedError(ValueError):
    """A pickle names something outside the allow-list; `name` says what. Nothing of it was resolved."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the pickle names {name}, which is not in the allow-list; it was not loaded. Next: if that is yours, add "
            f"{name.partition('.')[0]!r} to the model's gates: {{pickle: {{allow: […]}}}}, then dovetail register"
        )
        self.name = name


class JoblibModel:
    """An estimator behind MLflow's `predict(model_input, params)`; `params={"method": "predict_proba"}` is known."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predictions for the rows of `model_input`: shape (rows,), or (rows, classes) for `predict_proba`.

        Raises:
            ValueError: when the method is not one of METHODS or the estimator does not have it.
        """
        method = (params or {}).get("method", "predict")
        if method not in METHODS or not hasattr(self.estimator, method):
            has = [name for name in METHODS if hasattr(self.estimator, name)]
            raise ValueError(f"method {method!r} is not to be had; this model has: {', '.join(has)}")
        return getattr(self.estimator, method)(model_input)


def read(content: bytes, allow: Iterable[str] = ()) -> Any:
    """Unpickle `content`, which may name ALLOWED and the packages `allow`, nothing else.

    Raises:
        NotAllowedError: before anything else that it names is resolved.
    """
    import joblib

    with _only((*ALLOWED, *allow)):
        return joblib.load(io.BytesIO(content))


@contextmanager
def _only(packages: tuple[str, ...]) -> Iterator[None]:
    # A hook rather than a guarded find_class: joblib reads arrays of objects with a second, plain pickle.load, which
    # an unpickler of one's own does not see. Python asks the hook for both, before it imports anything.
    # https://docs.python.org/3/library/audit_events.html
    if not getattr(_ask, "added", False):
        sys.addaudithook(_ask)
        _ask.added = True  # type: ignore[attr-defined]  # a hook can be added, never taken away: once
    _reading.packages = packages
    try:
        yield
    finally:
        _reading.packages = None


def _ask(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and (packages := getattr(_reading, "packages", None)) is not None:
        module, name = arguments
        if not _is_allowed(module, name, packages):
            raise NotAllowedError(f"{module}.{name}")


def _is_allowed(module: str, name: str, packages: tuple[str, ...]) -> bool:
    full = f"{module}.{name}"
    if full in _NAMES:
        return True
    # A dotted name would be looked up through whatever the module happens to have imported.
    if "." in name or full.startswith(_EXCEPT) or not _within(module, packages):
        return False
    # So would a name that the module imported from elsewhere: it has to be at home in an allowed package as well.
    found = getattr(importlib.import_module(module), name, None)
    home = getattr(found, "__module__", None) or module
    return not isinstance(found, type(sys)) and (_within(home, packages) or f"{home}.{name}" in _NAMES)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _load_pyfunc(data_path: str) -> JoblibModel:
    """MLflow's entry. The bytes that are unpickled are the very bytes whose digest was checked.

    Raises:
        ValueError: when they are not the bytes that were registered, or name something outside the allow-list.
    """
    metadata = _metadata(Path(data_path))
    content = Path(data_path).read_bytes()
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != (expected := str(metadata[MD5_KEY])):
        raise ValueError(
            f"{data_path} (md5 {actual}) is not what was registered ({expected}); it was not unpickled. "
            "Next: dovetail register, from the commit that made it"
        )
    return JoblibModel(read(content, metadata.get(ALLOW_KEY) or ()))


def _metadata(data_path: Path) -> dict[str, Any]:
    import yaml

    return dict(yaml.safe_load((data_path.parents[1] / "MLmodel").read_text(encoding="utf-8"))["metadata"])
