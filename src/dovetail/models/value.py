"""A digest of what a model is, beside that of its bytes: types, params and arrays, in an order of their own.

Two files have the same value where nothing that predicts differs: not where an object was shared or copied, what lies
between the fields of an array's rows, how many threads computed it, or how long that took. What is not known to leave
predictions alone counts, so that a difference of values may be none of predictions, and never the other way round.
`docs/adr/0010` says why.
"""

import struct
import sys
import types
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from dovetail import native_model
from dovetail.models.folder_model import FolderModel
from dovetail.models.network_file import NetworkModel
from dovetail.models.value_parts import OF_FILES, OF_PACKAGES, Parts, digest

# Attributes of estimators that say how something was computed, not what it is: threads, and the clock of a search.
_COMPUTED = frozenset({
    "_sklearn_version", "n_jobs", "_n_jobs", "n_threads", "nthread", "num_threads", "thread_count", "refit_time_",
})  # fmt: skip
_ESTIMATORS = {"sklearn", "skrub", "lightgbm", "xgboost"}  # the packages whose attributes those are
_SEARCH, _CLOCKS = "cv_results_", ("_fit_time", "_score_time")
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
_NAMELESS = (type(None), type(...), type(NotImplemented))  # classes that are found in no module
_FEW = 4096  # short atoms whose digests are kept: a forest has the same names in each tree
_FORM = "v2"  # of this digest: values of two forms are not compared


class NoValueError(ValueError):
    """The model holds something whose value nobody can tell."""


def value_digest(model: Any, content: bytes | None = None) -> str:
    """The digest of a model that was read, "v2:" and 32 hexadecimal digits; `content` is the file it was read from.

    A file in its library's own format has the value that the library gives it when it writes it anew; one of ONNX, a
    format without such a writer here, that of its bytes.

    Raises:
        NoValueError: when it holds something that cannot be taken apart.
    """
    if isinstance(model, FolderModel | NetworkModel):
        raise NoValueError("what its loader made of it is not known here")
    try:
        kind = native_model.format_of(content) if content else None
        if kind and content:
            return f"{_FORM}:{_Walk().parts(b'file', kind.encode(), OF_FILES[kind](content)).hex()}"
        return f"{_FORM}:{_Walk().of(model).hex()}"
    except RecursionError:
        raise NoValueError("it is nested too deeply") from None
    except NoValueError:
        raise
    except Exception as error:  # a library that does not take apart what it made
        raise NoValueError(f"it cannot be taken apart: {error}") from error


def same_value(one: str | None, other: str | None) -> bool | None:
    """Whether two digests are of one value; None where one is not known or they are of two forms."""
    if one is None or other is None or one.partition(":")[0] != other.partition(":")[0]:
        return None
    return one == other


class _Walk:
    """One walk over one model; what is met again is not walked again."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[Any] = []  # so that no id is given twice
        self._open: dict[int, int] = {}  # what is being walked, with its depth
        self._lowest = 0  # the depth that the innermost walk reached back to
        self._atoms: dict[tuple[type, bytes], bytes] = {}

    def of(self, thing: Any) -> bytes:
        """The digest of any object."""
        if atom := _ATOMS.get(type(thing)):
            return self._atom(type(thing), atom(thing))
        key = id(thing)
        if key in self._known:
            return self._known[key]
        depth = len(self._open)
        if key in self._open:  # it holds itself: said by how far up
            self._lowest = min(self._lowest, self._open[key])
            return digest(b"above", str(depth - self._open[key]).encode())
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

    def parts(self, kind: bytes, name: bytes, parts: Parts) -> bytes:
        """The digest of what a library made, by its parts."""
        return digest(kind, name, *(part if isinstance(part, bytes) else self.of(part) for part in parts or ()))

    def _atom(self, kind: type, content: bytes) -> bytes:
        key = (kind, content)
        if (found := self._atoms.get(key)) is None:
            found = digest(kind.__name__.encode(), content)
            if len(self._atoms) < _FEW and len(content) <= len(found) * 4:
                self._atoms[key] = found
        return found

    def _taken_apart(self, thing: Any) -> bytes:
        kind = type(thing)
        if kind in (list, tuple):
            return digest(kind.__name__.encode(), *map(self.of, thing))
        if kind is dict:
            return digest(b"dict", *(self.of(part) for pair in thing.items() for part in pair))
        if kind in (set, frozenset):
            return digest(kind.__name__.encode(), *sorted(map(self.of, thing)))
        if isinstance(thing, type | types.FunctionType | types.BuiltinFunctionType) and _is_named(thing):
            return digest(b"name", _name(thing))
        for root, special in OF_PACKAGES.items():
            if kind.__module__.partition(".")[0] == root and (parts := special(thing)) is not None:
                return self.parts(b"special", root.encode() if root == "numpy" else _name(kind), parts)
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
            return digest(b"name", f"{getattr(thing, '__module__', '')}.{reduced}".encode())
        make, arguments, state, items, pairs, setter = (*reduced, None, None, None, None)[:6]
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # noqa: PLR2004  (slots)
            state = (_sorted(state[0]), _sorted(state[1]))
        elif isinstance(state, dict) and _is_estimator(type(thing)):
            state = _kept(state)
        parts = (arguments, _sorted(state), list(items or ()), [part for pair in pairs or () for part in pair], setter)
        return digest(b"object", _name(type(thing)), self.of(make), *map(self.of, parts))


def _is_estimator(kind: type) -> bool:
    """Whether the class is those packages' own: in a class of the user's anything can predict."""
    return kind.__module__.partition(".")[0] in _ESTIMATORS


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
    """Whether its name says all: it is what is found by it, no lambda, nothing that a file brought along."""
    if isinstance(thing, types.BuiltinFunctionType):
        return isinstance(thing.__self__, types.ModuleType | None)
    module = sys.modules.get(thing.__module__)
    try:
        found = reduce(getattr, thing.__qualname__.split("."), module)
    except AttributeError:
        found = None
    if found is not thing and thing not in _NAMELESS:
        raise NoValueError(f"it holds {thing.__qualname__}, whose code has no name")
    return True
