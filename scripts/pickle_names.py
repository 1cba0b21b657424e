"""Collect what pickles of scikit-learn, skrub, numpy, scipy and pandas name and call: `src/dovetail/pickle_names.json`.

    python scripts/pickle_names.py            # what is seen and not in the table, and what is in it and not seen
    python scripts/pickle_names.py --write    # add what is seen; review the difference before committing it

Every estimator of `sklearn.utils.all_estimators` and skrub's is fitted, alone and in pipelines, on dense, sparse and
object arrays, and pickled by joblib and pickle in each protocol. A name is added to the table with the role in which it
was seen, never with another. DENIED holds what was seen and is not added, with the reason.
"""

import argparse
import importlib
import io
import json
import pickle
import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import scipy.sparse
import scipy.special
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.base import BaseEstimator

TABLE = Path(__file__).parents[1] / "src/dovetail/pickle_names.json"
KINDS = ("sklearn", "skrub")
DENIED = {
    "builtins.type": "makes classes",
    "builtins.long": "Python 2's",
    "builtins.unicode": "Python 2's",
    "builtins.xrange": "Python 2's",
    "functools.reduce": "calls what it is given",
    "joblib.memory.Memory": "writes files",
    "numpy.memmap": "opens files; an array that was one is read as an array",
    "scipy.stats._distn_infrastructure.rv_continuous_frozen": "its __setstate__ runs text of its state as code",
    "scipy.stats._distn_infrastructure.rv_discrete_frozen": "its __setstate__ runs text of its state as code",
}
# Functions that a FunctionTransformer, a scorer or a selector of a real model names. Each was read: it takes arrays and
# gives arrays, opens nothing, and calls nothing that it is given.
FUNCTIONS = {
    "numpy": "abs all any argmax argmin argsort around array asarray atleast_1d atleast_2d average clip column_stack "
             "concatenate cumprod cumsum diff digitize dot expand_dims fliplr hstack isclose log10 max mean median min "
             "nan_to_num nanmax nanmean nanmedian nanmin nanstd nansum ones_like percentile prod ptp quantile ravel "
             "reshape round sort squeeze stack std sum transpose unique var vstack where zeros_like",
    "sklearn.feature_selection": "chi2 f_classif f_regression mutual_info_classif mutual_info_regression r_regression",
    "sklearn.metrics": "accuracy_score average_precision_score balanced_accuracy_score brier_score_loss "
                       "cohen_kappa_score explained_variance_score f1_score fbeta_score jaccard_score log_loss "
                       "matthews_corrcoef max_error mean_absolute_error mean_absolute_percentage_error "
                       "mean_gamma_deviance mean_pinball_loss mean_poisson_deviance mean_squared_error "
                       "mean_squared_log_error median_absolute_error precision_score r2_score recall_score "
                       "roc_auc_score root_mean_squared_error root_mean_squared_log_error top_k_accuracy_score",
    "sklearn.metrics.pairwise": "additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity "
                                "euclidean_distances haversine_distances laplacian_kernel linear_kernel "
                                "manhattan_distances nan_euclidean_distances polynomial_kernel rbf_kernel "
                                "sigmoid_kernel",
    "sklearn.preprocessing": "add_dummy_feature binarize maxabs_scale minmax_scale normalize power_transform "
                             "quantile_transform robust_scale scale",
    "builtins": "abs bool bytes complex dict float frozenset int len list max min object range round set slice str sum "
                "tuple",
}  # fmt: skip


# Classes of one make, of which models name any: module, what the name ends or begins with, role.
FAMILIES = (
    ("sklearn._loss._loss", r"Cy(?!LossFunction)\w+", "called"),
    ("sklearn._loss.loss", r"(?!Base)\w+(Loss|LossIdentity|Error)", "made"),
    ("sklearn._loss.link", r"(?!Base)\w*(Link|Logit)|Interval", "made"),
    ("sklearn.linear_model._sgd_fast", r"\w*(Hinge|Huber|Insensitive|Loss|Error)", "called"),
    ("sklearn.metrics._dist_metrics", r"(?!PyFunc|DistanceMetric)\w+Distance(32|64)?", "named"),
    ("sklearn.neighbors._kd_tree", r"KDTree(32|64)?", "named"),
    ("sklearn.neighbors._ball_tree", r"BallTree(32|64)?", "named"),
    ("sklearn.gaussian_process.kernels", r"RBF|(?!Generic|Hyper|Kernel|Normal|Station)[A-Z][a-z]\w+", "made"),
    ("sklearn.model_selection._split", r"(?!_|Base)\w*(Fold|Split|Out|ShuffleSplit)", "made"),
    ("sklearn.neural_network._stochastic_optimizers", r"(?!Base)\w+Optimizer", "made"),
)


class Recorder(NumpyUnpickler):
    """Reads a pickle of ours and records each name with its roles: named, made by `__new__`, called."""

    dispatch = NumpyUnpickler.dispatch.copy()

    def __init__(self, content: bytes, seen: dict[str, set[str]]) -> None:
        super().__init__("", io.BytesIO(content), ensure_native_byte_order=False)
        self.seen, self.names = seen, {}

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        modern = module.replace("__builtin__", "builtins").replace("copy_reg", "copyreg")
        self.names[id(found)] = full = f"{modern}.{name}"
        self.seen[full].add("named")
        self.kept = [*getattr(self, "kept", []), found]
        return found

    def note(self, called: Any, role: str) -> None:
        if name := self.names.get(id(called)):
            self.seen[name].add(role)

    def load_reduce(self) -> None:
        self.note(self.stack[-2], "called")
        if self.names.get(id(self.stack[-2])) in ("copyreg._reconstructor", "copyreg.__newobj__"):
            self.note(self.stack[-1][0], "made")
        pickle._Unpickler.load_reduce(self)

    def load_newobj(self) -> None:
        self.note(self.stack[-2], "made with arguments" if self.stack[-1] else "made")
        pickle._Unpickler.load_newobj(self)

    def load_newobj_ex(self) -> None:
        self.note(self.stack[-3], "made with keywords")
        pickle._Unpickler.load_newobj_ex(self)

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex


def main() -> int:
    """Compare what is seen with the table; with `--write` add it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.path.insert(0, str(Path(__file__).parent))
    from fitted_models import fitted

    table: dict[str, list[str]] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    seen = observe(value for _, value in fitted())
    added = rows(seen)
    missing = {role: sorted(set(names) - set(table.get(role, ()))) for role, names in added.items()}
    print(json.dumps(missing, indent=1))
    if asked.write:
        merged = {role: sorted({*table.get(role, ()), *names}) for role, names in added.items()}
        TABLE.write_text(json.dumps(merged, indent=1) + "\n")
    return 1 if any(missing.values()) and not asked.write else 0


def observe(values: Iterator[Any]) -> dict[str, set[str]]:
    """Each name with its roles in the pickles of `values`."""
    seen: dict[str, set[str]] = defaultdict(set)
    for value in values:
        for content in pickles(value):
            Recorder(content, seen).load()
    return seen


def pickles(value: Any) -> Iterator[bytes]:
    """`value` by joblib and by pickle, in the protocols that people meet."""
    for protocol in (2, 3, 4, 5):
        content = io.BytesIO()
        joblib.dump(value, content, protocol=protocol)
        yield content.getvalue()
    for protocol in (0, 2, 4, 5):
        try:
            yield pickle.dumps(value, protocol=protocol)
        except (TypeError, pickle.PicklingError):  # __slots__ need protocol 2
            continue


def rows(seen: dict[str, set[str]]) -> dict[str, list[str]]:
    """The table's sections."""
    roles: dict[str, set[str]] = {"called": set(), "made": set(), "named": set()}
    for name, how in seen.items():
        if name in DENIED or _is_estimator(name):
            continue
        if arguments := how & {"made with arguments", "made with keywords"}:
            raise ValueError(f"{name} is {arguments}: decide what may be asked of it")
        for role in ("called", "made"):
            if role in how:
                roles[role].add(name)
        if how == {"named"}:
            roles["named"].add(name)
    roles["named"] |= _functions()
    for module, pattern, role in FAMILIES:
        here = importlib.import_module(module)
        roles[role] |= {
            f"{module}.{name}"
            for name in dir(here)
            if re.fullmatch(pattern, name)
            and isinstance(getattr(here, name), type)
            and getattr(here, name).__module__ == module
        }
    roles["called"] |= {"builtins.getattr", "copyreg.__newobj__"}  # bounded by the reader, to one use each
    return {role: sorted(names) for role, names in roles.items()}


def _functions() -> set[str]:
    found = {
        f"{module.__name__}.{name}"
        for module in (np, scipy.special)
        for name in dir(module)
        if isinstance(getattr(module, name), np.ufunc)
    }
    found |= {f"numpy.{name}" for name in dir(np) if _is_scalar(getattr(np, name))}
    found |= {"numpy.random._generator.Generator", "numpy.random.mtrand.RandomState"}  # as .skops files name them
    found |= {f"numpy.random.{name}" for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")}
    for module, names in FUNCTIONS.items():
        for name in names.split():
            real = getattr(__import__(module, fromlist=["x"]), name)
            found |= {f"{module}.{name}", f"{real.__module__}.{real.__qualname__}"}
    return found


def _is_scalar(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, np.generic)


def _is_estimator(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] not in KINDS:
        return False
    found = getattr(sys.modules[module], attribute)
    return isinstance(found, type) and issubclass(found, BaseEstimator)


if __name__ == "__main__":
    sys.exit(main())
