"""The packages of the extra `delta`, imported once they are needed."""

import importlib
from typing import Any

from dovetail.errors import MissingPackage


def deltalake() -> Any:
    """Delta Lake's tables.

    Raises:
        MissingPackage: when it is not installed.
    """
    return _imported("deltalake", "exceptions")


def obstore() -> Any:
    """The objects of S3, and files of a folder as such.

    Raises:
        MissingPackage: when it is not installed.
    """
    return _imported("obstore", "exceptions", "store")


def _imported(name: str, *inner: str) -> Any:
    try:
        for module in inner:
            importlib.import_module(f"{name}.{module}")
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        what = f"a prediction log of Delta tables needs the package {error.name}, which is not installed"
        raise MissingPackage(what, "pip install 'dovetail-ml[delta]'") from error
