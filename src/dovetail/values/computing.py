"""What computed a model, besides its packages: the machine, its cores, the libraries that use them, and what was set.

The same code on the same data gives other last bits with another kernel of BLAS, and other models with another number
of threads: sums are taken in another order.
"""

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MACHINE, CORES, CPU = "machine", "cores", "cpu"
BLAS_KERNEL, BLAS_THREADS, OPENMP_THREADS = "blas.kernel", "blas.threads", "openmp.threads"
JOBLIB_BACKEND, JOBLIB_JOBS = "joblib.backend", "joblib.n_jobs"
VARIABLE = "variable."
VARIABLES = (
    "ARROW_USER_SIMD_LEVEL", "BLIS_NUM_THREADS", "GOTO_NUM_THREADS", "JOBLIB_MULTIPROCESSING", "JOBLIB_START_METHOD",
    "LOKY_MAX_CPU_COUNT", "MKL_CBWR", "MKL_DYNAMIC", "MKL_NUM_THREADS", "NPY_DISABLE_CPU_FEATURES",
    "NUMEXPR_MAX_THREADS", "NUMEXPR_NUM_THREADS", "OMP_DYNAMIC", "OMP_NUM_THREADS", "OMP_SCHEDULE", "OMP_THREAD_LIMIT",
    "OPENBLAS_CORETYPE", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "PYTHONHASHSEED", "RAYON_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
_AS_MANY_AS_CORES = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS")  # that threads are, where nobody sets them
# What numpy, OpenBLAS and compilers choose other code for.
_FEATURES = frozenset({
    "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16", "amx_tile", "asimd",
    "sve",
})  # fmt: skip
_LINE = re.compile(r"^# computing (.+?): (.*)$", re.MULTILINE)


def of_machine() -> dict[str, str]:
    """What this process can say without importing anything: the machine, its cores, and the variables that are set."""
    found = {MACHINE: platform.machine(), CORES: str(cores()), CPU: " ".join(sorted(_features()))}
    variables = {f"{VARIABLE}{name}": os.environ[name] for name in VARIABLES if os.environ.get(name)}
    return {key: value for key, value in found.items() if value} | variables


def of_process(model: Any = None) -> dict[str, str]:
    """The same with the libraries that this process has loaded, after `model` was: what they run on."""
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    found: dict[str, set[str]] = {}
    for library in threadpool_info():  # https://github.com/joblib/threadpoolctl
        kind = library["user_api"]
        version = f" {library['version']}" if library.get("version") else ""
        found.setdefault(f"{kind}.library", set()).add(library["prefix"] + version)
        found.setdefault(f"{kind}.threads", set()).add(str(library["num_threads"]))
        if library.get("architecture"):
            found.setdefault(f"{kind}.kernel", set()).add(library["architecture"])
    found[JOBLIB_JOBS] = set(_jobs(model))
    if "joblib" in sys.modules:
        from joblib.parallel import get_active_backend

        found[JOBLIB_BACKEND] = {type(get_active_backend()[0]).__name__.removesuffix("Backend").lower()}
    return of_machine() | {key: ", ".join(sorted(values)) for key, values in found.items() if values}


def _jobs(model: Any) -> Iterator[str]:
    """The `n_jobs` of an estimator and of those in it, where one is set."""
    try:
        params = {"n_jobs": getattr(model, "n_jobs", None), **model.get_params()}
    except Exception:  # noqa: BLE001  (no estimator, or one with ways of its own)
        params = {"n_jobs": getattr(model, "n_jobs", None)}
    for key, value in params.items():
        if key.rpartition("__")[2] == "n_jobs" and value is not None:
            yield str(value)


def text(facts: Mapping[str, str]) -> str:
    """The facts as lines that a reader of requirements passes over; `parse` reads them again."""
    return "".join(f"# computing {key}: {' '.join(value.split())}\n" for key, value in sorted(facts.items()))


def parse(lines: str) -> dict[str, str]:
    """The facts that `text` wrote among other lines."""
    return dict(_LINE.findall(lines))


def digest(facts: Mapping[str, str]) -> str:
    """The md5 of `text`."""
    return hashlib.md5(text(facts).encode(), usedforsecurity=False).hexdigest()


def settings(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that let a process here compute as it was recorded: None where one has to be unset.

    Empty where nothing is recorded, or `here`, what `of_machine` says, is the same machine with the same variables.
    """
    if not recorded or all(recorded.get(key) == here.get(key) for key in {*_of_machine(recorded), *_of_machine(here)}):
        return {}
    found: dict[str, str | None] = dict.fromkeys(_variables(here))
    if (threads := recorded.get(OPENMP_THREADS, "")).isdigit():
        found["OMP_NUM_THREADS"] = threads
    if (threads := recorded.get(BLAS_THREADS, "")).isdigit():
        found["OPENBLAS_NUM_THREADS"] = threads
    if recorded.get(CORES, here.get(CORES)) != here.get(CORES):
        found |= dict.fromkeys(_AS_MANY_AS_CORES, recorded[CORES])
    kernel = recorded.get(BLAS_KERNEL, "")
    if kernel and "openblas" in recorded.get("blas.library", "") and can_use(kernel, here):
        found["OPENBLAS_CORETYPE"] = kernel
    return found | _variables(recorded)


def elsewhere(recorded: Mapping[str, str], here: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What `of_machine` says otherwise here than is recorded, with both values; empty where nothing is recorded."""
    if MACHINE not in recorded:
        return {}
    keys = sorted({*_of_machine(recorded), *_of_machine(here)})
    pairs = {key: (recorded.get(key, ""), here.get(key, "")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _of_machine(facts: Mapping[str, str]) -> Iterable[str]:
    return (key for key in facts if key in (MACHINE, CORES, CPU) or key.startswith(VARIABLE))


def _variables(facts: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(VARIABLE): value for key, value in facts.items() if key.startswith(VARIABLE)}


# OpenBLAS's names of its kernels for x86-64, and the features that each needs; it runs none that a CPU has not.
KERNELS: Mapping[str, frozenset[str]] = {
    "SapphireRapids": frozenset({"avx512f", "avx512_bf16"}),
    "Cooperlake": frozenset({"avx512f", "avx512_bf16"}),
    "SkylakeX": frozenset({"avx512f", "avx512bw", "avx512vl"}),
    "Zen": frozenset({"avx2", "fma"}),
    "Haswell": frozenset({"avx2", "fma"}),
    "Sandybridge": frozenset({"avx"}),
    "Nehalem": frozenset({"sse4_2"}),
}


def can_use(kernel: str, here: Mapping[str, str]) -> bool:
    """Whether this machine can compute with the kernel."""
    return kernel in KERNELS and KERNELS[kernel] <= set(here.get(CPU, "").split())


def unavailable(recorded: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Why this machine cannot compute as it was recorded, and what follows; empty where it can."""
    follows = "the last bits of numbers can differ"
    if recorded.get(MACHINE, here[MACHINE]) != here[MACHINE]:
        return f"it was computed on {recorded[MACHINE]}, this is {here[MACHINE]}: {follows}"
    kernel = recorded.get(BLAS_KERNEL, "")
    if kernel in KERNELS and not can_use(kernel, here):
        lacking = " ".join(sorted(KERNELS[kernel] - set(here.get(CPU, "").split())))
        return f"it was computed by BLAS's kernel {kernel}, which needs {lacking}, and this CPU has none: {follows}"
    lacks = sorted(set(recorded.get(CPU, "").split()) - set(here.get(CPU, "").split()))
    return f"it was computed on a CPU with {' '.join(lacks)}, and this one has none: {follows}" if lacks else ""


def cores() -> int:
    """Of the machine, those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _features() -> frozenset[str]:
    """The CPU's features that matter, as Linux names them; none where it does not say."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    listed = re.search(r"^(?:flags|Features)\s*:(.*)$", about, re.MULTILINE)
    return _FEATURES & set(listed[1].split()) if listed else frozenset()
