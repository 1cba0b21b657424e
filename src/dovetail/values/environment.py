"""The packages that a process runs with, and what computed, where that is recorded."""

import hashlib
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path

from dovetail.values import computing

PINS = "requirements.lock"  # the packages that a repository says it is run with
# What every registered model needs; its card names the rest.
_ALWAYS = ("joblib", "mlflow")
_WITHOUT_CARD = ("numpy", "pandas", "scikit-learn")
# By whose versions goes what usual scripts make, byte for byte.
_DECIDING = (
    *("catboost", "duckdb", "imbalanced-learn", "jax", "joblib", "keras", "lightgbm", "narwhals", "numpy", "onnx"),
    *("optuna", "pandas", "pandera", "polars", "pyarrow", "scikit-learn", "scipy", "skops", "skrub", "spacy"),
    *("statsmodels", "tensorflow", "torch", "transformers", "xgboost"),
)
_BUILDS = ("", "-cpu", "-gpu", "-lts-cpu")  # of one version, under names of their own
_PIN = re.compile(
    r"([A-Z0-9](?:[\w.-]*[A-Z0-9])?)==(\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?)",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Environment:
    """Every distribution with its version, Python's where it is known, and what computed, where that is recorded."""

    python: str | None
    packages: dict[str, str]
    computing: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """One `name==version` a line, sorted, after a line for Python."""
        python = [f"# Python {self.python}"] if self.python else []
        return "\n".join([*python, *(f"{n}=={v}" for n, v in self.packages.items()), ""])

    @property
    def md5(self) -> str:
        """The digest of `text`: two environments with the same packages have the same."""
        return hashlib.md5(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Change:
    """A package, or `python`, whose version is another, or something else that computed; None: not there."""

    name: str
    expected: str | None
    actual: str | None


def changes(expected: Environment, actual: Environment) -> tuple[Change, ...]:
    """What differs; of packages that mere pins (an environment without Python) do not name they say nothing."""
    names = {*expected.packages, *(actual.packages if expected.python else ())}
    pairs = [(name, expected.packages.get(name), actual.packages.get(name)) for name in sorted(names)]
    python = [("python", expected.python, actual.python)] if expected.python else []
    facts = {*expected.computing, *actual.computing} if expected.computing and actual.computing else ()
    computing = [(name, expected.computing.get(name), actual.computing.get(name)) for name in sorted(facts)]
    return tuple(Change(*pair) for pair in (*python, *pairs, *computing) if pair[1] != pair[2])


def current() -> Environment:
    """The environment of this process."""
    return found_in(sys.path)


def deciding() -> dict[str, str]:
    """Python's minor version, and those of the packages here by which goes what usual scripts make.

    Without the builds for a processor or a GPU (`2.5.1+cu124`, `xgboost-cpu`), by which machines may differ.
    """
    found = {}
    for name in _DECIDING:
        if known := next(filter(None, (_installed(f"{name}{build}") for build in _BUILDS)), None):
            found[name] = known.partition("+")[0]
    return {"python": ".".join(platform.python_version_tuple()[:2]), **found}


def found_in(places: Iterable[str]) -> Environment:
    """This Python with the packages that are installed in these folders."""
    # The folder's name says both; reading 200 METADATA files takes a tenth of a second.
    # https://packaging.python.org/en/latest/specifications/recording-installed-packages/
    folders = (entry for place in places if Path(place).is_dir() for entry in Path(place).glob("*.dist-info"))
    found: dict[str, str] = {}
    for folder in folders:
        name, _, version = folder.stem.partition("-")
        found.setdefault(_canonical(name), version)
    return Environment(platform.python_version(), dict(sorted(found.items())))


def pinned(text: str) -> Environment:
    """The environment that the `name==version` lines of a requirements file ask for here (PEP 508 markers count)."""
    found = {}
    for line in text.splitlines():
        asked = line.partition("#")[0].strip()
        # What `environment.txt` is made of. `packaging` takes a third of a millisecond for each, with its import.
        if pin := _PIN.fullmatch(asked):
            found[_canonical(pin[1])] = pin[2]
        elif asked and (parsed := _parsed(asked)):
            found[_canonical(parsed[0])] = parsed[1]
    python = re.search(r"^# Python (\S+)$", text, re.MULTILINE)
    return Environment(python[1] if python else None, found, computing.parse(text))


@cache
def _parsed(requirement: str) -> tuple[str, str] | None:
    """The name and the version that a requirement pins here; None where it is none, or none that counts."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        asked = Requirement(requirement)
    except InvalidRequirement:  # an option of pip
        return None
    exact = [s.version for s in asked.specifier if s.operator == "=="]
    counts = asked.marker is None or asked.marker.evaluate()
    return (asked.name, exact[0]) if exact and counts else None


def requirements(packages: Sequence[str] | None, environment: Environment | None) -> list[str]:
    """Pins for a model that needs `packages` (None: not known, then scikit-learn's usual ones).

    Where the environment is silent the version is the installed one.
    """
    names = sorted({*_ALWAYS, *(_WITHOUT_CARD if packages is None else packages)})
    known = environment.packages if environment else {}
    return [f"{name}=={found}" for name in names if (found := known.get(_canonical(name)) or _installed(name))]


def _canonical(name: str) -> str:
    # https://packaging.python.org/en/latest/specifications/name-normalization/
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _installed(name: str) -> str | None:
    try:
        return installed_version(name)
    except PackageNotFoundError:
        return None
