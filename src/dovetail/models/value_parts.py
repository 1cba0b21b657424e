"""What counts of the things that libraries make, for their digest by value: arrays, tables, boosters.

Each function gives a thing's parts: bytes as they are, anything else to be taken apart in turn. None: nothing is known
of it here, it is taken apart as pickle would.
"""

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

Parts = Iterable[Any] | None

_SIZE = 16  # bytes of each digest that are kept: 32 letters in MLflow's tag
_ROWS = 4096
_length = struct.Struct("<q").pack


def digest(kind: bytes, *parts: bytes) -> bytes:
    """The digest of parts, each with its length before it, so that no two lists of parts are the same bytes."""
    pieces = [_length(len(kind)), kind]
    for part in parts:
        pieces += (_length(len(part)), part)
    return hashlib.sha256(b"".join(pieces)).digest()[:_SIZE]  # which most CPUs compute themselves


def of_numpy(thing: Any) -> Parts:
    """Arrays by shape, type, order in memory and bytes; other classes of arrays are taken apart as pickle would."""
    import numpy as np

    if isinstance(thing, np.dtype):
        return (repr(thing).encode(),)
    if isinstance(thing, np.generic):
        return (thing.dtype.str.encode(), thing.tobytes()) if thing.dtype.kind not in "OV" else None
    if type(thing) in (np.ndarray, np.memmap):
        return _of_array(np.asarray(thing))
    return None


def _of_array(array: Any) -> list[Any]:
    import numpy as np

    order = b"F" if array.flags.f_contiguous and not array.flags.c_contiguous else b"C"  # BLAS takes other ways
    about = [b"array", str(array.shape).encode(), order]
    if array.dtype.kind in "OT":
        return [*about, repr(array.dtype).encode(), array.ravel().tolist()]
    if array.dtype.hasobject:
        return [*about, [part for name in array.dtype.names for part in (name, array[name])]]
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    kind = repr(plain.dtype).encode()
    if not (gaps := _gaps(plain.dtype)):
        return [*about, kind, hashlib.sha256(plain.view(np.uint8).data if plain.size else b"").digest()]
    rows = plain.view(np.uint8).reshape(len(plain), plain.dtype.itemsize)
    found, copied = hashlib.sha256(), np.empty_like(rows[:_ROWS])  # few at once stay in the CPU's cache
    for at in range(0, len(rows), _ROWS):
        part = copied[: len(rows) - at]
        part[:] = rows[at : at + _ROWS]
        for start, end in gaps:  # whatever was in memory there
            part[:, start:end] = 0
        found.update(part.data)
    return [*about, kind, found.digest()]


@cache
def _gaps(dtype: Any) -> tuple[tuple[int, int], ...]:
    """The bytes of a row between its fields, and behind the last one."""
    if not dtype.names:
        return ()
    found, at = [], 0
    for kind, offset, *_ in sorted(dtype.fields.values(), key=lambda field: field[1]):
        found += [(at, offset)] if offset > at else []
        found += [(offset + start, offset + end) for start, end in _gaps(kind)]
        at = max(at, offset + kind.itemsize)
    return (*found, *([(at, dtype.itemsize)] if dtype.itemsize > at else []))


def _of_pyarrow(thing: Any) -> Parts:
    if not hasattr(thing, "to_pylist"):
        return None
    return (str(thing.type if hasattr(thing, "type") else thing.schema).encode(), thing.to_pylist())


def _of_polars(thing: Any) -> Parts:
    if not hasattr(thing, "to_arrow"):
        return None
    return (str(getattr(thing, "schema", thing)).encode(), *(_of_pyarrow(thing.to_arrow()) or ()))


def _of_lightgbm(thing: Any) -> Parts:
    if type(thing).__name__ != "Booster":
        return None
    # All trees are in the text; how many of them answer is not.
    return (_lightgbm_text(thing.model_to_string(num_iteration=-1)), thing.best_iteration)


def _of_xgboost(thing: Any) -> Parts:
    return (bytes(thing.save_raw("ubj")),) if type(thing).__name__ == "Booster" else None


# Of CatBoost's own notes in a model: when and by what it was made; its params are taken apart.
_CATBOOST_NOTES = ("train_finish_time", "model_guid", "catboost_version_info", "params")


def _of_catboost(thing: Any) -> Parts:
    if not hasattr(thing, "_serialize_model"):
        return None
    metadata = thing.get_metadata()
    notes = {name: metadata[name] for name in _CATBOOST_NOTES if name in metadata}
    trained = json.loads(notes.get("params", "{}"))
    for section in ("system_options", "flat_params"):
        trained.get(section, {}).pop("thread_count", None)
    for name in notes:
        del metadata[name]
    try:
        state = thing.__getstate__()  # with the model as CatBoost writes it
    finally:
        for name, note in notes.items():
            metadata[name] = note
    kept = {name: value for name, value in sorted(state.items()) if name != "thread_count"}
    return (trained, kept, getattr(thing, "classes_", None))


OF_PACKAGES: Mapping[str, Callable[[Any], Parts]] = {
    "numpy": of_numpy,
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


def _lightgbm_file(content: bytes) -> Parts:
    return (_lightgbm_text(content.decode(errors="surrogateescape").rstrip("\n") + "\n"),)


def _xgboost_file(content: bytes) -> Parts:
    import xgboost

    booster = xgboost.Booster()
    booster.load_model(bytearray(content))
    return _of_xgboost(booster)


def _catboost_file(content: bytes) -> Parts:
    from catboost import CatBoost

    model = CatBoost()
    model.load_model(blob=content, format="cbm")
    return _of_catboost(model)


# By the library whose own format a file is in.
OF_FILES: Mapping[str, Callable[[bytes], Parts]] = {
    "lightgbm": _lightgbm_file,
    "xgboost": _xgboost_file,
    "catboost": _catboost_file,
    "onnx": lambda content: (content,),
}
