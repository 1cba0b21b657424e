"""A dataset's cleaning script, src/stages/cleaning/<dataset>.py; without one rows go through as they are."""

import difflib
import importlib
import pkgutil
from typing import Any, Literal

import narwhals as nw
import polars as pl

from stages import cleaning
from stages.common.errors import StageError
from stages.data.pandas_index import with_index

_SKELETON = """
import narwhals as nw
def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    return frame.drop_nulls()"""


class Script:
    """The script, called with the rows that keep the schema."""

    def __init__(self, key: str) -> None:
        module = f"stages.cleaning.{key}"
        self.path = f"src/{module.replace('.', '/')}.py"
        self.missing = ""
        try:
            self._clean = importlib.import_module(module).clean
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and error.name == module:
                near = difflib.get_close_matches(
                    key, [name for _, name, _ in pkgutil.iter_modules(cleaning.__path__)], n=1
                )
                meant = f"; did you mean {near[0]}.py?" if near else ""
                self.missing = f"there is no {self.path}, so rows go through as they are{meant}"
                self._clean = _as_they_are
                return
            if isinstance(error, AttributeError) and not hasattr(error.obj, "clean"):
                raise StageError(f"{self.path} has no function `clean`; write one, for example:{_SKELETON}") from error
            raise self.failed(error) from error

    def failed(self, error: Exception) -> StageError:
        """The refusal of a script that raised `error`."""
        return StageError(
            f"{self.path} failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}; correct it"
        )

    def __call__(self, good: pl.LazyFrame, engine: Literal["polars", "pandas"]) -> pl.LazyFrame:
        """The script's answer to `good`.

        Raises:
            StageError: if it raises, or returns something else than a frame.
        """
        frame = (
            good.collect(engine="streaming").to_pandas(use_pyarrow_extension_array=True) if engine == "pandas" else good
        )
        try:
            native = nw.to_native(self._clean(nw.from_native(frame)))
            cleaned = native.lazy() if isinstance(native, pl.DataFrame | pl.LazyFrame) else _from_pandas(native)
            cleaned.collect_schema()
        except Exception as error:
            raise self.failed(error) from error
        return cleaned


def _as_they_are(frame: Any) -> Any:
    return frame


def _from_pandas(frame: Any) -> pl.LazyFrame:
    if type(frame).__name__ != "DataFrame":
        raise TypeError(f"clean() returned {type(frame).__name__}, not the frame")
    import pyarrow as pa

    table = pl.DataFrame(pl.from_arrow(pa.Table.from_pandas(with_index(frame), preserve_index=False)))
    for name, dtype in table.schema.items():
        if isinstance(dtype, pl.BaseExtension):  # a period would be a number to whoever does not know pandas
            raise TypeError(f"column {name!r} holds values of the type {dtype.ext_name()}; make text or dates of it")
    return table.lazy()
