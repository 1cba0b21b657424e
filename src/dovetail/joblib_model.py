"""Load a joblib file, a plain pickle or a .skops file as an MLflow pyfunc, by a closed table of names.

This file travels inside the model, with `pickle_names.json` beside it; it needs what the model itself needs, not
Dovetail. It is longer than a file here should be because whoever reviews it there has to find the reader in one place.

A pickle is a program: it names things, calls them, and sets their state. Here it may name what the table holds, and
estimator classes of scikit-learn and skrub; call the table's reconstructors; and set the state of what it made itself.
`docs/adr/0006` says why, `scripts/pickle_names.py` makes the table.
"""

import bz2
import hashlib
import importlib
import io
import json
import lzma
import pickle
import sys
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

MD5_KEY = "dovetail.model.md5"
ALLOW_KEY = "dovetail.pickle.allow"
METHODS = ("predict", "predict_proba")

TABLE = Path(__file__).with_name("pickle_names.json")
FILES = (Path(__file__), TABLE)  # what travels

_KINDS = ("sklearn", "skrub")  # whose estimator classes may be named and made, without standing in the table one by one
# But not these of skrub, which look up and call by name, or load other models.
_NO_KIND = frozenset({"_DataOpWrapperMixin", "_XyPipelineMixin", "_BaseParamSearch", "TextEncoder"})
_PACKAGES = ("numpy", "scipy", "pandas", "sklearn", "skrub")  # of these a name of the table may have an alias
_NO_IMPORT = frozenset({"tests", "testing", "_testing", "conftest", "f2py", "distutils", "externals"})
_MODERN = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocols before 3 write them
_RENAMED = {("__builtin__", "long"): "int", ("__builtin__", "unicode"): "str", ("__builtin__", "xrange"): "range"}
_GETATTR = "builtins.getattr"
_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
_NAMED, _MADE, _CALLED, _VOUCHED = range(4)  # each may what those before it may; the last is the user's own `allow`
_SKOPS = b"PK\x03\x04"  # it is a zip


class NotAllowedError(ValueError):
    """A model names or calls something that the table does not hold; `name` says what. Nothing of it ran."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the model names {name}, which the table of names does not allow; it was not loaded. "
            f"Next: if you trust it, write pickle: {{allow: [{name}]}} in the model's gates, then dovetail register"
        )
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return NotAllowedError, (self.name,)


class UnreadableError(ValueError):
    """The bytes are no model that can be read here: broken, of another kind, or of a package that is not installed."""


class JoblibModel:
    """An estimator behind MLflow's `predict(model_input, params)`; `params={"method": "predict_proba"}` is known."""

    def __init__(self, estimator: Any) -> None:
        """Wrap it.

        Raises:
            UnreadableError: when it has no way to predict.
        """
        if isinstance(estimator, type):
            raise UnreadableError(f"it holds the class {estimator.__name__}, not an instance of it")
        if not callable(getattr(estimator, "predict", None)):
            raise UnreadableError(f"it holds a {type(estimator).__name__}, which has no method predict")
        if not _is_fitted(estimator):
            raise UnreadableError(f"it holds a {type(estimator).__name__} that was never fitted")
        self.estimator = estimator

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predictions for the rows of `model_input`: shape (rows,), or (rows, classes) for `predict_proba`.

        Raises:
            ValueError: when the method is not one of METHODS or the estimator does not have it.
        """
        method = (params or {}).get("method", "predict")
        if method not in METHODS or not hasattr(self.estimator, method):
            has = [name for name in METHODS if hasattr(self.estimator, name)]
            raise ValueError(f"method {method!r} is not available; this model has: {', '.join(has)}")
        return getattr(self.estimator, method)(model_input)


def _is_fitted(estimator: Any) -> bool:
    """What scikit-learn says of its own estimators and skrub's; those of others may keep what they learned anywhere."""
    if type(estimator).__module__.partition(".")[0] not in ("sklearn", "skrub"):
        return True
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    except TypeError:  # not one that is fitted
        return True
    return True


def read(content: bytes, allow: Iterable[str] = ()) -> Any:
    """The model in `content`, a joblib file, a pickle or a .skops file.

    `allow` holds names besides the table's: exact ones (`lightgbm.sklearn.LGBMClassifier`), or packages (`lightgbm`),
    whose classes may then be made, but none of their functions be named.

    Raises:
        NotAllowedError: before what it names is called.
        UnreadableError: when it is no model that can be read here.
    """
    import numpy as np  # noqa: F401  (before the guard: what it sets up when it is imported is its own affair)

    names = Names(tuple(allow))
    try:
        with _guarded(names):
            if content.startswith(_SKOPS):
                return _read_skops(content, names)
            plain = _decompressed(content)
            file = io.BytesIO(plain)
            reader = _Reader(plain, file, names)
            model = reader.load()
            reader.finish()
    except NotAllowedError:
        raise
    except Exception as error:  # crafted or broken bytes raise anything in what they are read by
        refused = _refusal(error)
        if refused is not None:
            raise refused from None
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"it cannot be read: {type(error).__name__}: {error}"[:500]) from error
    if file.read(1):
        raise UnreadableError("it holds more than one pickle, or something behind it; save one model in it")
    return model


def _refusal(error: BaseException | None) -> NotAllowedError | None:
    while error is not None and not isinstance(error, NotAllowedError):
        error = error.__cause__ or error.__context__
    return error


class Names:
    """What a model may name, and what may be done with it."""

    def __init__(self, allow: tuple[str, ...] = ()) -> None:
        self.allow = allow
        self.roles: dict[int, int] = {}  # by the id of the object, which `_kept` keeps alive
        self.names: dict[int, str] = {}
        self._kept: dict[str, Any] = {}

    def find(self, module: str, name: str) -> Any:
        """The object of that name.

        Raises:
            NotAllowedError: when it may not be named.
        """
        full = f"{_modern(module)}.{_RENAMED.get((module, name), name)}"
        if full not in self._kept:
            if "." in name:  # it would be looked up through whatever the module happens to have imported
                raise NotAllowedError(full)
            found, role = self._resolve(*_split(full), full)
            self._kept[full] = found
            self.names.setdefault(id(found), full)
            self.roles[id(found)] = max(role, self.roles.get(id(found), role))
        return self._kept[full]

    def _resolve(self, module: str, name: str, full: str) -> tuple[Any, int]:
        if not full.replace(".", "_").isidentifier() or ".." in full or full.startswith("."):
            raise NotAllowedError(full)
        if full in self.allow:
            return _get(module, name, full), _VOUCHED
        if (role := table().get(full)) is not None:
            return _get(module, name, full), role
        if _within(module, self.allow):
            found = _get(module, name, full)
            if isinstance(found, type) and _within(found.__module__, self.allow):
                return found, _MADE
        elif _within(module, _PACKAGES) and not _NO_IMPORT & set(module.split(".")):
            found = _get(module, name, full)
            if _is_kind(found):
                return found, _MADE
            # Another address of what stands in the table (a ufunc has several, and versions move their classes).
            for known in _by_last_name().get(name, ()):
                if _peek(known) is found and found is not None:
                    return found, table()[known]
        raise NotAllowedError(full)

    def may(self, thing: Any, role: int) -> bool:
        """Whether this very object was found, and may be treated so."""
        return self.roles.get(id(thing), -1) >= role

    def say(self, thing: Any) -> str:
        """How the file calls it, or what it is."""
        of = thing if isinstance(thing, type | FunctionType) else type(thing)
        return self.names.get(id(thing), f"{of.__module__}.{of.__qualname__}")


@lru_cache(maxsize=1)
def table() -> dict[str, int]:
    """Each name of the table with what may be done with it."""
    rows: dict[str, list[str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return {name: role for role, key in enumerate(("named", "made", "called")) for name in rows[key]}


@lru_cache(maxsize=1)
def _by_last_name() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for known in table():
        found.setdefault(known.rpartition(".")[2], []).append(known)
    return found


def _modern(module: str) -> str:
    module = _MODERN.get(module, module)
    return "numpy._core" + module.removeprefix("numpy.core") if f"{module}.".startswith("numpy.core.") else module


def _split(full: str) -> tuple[str, str]:
    module, _, name = full.rpartition(".")
    return module, name


def _get(module: str, name: str, full: str) -> Any:
    if full == _GETATTR:
        return _getattr
    with _importing():
        try:
            found = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if module.partition(".")[0] in sys.modules and f"{module}.".startswith(f"{error.name}."):
                raise NotAllowedError(full) from None  # there is no such part of it
            raise UnreadableError(f"it names {full}, and {error.name} is not installed") from error
        except AttributeError:
            raise NotAllowedError(full) from None
    return _found_instead(full, found)


def _found_instead(full: str, found: Any) -> Any:
    if full == _ARRAY:
        return _StoredArray
    if full == "numpy.memmap":  # its array was written; it is read as one
        return sys.modules["numpy"].ndarray
    return found


def _peek(known: str) -> Any:
    """What stands in the table under that name; None where this installation does not have it."""
    try:
        return _get(*_split(known), known)
    except (NotAllowedError, UnreadableError, ImportError):
        return None


def _is_kind(found: Any) -> bool:
    if not isinstance(found, type) or not _within(found.__module__, _KINDS):
        return False
    with _importing():
        from sklearn.base import BaseEstimator

    refused = _NO_KIND & {base.__name__ for base in found.__mro__} or _NO_IMPORT & set(found.__module__.split("."))
    return issubclass(found, BaseEstimator) and not refused


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _getattr(of: Any, name: str) -> Any:
    """Stands for `getattr`, by which pandas' time zones are pickled; nothing else is got by it."""
    from zoneinfo import ZoneInfo

    if of is not ZoneInfo or name != "_unpickle":
        raise NotAllowedError(_GETATTR)
    return _zone


def _zone(key: str, from_cache: bool = True) -> Any:  # noqa: FBT001, FBT002  (as the pickle calls it)
    from zoneinfo import ZoneInfo

    return ZoneInfo(key) if from_cache else ZoneInfo.no_cache(key)


class _StoredArray:
    """What joblib writes before an array's bytes."""

    subclass: Any
    shape: Any
    order: Any
    dtype: Any
    numpy_array_alignment_bytes: Any = None


_Unpickler: Any = pickle._Unpickler  # noqa: SLF001  (pure Python; joblib's is made of it)


class _Reader(_Unpickler):  # type: ignore[misc]
    """pickle's own machine, with bounds on each operation that runs something; joblib's arrays are read in place."""

    dispatch = dict(_Unpickler.dispatch)  # noqa: RUF012

    def __init__(self, content: bytes, file: io.BytesIO, names: Names) -> None:
        super().__init__(file)
        self.content, self.file, self.known = content, file, names
        self.types: set[type] = set()  # of what it made: their state may be set
        self.zones = 0

    def find_class(self, module: str, name: str) -> Any:
        return self.known.find(module, name)

    def finish(self) -> None:
        """Refuse what was named for nothing but to be there."""
        if self.known.may(_getattr, _CALLED) and not self.zones:
            raise NotAllowedError(_GETATTR)

    def _new(self, made: Any) -> Any:
        self.types.add(type(made))
        return made

    def load_reduce(self) -> None:
        arguments = _tuple(self.stack.pop())
        called = self.stack[-1]
        if called is _zone and self.zones:
            self.stack[-1] = _zone(*arguments)
            return
        if not self.known.may(called, _CALLED):
            raise NotAllowedError(self.known.say(called))
        guard = _GUARDS.get(self.known.names[id(called)])
        made = guard(self, called, *arguments) if guard else called(*arguments)
        self.zones += made is _zone
        self.stack[-1] = self._new(made)

    def load_newobj(self) -> None:
        arguments = _tuple(self.stack.pop())
        self.stack[-1] = self._new(_make(self, self.stack[-1], *arguments))

    def load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        arguments = _tuple(self.stack.pop())
        if keywords:
            raise NotAllowedError(self.known.say(self.stack[-1]))
        self.stack[-1] = self._new(_make(self, self.stack[-1], *arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if type(made) not in self.types or isinstance(made, type | FunctionType | ModuleType):
            raise NotAllowedError(f"{self.known.say(made)}.__setstate__")
        if isinstance(made, _StoredArray):
            made.__dict__.update(_plain_keys(state))
            self.stack[-1] = self._stored(made)
            return
        for part in state if isinstance(state, tuple) else (state,):
            _plain_keys(part) if isinstance(part, dict) else None
        _check_state(made, state)
        setstate = getattr(type(made), "__setstate__", None)
        if setstate is not None:
            setstate(made, state)
        else:
            _set_state(made, state)
        _check_made(made)

    def load_append(self) -> None:
        value = self.stack.pop()
        self._growable(list, deque).append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        self._growable(list, deque).extend(values)

    def load_additems(self) -> None:
        values = self.pop_mark()
        self._growable(set).update(values)

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self._growable(dict)[_plain_key(key)] = value

    def load_setitems(self) -> None:
        values = self.pop_mark()
        into = self._growable(dict)
        for at in range(0, len(values), 2):
            into[_plain_key(values[at])] = values[at + 1]

    def load_dict(self) -> None:
        values = self.pop_mark()
        self.append({_plain_key(values[at]): values[at + 1] for at in range(0, len(values), 2)})

    def load_refused(self) -> None:
        """Operations that no pickle of today is written with."""
        raise NotAllowedError("an operation of old pickles (INST, OBJ, EXT or PERSID)")

    def _growable(self, *kinds: type) -> Any:
        into = self.stack[-1]
        if not issubclass(type(into), kinds):
            raise NotAllowedError(f"{self.known.say(into)}.append")
        return into

    def _stored(self, stored: _StoredArray) -> Any:
        """The array whose bytes follow, as joblib's own NumpyArrayWrapper reads it."""
        import numpy as np

        dtype, shape = stored.dtype, tuple(int(length) for length in stored.shape)
        if type(dtype) not in _dtypes() or min(shape, default=0) < 0 or stored.subclass not in (np.ndarray, np.matrix):
            raise pickle.UnpicklingError("an array of no known kind")
        if dtype.hasobject:
            inner = _Reader(self.content, self.file, self.known)
            array = inner.load()
            self.types |= inner.types
            self.zones += inner.zones
            return array
        if stored.numpy_array_alignment_bytes is not None:
            self.file.seek(self.file.read(1)[0], io.SEEK_CUR)
        count = 1
        for length in shape:
            count *= length
        start, size = self.file.tell(), count * dtype.itemsize
        if start + size > len(self.content):
            raise pickle.UnpicklingError("an array that goes beyond the end of the file")
        array = np.frombuffer(self.content, dtype, count, start).copy() if size else np.empty(count, dtype)
        self.file.seek(start + size)
        array = array.reshape(shape[::-1]).transpose() if stored.order == "F" else array.reshape(shape)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return array  # for a matrix, too, as joblib gives it


for _codes, _method in (
    (pickle.REDUCE, "load_reduce"), (pickle.NEWOBJ, "load_newobj"), (pickle.NEWOBJ_EX, "load_newobj_ex"),
    (pickle.BUILD, "load_build"), (pickle.APPEND, "load_append"), (pickle.APPENDS, "load_appends"),
    (pickle.ADDITEMS, "load_additems"), (pickle.SETITEM, "load_setitem"), (pickle.SETITEMS, "load_setitems"),
    (pickle.DICT, "load_dict"),
    *((_code, "load_refused") for _code in (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4,
                                            pickle.PERSID, pickle.BINPERSID, pickle.NEXT_BUFFER)),
):  # fmt: skip
    _Reader.dispatch[_codes[0]] = getattr(_Reader, _method)


def _tuple(arguments: Any) -> tuple[Any, ...]:
    if type(arguments) is not tuple:  # to ask a half-made object for its items may run into memory that is not there
        raise pickle.UnpicklingError("arguments that are no tuple")
    return arguments


def _plain_key(key: Any) -> Any:
    # numpy reads memory at the address that an instance's `__array_interface__` gives.
    if isinstance(key, str) and key.startswith("__") and key.endswith("__"):
        raise NotAllowedError(f"the attribute {key}")
    return key


def _plain_keys(state: Any) -> Any:
    for key in state:
        _plain_key(key)
    return state


def _make(reader: _Reader, cls: Any, *arguments: Any) -> Any:
    """A new instance, by `__new__` alone; with arguments only of what the user vouched for."""
    known = reader.known
    if not isinstance(cls, type) or not known.may(cls, _MADE) or (
        arguments and not (known.may(cls, _VOUCHED) or _within(cls.__module__, known.allow))
    ):  # fmt: skip
        raise NotAllowedError(known.say(cls))
    if getattr(cls.__new__, "__module__", None) == "sklearn.utils.deprecation":  # it warns, and does no more
        return object.__new__(cls)
    return cls.__new__(cls, *arguments)


def _set_state(made: Any, state: Any) -> None:
    """As pickle does without `__setstate__`; slots only where the class has them."""
    state, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)  # noqa: PLR2004
    if state:
        made.__dict__.update({sys.intern(key) if type(key) is str else key: value for key, value in state.items()})
    for key, value in (slots or {}).items():
        if not any(key in vars(base).get("__slots__", ()) for base in type(made).__mro__):
            raise NotAllowedError(f"the attribute {key}")
        setattr(made, key, value)


# What is asked of a call's arguments before it is made, and of a state before it is set.


def _reconstructor(reader: _Reader, _: Any, cls: Any, base: Any, state: Any) -> Any:
    if base is object:
        return _make(reader, cls)
    if base not in (dict, list, set, tuple, str, int, float) or not issubclass(cls, base):
        raise NotAllowedError(reader.known.say(cls))
    _make(reader, cls)
    made = base.__new__(cls, state)
    if issubclass(base, dict):
        _plain_keys(state)
    if base.__init__ is not object.__init__:
        base.__init__(made, state)
    return made


def _latin(_reader: _Reader, called: Any, *arguments: Any) -> Any:
    first = arguments[0] if arguments else b""
    if not isinstance(first, str | bytes) or any(name not in ("latin1", "latin-1") for name in arguments[1:]):
        raise pickle.UnpicklingError("bytes of no known kind")
    return called(*arguments)


def _container(_reader: _Reader, called: Any, *arguments: Any) -> Any:
    if any(type(one) not in (list, tuple, dict, str, int, bool, type(None), type) for one in arguments):
        raise pickle.UnpicklingError("a container of no known kind")
    for one in arguments:
        for key in one if type(one) in (list, dict) and issubclass(called, dict) else ():
            _plain_key(key[0] if type(key) in (list, tuple) and key else key)
    return called(*arguments)


def _empty_array(reader: _Reader, called: Any, cls: Any, shape: Any, code: Any) -> Any:
    import numpy as np

    if cls not in (np.ndarray, np.matrix) or shape != (0,) or code not in (b"b", "b"):
        raise NotAllowedError(reader.known.say(cls))
    return called(cls, shape, code)


def _empty_masked(reader: _Reader, called: Any, cls: Any, *of: Any) -> Any:
    import numpy as np

    if cls is not np.ma.MaskedArray or of[0] is not np.ndarray or of[1:] not in (((0,), b"b"), ((0,), "b")):
        raise NotAllowedError(reader.known.say(cls))
    return called(cls, *of)


def _dtype(_reader: _Reader, called: Any, code: Any, align: Any = False, _copy: Any = True) -> Any:  # noqa: FBT002
    if not isinstance(code, str | bytes):
        raise pickle.UnpicklingError("a dtype of no known kind")
    return called(code, bool(align), copy=True)  # always a copy: state is never set on numpy's own


def _no_objects(reader: _Reader, called: Any, *arguments: Any) -> Any:
    import numpy as np

    if any(isinstance(one, np.dtype) and one.hasobject for one in arguments):
        raise NotAllowedError(f"objects in {reader.known.say(called)}")
    return called(*arguments)


def _random(reader: _Reader, called: Any, *arguments: Any) -> Any:
    import numpy as np

    own = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
    classes = [getattr(np.random, name) for name in own]
    constructor = reader.known.names.get
    for one in arguments:
        by_name = isinstance(one, str) and one in own
        if not (by_name or type(one) in classes or any(one is cls for cls in classes)
                or constructor(id(one)) == "numpy.random._pickle.__bit_generator_ctor"):  # fmt: skip
            raise NotAllowedError(reader.known.say(one))
    return called(*arguments)


def _index(reader: _Reader, called: Any, cls: Any, *arguments: Any) -> Any:
    from pandas import Index

    if not (isinstance(cls, type) and issubclass(cls, Index)) or not reader.known.may(cls, _NAMED):
        raise NotAllowedError(reader.known.say(cls))
    return called(cls, *arguments)


def _of_table(reader: _Reader, called: Any, cls: Any, *arguments: Any) -> Any:
    if not isinstance(cls, type) or not reader.known.may(cls, _NAMED) or cls.__module__ == "builtins":
        raise NotAllowedError(reader.known.say(cls))
    return called(cls, *arguments)


def _tree(_reader: _Reader, called: Any, features: int, classes: Any, outputs: int) -> Any:
    if len(classes) != outputs:
        raise pickle.UnpicklingError("a tree whose outputs do not agree")
    return called(features, classes, outputs)


def _arrow(_reader: _Reader, called: Any, given: Any) -> Any:
    """An array of texts with buffers that are long enough: Arrow looks at them before it can be asked to check."""
    import pyarrow as pa

    kind, length, nulls, offset, buffers, children, dictionary = given
    width = {pa.string(): 4, pa.large_string(): 8}.get(kind, 0) if isinstance(kind, pa.DataType) else 0
    whole = width and all(type(one) is int for one in (length, nulls, offset)) and length >= 0 and offset >= 0
    valid, offsets, texts = buffers
    if not whole or children or dictionary is not None or not isinstance(texts, pa.Buffer | None) or (
        not isinstance(offsets, pa.Buffer) or offsets.size < (length + offset + 1) * width
        or not -1 <= nulls <= length or not isinstance(valid, pa.Buffer | None)
        or (valid is not None and valid.size * 8 < length + offset) or (valid is None and nulls)
    ):  # fmt: skip
        raise pickle.UnpicklingError("texts whose buffers do not agree")
    array = called(given)
    array.validate(full=True)
    return array


_GUARDS: dict[str, Callable[..., Any]] = {
    "copyreg._reconstructor": _reconstructor,
    "copyreg.__newobj__": lambda reader, _, cls, *arguments: _make(reader, cls, *arguments),
    "_codecs.encode": _latin, "builtins.bytes": _latin, "builtins.bytearray": _latin,
    **{f"builtins.{name}": _container for name in ("set", "frozenset", "slice", "range")},
    **{f"collections.{name}": _container for name in ("Counter", "OrderedDict", "defaultdict", "deque")},
    "numpy._core.multiarray._reconstruct": _empty_array, "numpy.ma.core._mareconstruct": _empty_masked,
    "numpy.dtype": _dtype, "numpy._core.multiarray.scalar": _no_objects, "numpy._core.numeric._frombuffer": _no_objects,
    "numpy.random._pickle.__bit_generator_ctor": _random, "numpy.random._pickle.__generator_ctor": _random,
    "numpy.random._pickle.__randomstate_ctor": _random,
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": _of_table,
    "pandas.core.indexes.base._new_Index": _index, "pandas.core.indexes.datetimes._new_DatetimeIndex": _index,
    "pandas.core.indexes.interval._new_IntervalIndex": _index,
    "pandas.core.indexes.timedeltas._new_TimedeltaIndex": _index,
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": _of_table,
    "sklearn.metrics._dist_metrics.newObj": _of_table, "sklearn.neighbors._ball_tree.newObj": _of_table,
    "sklearn.neighbors._kd_tree.newObj": _of_table,
    "sklearn._loss._loss.__pyx_unpickle_CyHalfMultinomialLoss": _of_table, "sklearn.tree._tree.Tree": _tree,
    "pyarrow.lib._restore_array": _arrow,
}  # fmt: skip


@lru_cache(maxsize=1)
def _dtypes() -> frozenset[type]:
    import numpy as np

    return frozenset({type(np.dtype(code)) for code in ("V", *np.typecodes["All"])})


def _check_state(made: Any, state: Any) -> None:
    """Refuse a state by which numpy would read beyond an array, or take numbers for addresses of objects."""
    import numpy as np

    if isinstance(made, np.dtype):
        _check_dtype(made, state)
    elif isinstance(made, np.ndarray) and made.size:
        raise pickle.UnpicklingError("an array whose state is set twice")
    if (methods := state.get("stack_method_") if isinstance(state, dict) else None) and not (
        set(methods) <= {"predict", "predict_proba", "decision_function"}
    ):
        raise NotAllowedError(f"the method {sorted(methods)}")


def _check_dtype(made: Any, state: Any) -> None:
    import numpy as np

    _version, order, subarray, names, fields, size, alignment, flags, *_more = state
    if subarray is not None:
        right = np.dtype(subarray)
    elif names is not None or fields is not None:
        right = np.dtype({"names": list(names), "formats": [fields[name][0] for name in names],
                          "offsets": [fields[name][1] for name in names], "itemsize": size})  # fmt: skip
    else:
        right = np.dtype(f"{made.kind}{size}") if made.kind == "S" else np.dtype(f"{order}U{size // 4}") if (
            made.kind == "U") else np.dtype(f"V{size}") if made.kind == "V" else made  # fmt: skip
    aligned = 0x80
    if (flags ^ right.flags) & ~aligned & 0xFF or size not in (-1, right.itemsize) or not isinstance(alignment, int):
        raise pickle.UnpicklingError("a dtype that is not what it says")
    if order not in ("<", ">", "|", "="):
        raise pickle.UnpicklingError("a dtype of no known order")


def _check_made(made: Any) -> None:
    """Refuse trees and sparse arrays whose numbers point beyond them: scikit-learn and scipy follow them unchecked."""
    kind = f"{type(made).__module__}.{type(made).__qualname__}"
    if kind == "sklearn.tree._tree.Tree":
        _check_children(made.children_left, made.children_right, made.feature, made.n_features)
    elif kind == "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor":
        inner = made.nodes[made.nodes["is_leaf"] == 0]
        for side in (inner["left"], inner["right"]):
            if len(side) and side.max() >= len(made.nodes):
                raise pickle.UnpicklingError("a tree that points beyond itself")
    elif kind.startswith("scipy.sparse.") and hasattr(made, "check_format"):
        made.check_format(full_check=True)


def _check_children(left: Any, right: Any, feature: Any, features: int) -> None:
    import numpy as np

    nodes = len(left)
    if not nodes:
        return
    left, right, feature = (np.ascontiguousarray(column) for column in (left, right, feature))  # one look at each node
    inner, before = left != -1, np.arange(nodes)
    beyond = max(left.max(), right.max()) >= nodes or feature.max() >= features
    if beyond or (inner & ((left <= before) | (right <= before) | (feature < 0))).any():  # a child stands behind it
        raise pickle.UnpicklingError("a tree that points beyond itself")


def _decompressed(content: bytes) -> bytes:
    """The pickle itself, whatever joblib packed it with."""
    if content.startswith((b"\x78", b"\x1f\x8b")):
        return zlib.decompressobj(47).decompress(content)  # zlib or gzip, as its header says
    if content.startswith(b"BZh"):
        return bz2.decompress(content)
    if content.startswith((b"\x5d\x00", b"\xfd7zXZ")):
        return lzma.decompress(content)
    if content.startswith(b"\x04\x22\x4d\x18"):
        import lz4.frame

        return bytes(lz4.frame.decompress(content))
    if content.startswith(b"ZF"):
        raise UnreadableError("joblib before 0.10 wrote it, beside files of its own; save it anew")
    return content


def _read_skops(content: bytes, names: Names) -> Any:
    """A .skops file, whose every type stands in the table or is an estimator of a kind."""
    import zipfile

    try:
        with _importing():
            import skops.io
    except ModuleNotFoundError:
        raise UnreadableError("it is a .skops file, and skops is not installed; pip install skops") from None
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        schema = json.loads(packed.read("schema.json"))
    for module, name in sorted(_named(schema)):
        names.find(module, name)
    trusted = skops.io.get_untrusted_types(data=content)
    for full in trusted:
        names.find(*_split(full))
    return skops.io.loads(content, trusted=trusted)


def _named(part: Any) -> Iterator[tuple[str, str]]:
    """Each module and name in a part of a .skops file's schema."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for at, name in (("__module__", "__class__"), ("module_path", "function"), ("module_path", "type")):
                if isinstance(part.get(at), str) and isinstance(part.get(name), str):
                    yield part[at], part[name]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


# The second net: whatever in the process unpickles or starts something while a model is read, by whatever way.

_state: Any = threading.local()
_lock = threading.Lock()
_open: list[Names] = []
_STARTS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen",
           "pty.spawn", "os.startfile")  # fmt: skip
_REACHES = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "os.remove", "os.rename",
            "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
            "os.kill", "shutil.", "ctypes.dlopen", "ftplib.", "urllib.", "sqlite3.", "winreg.",
            "webbrowser.")  # fmt: skip


def _count(what: str) -> int:
    found: int = _state.__dict__.get(what, 0)
    return found


@contextmanager
def _guarded(names: Names) -> Iterator[None]:
    if not getattr(_watch, "added", False):
        sys.addaudithook(_watch)
        _watch.added = True  # type: ignore[attr-defined]  # a hook can be added, never taken away: once
    with _lock:
        _open.append(names)
    _state.reading = _count("reading") + 1
    try:
        yield
    finally:
        _state.reading -= 1
        with _lock:
            _open.remove(names)


@contextmanager
def _importing() -> Iterator[None]:
    """In the block an installed package is imported, which may do what it needs."""
    _state.importing = _count("importing") + 1
    try:
        yield
    finally:
        _state.importing -= 1


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _open or _count("importing"):
        return
    if event == "pickle.find_class":
        for names in tuple(_open):
            names.find(*arguments)
    elif event.startswith(_STARTS) or (
        _count("reading") and (event.startswith(_REACHES) or (event == "open" and _writes(arguments)))
    ):
        raise NotAllowedError(event)


def _writes(arguments: tuple[Any, ...]) -> bool:
    _path, mode, flags = (*arguments, None, None)[:3]
    return bool(set("wax+") & set(mode)) if isinstance(mode, str) else bool((flags or 0) & 3)


def _load_pyfunc(data_path: str) -> JoblibModel:
    """MLflow's entry. The bytes that are read are the very bytes whose digest was checked.

    Raises:
        ValueError: when they are not the bytes that were registered, or name something outside of the table.
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
