"""MLflow reports what it is used for to its makers: not in processes of Dovetail, elsewhere the user decides."""

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Read by MLflow when it is imported: https://mlflow.org/docs/latest/community/usage-tracking/
ENV_NO_TELEMETRY = "MLFLOW_DISABLE_TELEMETRY"
_MLFLOW = "mlflow"


def send_nothing() -> None:
    """Let MLflow, once this process imports it, neither report its use nor keep a thread for it.

    Said by each process that Dovetail itself starts from. Commands of users that it runs inherit nothing of it, and who
    sets the variable is followed.
    """
    if _MLFLOW not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


@contextmanager
def switched_off() -> Iterator[None]:
    """MLflow is imported in the block, and sends nothing then; unless the variable is set already."""
    if ENV_NO_TELEMETRY in os.environ:
        yield
        return
    os.environ[ENV_NO_TELEMETRY] = "true"
    try:
        yield
    finally:
        os.environ.pop(ENV_NO_TELEMETRY, None)


class _Finder(MetaPathFinder):
    """Finds MLflow as Python does, and switches its telemetry off while it is imported: afterwards there is none."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname != _MLFLOW:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def quietly(module: ModuleType) -> None:
                with switched_off():
                    execute(module)

            spec.loader.exec_module = quietly  # type: ignore[method-assign]  # of this one loader, of this one module
        return spec
