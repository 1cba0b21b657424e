"""Real models, fitted: every estimator of scikit-learn and skrub that fits, pipelines, and values beside them."""

import datetime
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
import scipy.sparse
import scipy.special
from sklearn import linear_model, svm
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.datasets import make_classification, make_regression
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)  # fmt: skip
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, f_classif
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor, kernels
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.metrics import f1_score, fbeta_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, StratifiedKFold, TimeSeriesSplit
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)  # fmt: skip
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import all_estimators

X, Y = make_classification(60, 6, n_informative=4, random_state=0)
THREE = np.array(["one", "two", "three"] * 20, dtype=object)
XR, YR = make_regression(60, 6, random_state=0)
NAMES = np.array(["no", "yes"], dtype=object)[Y]
TEXT = ["a b c", "b c d", "c d e"] * 20
FRAME = pd.DataFrame(
    {
        "number": X[:, 0],
        "whole": np.arange(60),
        "missing": [None, 1.5, 2.5] * 20,
        "city": ["Rome", "Oslo", "Bonn"] * 20,
        "note": [f"text {i} of {i % 7} words" for i in range(60)],
        "day": pd.date_range("2024-01-01", periods=60),
        "kind": pd.Categorical(["x", "y", "z"] * 20),
        "flag": [True, False, True] * 20,
    }
)


def fitted() -> Iterator[tuple[str, Any]]:
    """A name and a fitted model, or another value of what models are made of."""
    yield from estimators()
    yield from pipelines()
    yield from skrubs()
    yield from values()


def estimators(*, once: bool = False) -> Iterator[tuple[str, Any]]:
    """Every estimator of scikit-learn that fits, on all the kinds of rows that it takes, or `once` on the first of them."""
    from sklearn.utils._test_common.instance_generator import _construct_instances

    for name, cls in all_estimators():
        try:
            instances = list(_construct_instances(cls))
        except SkipTest:
            continue
        for instance in instances:
            for where, rows, target in (
                ("", X, Y), (" of numbers", XR, YR), (" of text", np.abs(X), NAMES), (" sparse", scipy.sparse.csr_matrix(np.abs(X)), Y),
                (" of columns", np.abs(X[:, :1]), Y), (" of three", X, THREE), (" of several", X, np.column_stack([Y, 1 - Y])), (" of documents", TEXT, Y),
                (" of mappings", [{"a": 1, "b": float(i)} for i in range(60)], Y),
            ):  # fmt: skip
                if (done := fit(clone(instance), rows, target)) is not None:
                    yield f"{name}{where}", done
                    if once:
                        break


def fit(model: Any, rows: Any, target: Any) -> Any:
    """The model fitted; None where it does not take these rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return model.fit(rows, target)
        except Exception:  # noqa: BLE001  (each refuses in its own words)
            return None


def pipelines() -> Iterator[tuple[str, Any]]:
    """Thirty pipelines as people write them."""
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["number", "whole", "missing"]),
            ("text", OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include=["object", "string"])),
        ],
        remainder="drop",
    )
    logistic = LogisticRegression(max_iter=300)
    for index, (model, rows, target) in enumerate(
        [
            (make_pipeline(columns, logistic), FRAME, NAMES),
            (make_pipeline(columns, RandomForestClassifier(3)), FRAME, Y),
            (make_pipeline(columns, HistGradientBoostingClassifier(max_iter=3)), FRAME, NAMES),
            (make_pipeline(clone(columns).set_output(transform="pandas"), logistic), FRAME, Y),
            (make_pipeline(FunctionTransformer(np.log1p), logistic), np.abs(X), Y),
            (make_pipeline(FunctionTransformer(np.log1p, np.expm1, check_inverse=False), Ridge()), np.abs(XR), YR),
            (make_pipeline(FunctionTransformer(partial(np.clip, a_min=-1, a_max=1)), logistic), X, Y),
            (make_pipeline(FunctionTransformer(scipy.special.expit), logistic), X, Y),
            (make_pipeline(SelectKBest(f_classif, k=2), logistic), X, NAMES),
            (make_pipeline(SelectFromModel(RandomForestClassifier(3)), logistic), X, Y),
            (make_pipeline(RFE(logistic, n_features_to_select=2), logistic), X, Y),
            (make_pipeline(PolynomialFeatures(), StandardScaler(), Ridge()), XR, YR),
            (make_pipeline(SplineTransformer(), Ridge()), XR, YR),
            (make_pipeline(KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), LogisticRegression()), X, Y),
            (make_pipeline(PowerTransformer(), QuantileTransformer(n_quantiles=10), RobustScaler(), logistic), X, Y),
            (make_pipeline(FeatureUnion([("a", PCA(2)), ("b", MinMaxScaler())]), SVC(probability=False)), X, NAMES),
            (make_pipeline(TfidfVectorizer(), logistic), TEXT, NAMES),
            (make_pipeline(CountVectorizer(ngram_range=(1, 2)), MultinomialNB()), TEXT, Y),
            (make_pipeline(HashingVectorizer(n_features=64), SGDClassifier()), TEXT, Y),
            (make_pipeline(TfidfVectorizer(), TruncatedSVD(2), KNeighborsClassifier()), TEXT, Y),
            (make_pipeline(KNNImputer(), KNeighborsRegressor()), XR, YR),
            (make_pipeline(Nystroem(n_components=5), svm.LinearSVC()), X, Y),
            (make_pipeline(OrdinalEncoder(), DecisionTreeClassifier()), FRAME[["city", "kind"]], NAMES),
            (make_pipeline(TargetEncoder(), logistic), FRAME[["city", "note"]], NAMES),
            (TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1), XR, np.abs(YR)),
            (GridSearchCV(logistic, {"C": [1, 2]}, scoring=make_scorer(f1_score)), X, Y),
            (GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1, 2]}, cv=StratifiedKFold(3)), X, NAMES),
            (RandomizedSearchCV(Ridge(), {"alpha": [1, 2, 3]}, n_iter=2, cv=KFold(3), random_state=0), XR, YR),
            (GridSearchCV(logistic, {"C": [1]}, scoring={"f": make_scorer(fbeta_score, beta=2), "a": "accuracy"}, refit="f"), X, Y),
            (StackingClassifier([("a", logistic), ("b", RandomForestClassifier(3))], final_estimator=logistic), X, NAMES),
            (VotingClassifier([("a", logistic), ("b", SVC())]), X, Y),
            (GaussianProcessRegressor(kernels.RBF() * kernels.ConstantKernel() + kernels.WhiteKernel() + kernels.Matern()), XR, YR),
            (GaussianProcessClassifier(kernels.RationalQuadratic() + kernels.DotProduct() ** 2), X, NAMES),
            (GaussianProcessRegressor(kernels.ExpSineSquared() + kernels.CompoundKernel([kernels.PairwiseKernel()])), XR, YR),
            (HistGradientBoostingRegressor(max_iter=3, categorical_features="from_dtype"), FRAME[["number", "kind"]], YR),
            *[(GradientBoostingRegressor(n_estimators=2, loss=loss), XR, YR) for loss in ("squared_error", "absolute_error", "huber", "quantile")],
            *[(HistGradientBoostingRegressor(max_iter=2, loss=loss, quantile=0.5), XR, np.abs(YR) + 1)
              for loss in ("squared_error", "absolute_error", "gamma", "poisson", "quantile")],
            (GradientBoostingClassifier(n_estimators=2, init=DecisionTreeClassifier()), X, NAMES),
            (GradientBoostingClassifier(n_estimators=2, loss="exponential"), X, Y),
            *[(linear_model.SGDClassifier(loss=loss), X, Y) for loss in ("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron",
              "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")],
            *[(KNeighborsClassifier(algorithm=how, metric=metric), X, Y) for how in ("ball_tree", "kd_tree")
              for metric in ("euclidean", "manhattan", "chebyshev", "minkowski")],
            *[(KNeighborsClassifier(algorithm="ball_tree", metric=metric), X, Y) for metric in ("hamming", "canberra", "braycurtis")],
            (KNeighborsClassifier(algorithm="ball_tree", metric="seuclidean", metric_params={"V": np.ones(6)}), X, Y),
            (KNeighborsClassifier(algorithm="ball_tree", metric="mahalanobis", metric_params={"V": np.eye(6)}), X, Y),
            (ExtraTreesRegressor(2, criterion="friedman_mse"), XR, YR),
            (RandomForestClassifier(2, random_state=np.random.RandomState(0)), X, Y),
            (Pipeline([("scale", StandardScaler()), ("model", LinearRegression())]).set_output(transform="pandas"), FRAME[["number", "whole"]], YR),
            (GridSearchCV(LinearRegression(), {}, cv=TimeSeriesSplit(3)), XR, YR),
        ]
    ):  # fmt: skip
        done = fit(clone(model), rows, target)
        yield f"pipeline {index} {type(model).__name__}", done if done is not None else model


def skrubs() -> Iterator[tuple[str, Any]]:
    """Skrub's transformers, each alone and before a model."""
    import skrub

    target = Y
    for name, model in {
        "tabular_pipeline": skrub.tabular_pipeline("classifier"),
        "tabular_pipeline linear": skrub.tabular_pipeline(LogisticRegression(max_iter=300)),
        "tabular_pipeline regressor": skrub.tabular_pipeline("regressor"),
        "TableVectorizer": skrub.TableVectorizer(),
        "TableVectorizer minhash": skrub.TableVectorizer(
            high_cardinality=skrub.MinHashEncoder(n_components=3), cardinality_threshold=5
        ),
        "TableVectorizer gap": skrub.TableVectorizer(
            high_cardinality=skrub.GapEncoder(n_components=2, max_iter=2), cardinality_threshold=5
        ),
        "TableVectorizer specific": skrub.TableVectorizer(specific_transformers=[(OrdinalEncoder(), ["city"])]),
        "Cleaner": skrub.Cleaner(),
        "SelectCols": skrub.SelectCols(["number", "city"]),
        "DropCols": skrub.DropCols(["city"]),
        "ApplyToCols": skrub.ApplyToCols(StandardScaler(), cols=["number", "whole"]),
    }.items():
        done = fit(model, FRAME, target)
        yield f"skrub {name}", done if done is not None else model
    for name in (
        "DatetimeEncoder",
        "ToDatetime",
        "ToCategorical",
        "ToFloat",
        "ToFloat32",
        "StringEncoder",
        "GapEncoder",
        "MinHashEncoder",
        "SimilarityEncoder",
        "SquashingScaler",
    ):
        cls = getattr(skrub, name, None)
        for column in ("note", "day", "number", "city"):
            if cls is not None and (done := fit(cls(), FRAME[column], target)) is not None:
                yield f"skrub {name} {column}", done
    numbers = FRAME[["number", "whole"]]
    if hasattr(skrub, "SquashingScaler") and (done := fit(skrub.SquashingScaler(), numbers, target)) is not None:
        yield "skrub SquashingScaler", done
    selectors = skrub.selectors
    for name, chosen in {
        "numeric": selectors.numeric(), "string": selectors.string(), "all": selectors.all() - ["city"],
        "glob": selectors.glob("n*") | selectors.cols("city"), "cardinality": selectors.cardinality_below(5),
    }.items():  # fmt: skip
        if (done := fit(skrub.SelectCols(chosen), FRAME, target)) is not None:
            yield f"skrub SelectCols {name}", done


def values() -> Iterator[tuple[str, Any]]:
    """What stands in models beside estimators: arrays, tables, and Python's own containers."""
    dtypes = (
        "?",
        "i1",
        "u1",
        "i2",
        "u2",
        "i4",
        "u4",
        "i8",
        "u8",
        "f2",
        "f4",
        "f8",
        "c8",
        "c16",
        ">f8",
        "S3",
        "U3",
        "M8[ns]",
        "m8[s]",
        "O",
    )
    for kind in dtypes:
        array = np.zeros((2, 3), dtype=kind)
        yield f"array {kind}", array
        yield f"scalar {kind}", array[0, 0]
        yield f"dtype {kind}", array.dtype
    yield "structured", np.zeros(2, dtype=[("a", "f8"), ("b", "S2"), ("c", "i4", (2,))])
    yield "array of objects", np.array(["a", None, 1.5, ("b",)], dtype=object)
    yield "fortran", np.asfortranarray(np.eye(3))
    yield "matrix", np.asmatrix(np.eye(2))
    yield "masked", np.ma.masked_array([1.0, 2.0], [True, False])
    yield (
        "types",
        [
            np.float64,
            np.float32,
            np.int64,
            np.int32,
            np.bool_,
            np.str_,
            np.object_,
            np.number,
            np.ndarray,
            float,
            int,
            str,
            object,
            bool,
        ],
    )
    for kind in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia"):
        yield f"sparse {kind} matrix", getattr(scipy.sparse, f"{kind}_matrix")(np.eye(3))
        yield f"sparse {kind} array", getattr(scipy.sparse, f"{kind}_array")(np.eye(3))
    yield "random", [np.random.RandomState(0), np.random.default_rng(0), *(
        np.random.Generator(getattr(np.random, name)(0)) for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
    ), np.random.SeedSequence(0)]  # fmt: skip
    yield "python", [
        {1, 2}, frozenset({1}), slice(1, 2), range(3), 1j, bytearray(b"a"), b"a", OrderedDict(a=1), defaultdict(list, a=[1]),
        Counter("aab"), deque([1], maxlen=2), Decimal("1.5"), Fraction(1, 3), datetime.date(2024, 1, 1), datetime.time(1),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1), partial(np.clip, a_min=0), Ellipsis,
        datetime.timezone(datetime.timedelta(hours=1)), NotImplemented,
    ]  # fmt: skip
    yield "frame", FRAME
    yield "frame of numbers", FRAME[["number", "whole"]]
    for dtype in (
        "Int64",
        "Int32",
        "Float64",
        "Float32",
        "boolean",
        "string",
        "string[python]",
        "string[pyarrow]",
        "str",
        "category",
        "Sparse[float64]",
        "object",
    ):
        series = pd.Series(["1", "0", None] if "str" in dtype else [1, 0, 1], dtype=dtype)
        yield f"series {dtype}", series
        yield f"dtype {dtype}", series.dtype
    yield "index", [pd.Index([1, 2]), pd.Index(["a", "b"]), pd.RangeIndex(3), pd.date_range("2024", periods=2, tz="UTC"),
                    pd.date_range("2024", periods=2, tz="Europe/Rome"),
                    pd.MultiIndex.from_product([[1, 2], ["a"]]), pd.CategoricalIndex(["a"]), pd.period_range("2024", periods=2, freq="D"),
                    pd.timedelta_range("1D", periods=2), pd.interval_range(0, 3), pd.IntervalIndex.from_breaks([0, 1, 2])]  # fmt: skip
    yield (
        "times",
        [
            pd.Timestamp("2024-01-01"),
            pd.Timestamp("2024-01-01", tz="UTC"),
            pd.Timedelta(1),
            pd.Period("2024"),
            pd.NaT,
            pd.NA,
            pd.Interval(0, 1),
        ],
    )
    yield "offsets", [pd.tseries.offsets.Day(), pd.tseries.offsets.MonthEnd()]
    yield "splines", [scipy.interpolate.BSpline([0, 1, 2, 3], [1, 2], 1),
                      scipy.interpolate.CubicSpline([0, 1, 2], [0, 1, 4]), scipy.interpolate.PchipInterpolator([0, 1, 2], [0, 1, 4])]  # fmt: skip
    for bunch in ({"a": 1}, {}):
        from sklearn.utils import Bunch

        yield "bunch", Bunch(**bunch)
