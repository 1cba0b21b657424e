"""The same bytes on every machine: what would compute otherwise on another one is fixed before numpy is imported.

Sums in another order have other last bits. The order goes by the number of threads, by the kernel that BLAS chooses for
the CPU, and by the vector instructions that numpy and Arrow find. Fixed are one thread, and what every x86-64 CPU since
2013 has (AVX2). A CPU of another kind has kernels of its own: there only the threads are fixed.
Polars' threads are not: rows are the same with any number of them (docs/identity.md says of what sums over rows).
"""

import os
import platform
import sys
from collections.abc import Mapping

from stages.common.errors import StageError

THREADS: Mapping[str, str] = {
    "OMP_NUM_THREADS": "1",  # scikit-learn's histograms, LightGBM
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JOBLIB_MULTIPROCESSING": "0",  # n_jobs stays in the model as it was asked for; one process does the work
}
AVX2: Mapping[str, str] = {
    "OPENBLAS_CORETYPE": "Haswell",
    "MKL_CBWR": "AVX2,STRICT",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",  # numpy's names of all beyond AVX2
    "ARROW_USER_SIMD_LEVEL": "AVX2",
}


def settings() -> dict[str, str]:
    """The variables of the environment that fix it on this machine."""
    return {**THREADS, **(AVX2 if platform.machine() in ("x86_64", "AMD64") else {})}


def fix() -> None:
    """Let this process compute as every other machine does.

    Raises:
        StageError: where numpy was imported before, which has read the environment by then.
    """
    wanted = settings()
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    if "numpy" in sys.modules:
        values = " ".join(f"{name}='{value}'" for name, value in wanted.items())
        raise StageError(
            f"params.yaml: reproducible: numpy was imported before the stage began, by a start-up file of this Python; "
            f"set it to false, or set the environment first: export {values}"
        )
    os.environ.update(wanted)
