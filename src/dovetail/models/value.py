"""A digest of what a model is, beside that of its bytes: types, params and arrays, in an order of their own.

Two files have the same value where nothing that predicts differs: not where an object was shared or copied, what lies
between the fields of an array's rows, how many threads computed it, or how long that took. What is not known to leave
predictions alone counts, so that a difference of values may be none of predictions, and never the other way round.
`docs/adr/0010` says why.
"""

import hashlib
import json
import re
import struct
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dovetail import native_model

_BYTES = 16  # of each digest that are kept: 32 letters in MLflow's tag
# Attributes of estimators that say how something was computed, not what it is: threads, and the clock of a search.
_COMPUTED = frozenset({
    "_sklearn_version", "n_jobs", "_n_jobs", "n_threads", "nthread", "num_threads", "thread_count", "refit_time_",
})  # fmt: skip
_ESTIMATORS = {"sklearn", "skrub", "lightgbm", "xgboost"}  # the packages whose attributes those are
_SEARCH, _CLOCKS = "cv_results_", ("_fit_time", "_score_time")
_ROWS = 4096
_ATOMS: Mapping[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"",
    type(...): lambda _: b"",
    type(NotImplemented): lambda _: b"",
    bool: lambda value: b"\1" if value else b"\0",
    int: lambda value: hex(value).encode(),
    float: lambda value: struct.pack("<d", value),
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
    str: lambda value: value.encode(errors="surrogatepass"),
    bytes: lambda value: value,
    bytearray: bytes,
}


_FORM = "v1"  # of this digest: values of two forms are not compared


class NoValueError(ValueError):
    """The model holds something whose value nobody can tell."""


def value_digest(model: Any, content: bytes | None = None) -> str:
    """The digest of a model that was read, "v1:" and 32 hexadecimal digits; `content` is the file it was read from.

    A file in its library's own format has the value that the library gives it when it writes it anew; one of ONNX, a
    format without such a writer here, that of its bytes.

    Raises:
        NoValueError: when it holds something that cannot be taken apart.
    """
    try:
        kind = native_model.format_of(content) if content else None
        if kind and content:
            return f"{_FORM}:{_digest(b'file', kind.encode(), _OF_FILES[kind](content)).hex()}"
        return f"{_FORM}:{_Walk().of(model).hex()}"
    except RecursionError:
        raise NoValueError("it is nested too deeply") from None


def _digest(kind: bytes, *parts: Any) -> bytes:
    """The digest of parts, each with its length before it, so that no two lists of parts are the same bytes."""
    found = hashlib.sha256()  # which most CPUs compute themselves
    found.update(struct.pack("<q", len(kind)) + kind)
    for part in parts:
        found.update(struct.pack("<q", len(part) if isinstance(part, bytes) else part.nbytes))
        found.update(part)
    return found.digest()[:_BYTES]


class _Walk:
    """One walk over one model; what is met again is not walked again."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[Any] = []  # so that no id is given twice
        self._open: dict[int, int] = {}  # what is being walked, with its depth
        self._lowest = 0  # the depth that the innermost walk reached back to

    def of(self, thing: Any) -> bytes:
        """The digest of any object."""
        if atom := _ATOMS.get(type(thing)):
            return _digest(type(thing).__name__.encode(), atom(thing))
        key = id(thing)
        if key in self._known:
            return self._known[key]
        depth = len(self._open)
        if key in self._open:  # it holds itself: said by how far up
            self._lowest = min(self._lowest, self._open[key])
            return _digest(b"above", str(depth - self._open[key]).encode())
        outer, self._lowest = self._lowest, depth
        self._open[key] = depth
        try:
            found = self._taken_apart(thing)
        finally:
            del self._open[key]
        if self._lowest >= depth:  # nothing in it depends on where it was met
            self._known[key] = found
            self._alive.append(thing)
        self._lowest = min(outer, self._lowest)
        return found

    def _taken_apart(self, thing: Any) -> bytes:
        kind = type(thing)
        if kind in (list, tuple):
            return _digest(kind.__name__.encode(), *map(self.of, thing))
        if kind is dict:
            return _digest(b"dict", *(self.of(part) for pair in thing.items() for part in pair))
        if kind in (set, frozenset):
            return _digest(kind.__name__.encode(), *sorted(map(self.of, thing)))
        if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) and _is_named(thing):
            return _digest(b"name", _name(thing))
        for root, special in _OF_PACKAGES.items():
            if kind.__module__.partition(".")[0] == root and (parts := special(thing)) is not None:
                return _digest(b"special", _name(kind), *(p if isinstance(p, bytes) else self.of(p) for p in parts))
        return self._reduced(thing)

    def _reduced(self, thing: Any) -> bytes:
        """Of what pickle would keep: how it is made, with what, and its state."""
        import copyreg

        own = copyreg.dispatch_table.get(type(thing))
        try:
            reduced: Any = own(thing) if own else thing.__reduce_ex__(4)
        except NoValueError:
            raise
        except Exception as error:  # what cannot be pickled has no state that could be compared
            raise NoValueError(f"it holds a {type(thing).__qualname__}, which cannot be taken apart") from error
        if isinstance(reduced, str):
            return _digest(b"name", f"{getattr(thing, '__module__', '')}.{reduced}".encode())
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # noqa: PLR2004  (slots)
            state = (_sorted(state[0]), _sorted(state[1]))
        elif isinstance(state, dict) and _is_estimator(type(thing)):
            state = _kept(state)
        parts = (arguments, _sorted(state), list(items or ()), [part for pair in pairs or () for part in pair])
        return _digest(b"object", _name(type(thing)), self.of(make), *map(self.of, parts))


def _is_estimator(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] in _ESTIMATORS for base in kind.__mro__)


def _kept(state: Mapping[Any, Any]) -> dict[Any, Any]:
    """An estimator's attributes without those that say how it was computed."""
    kept = {key: value for key, value in state.items() if key not in _COMPUTED}
    if isinstance(kept.get(_SEARCH), dict):
        results = kept[_SEARCH].items()
        kept[_SEARCH] = {key: value for key, value in results if not str(key).endswith(_CLOCKS)}
    return kept


def _sorted(state: Any) -> Any:
    """Attributes by their names: in which order they were set says nothing."""
    if isinstance(state, dict) and all(isinstance(key, str) for key in state):
        return dict(sorted(state.items()))
    return state


def _name(thing: Any) -> bytes:
    return f"{thing.__module__}.{thing.__qualname__}".encode()


def _is_named(thing: Any) -> bool:
    """Whether its name says all: no lambda, nothing made in a function."""
    if "<" in thing.__qualname__:
        raise NoValueError(f"it holds {thing.__qualname__}, whose code has no name")
    return isinstance(thing, type | types.FunctionType) or isinstance(thing.__self__, types.ModuleType | None)


def _of_numpy(thing: Any) -> Iterable[Any] | None:
    import numpy as np

    if isinstance(thing, np.dtype):
        return (str(thing.descr if thing.names else thing.str).encode(),)
    if isinstance(thing, np.generic):
        return (thing.dtype.str.encode(), thing.tobytes()) if thing.dtype.kind not in "OV" else None
    if type(thing) in (np.ndarray, np.memmap):
        return _of_array(np.asarray(thing))
    return None


def _of_array(array: Any) -> list[Any]:
    import numpy as np

    order = b"F" if array.flags.f_contiguous and not array.flags.c_contiguous else b"C"  # BLAS takes other ways
    about = [b"array", str(array.shape).encode(), order]
    if array.dtype.kind == "O":
        return [*about, array.ravel().tolist()]
    if array.dtype.hasobject:
        return [*about, [part for name in array.dtype.names for part in (name, array[name])]]
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    kind = str(plain.dtype.descr if plain.dtype.names else plain.dtype.str).encode()
    if not (gaps := _gaps(plain.dtype)):
        return [*about, kind, _digest(b"bytes", plain.view(np.uint8) if plain.size else b"")]
    rows = plain.view(np.uint8).reshape(len(plain), plain.dtype.itemsize)
    found, copied = hashlib.sha256(), np.empty_like(rows[:_ROWS])  # few at once stay in the CPU's cache
    for at in range(0, len(rows), _ROWS):
        part = copied[: len(rows) - at]
        part[:] = rows[at : at + _ROWS]
        for start, end in gaps:  # whatever was in memory there
            part[:, start:end] = 0
        found.update(part.data)
    return [*about, kind, found.digest()]


def _gaps(dtype: Any) -> list[tuple[int, int]]:
    """The bytes of a row between its fields, and behind the last one."""
    if not dtype.names:
        return []
    found, at = [], 0
    for kind, offset, *_ in sorted(dtype.fields.values(), key=lambda field: field[1]):
        found += [(at, offset)] if offset > at else []
        found += [(offset + start, offset + end) for start, end in _gaps(kind)]
        at = max(at, offset + kind.itemsize)
    return [*found, *([(at, dtype.itemsize)] if dtype.itemsize > at else [])]


def _of_pyarrow(thing: Any) -> Iterable[Any] | None:
    if hasattr(thing, "to_pylist"):
        return (str(thing.type if hasattr(thing, "type") else thing.schema).encode(), thing.to_pylist())
    return (str(thing).encode(),)


def _of_polars(thing: Any) -> Iterable[Any] | None:
    if not hasattr(thing, "to_arrow"):
        return None
    return (str(getattr(thing, "schema", thing)).encode(), *(_of_pyarrow(thing.to_arrow()) or ()))


def _of_lightgbm(thing: Any) -> Iterable[Any] | None:
    return (_lightgbm_text(thing.model_to_string(num_iteration=-1)),) if type(thing).__name__ == "Booster" else None


def _of_xgboost(thing: Any) -> Iterable[Any] | None:
    return (bytes(thing.save_raw("ubj")),) if type(thing).__name__ == "Booster" else None


def _of_catboost(thing: Any) -> Iterable[Any] | None:
    if not hasattr(thing, "_serialize_model"):
        return None
    metadata = thing.get_metadata()  # a copy of the model's own was read for this walk alone
    for name in ("train_finish_time", "model_guid", "catboost_version_info"):
        if name in metadata:
            del metadata[name]
    params = json.loads(metadata["params"])
    for section in ("system_options", "flat_params"):
        params.get(section, {}).pop("thread_count", None)
    del metadata["params"]
    return (params, thing._serialize_model(), getattr(thing, "classes_", None))  # noqa: SLF001  (as it pickles itself)


_OF_PACKAGES: Mapping[str, Callable[[Any], Iterable[Any] | None]] = {
    "numpy": _of_numpy,
    "pyarrow": _of_pyarrow,
    "polars": _of_polars,
    "lightgbm": _of_lightgbm,
    "xgboost": _of_xgboost,
    "catboost": _of_catboost,
}

_THREADS = re.compile(r"^\[(?:num_threads|n_jobs|nthreads?|tree_learner_threads): [^\n]*\]\n", re.MULTILINE)


def _lightgbm_text(text: str) -> bytes:
    """LightGBM's own text of a model without the number of threads."""
    return _THREADS.sub("", text.replace("\r\n", "\n")).encode()


def _lightgbm_file(content: bytes) -> bytes:
    return _lightgbm_text(content.decode(errors="surrogateescape").rstrip("\n") + "\n")


def _xgboost_file(content: bytes) -> bytes:
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    return bytes(booster.save_raw("ubj"))


def _catboost_file(content: bytes) -> bytes:
    from catboost import CatBoost

    model = CatBoost()
    model.load_model(blob=content, format="cbm")
    return _Walk().of(tuple(_of_catboost(model) or ()))


_OF_FILES: Mapping[str, Callable[[bytes], bytes]] = {
    "lightgbm": _lightgbm_file,
    "xgboost": _xgboost_file,
    "catboost": _catboost_file,
    "onnx": lambda content: content,
}
