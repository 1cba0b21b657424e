"""Raw files and params.yaml as strangers have them, and worse, as strategies."""

import copy
import datetime as dt
import gzip
import io
import json
from decimal import Decimal

import polars as pl
import xlsxwriter
import yaml
from hypothesis import strategies as st
from stages_in_process import DATASET, MODEL

CELLS = st.sampled_from(
    [
        *("1", "2", "-3", "3.0", "2.5", "1e39", "1e400", "inf", "-inf", "nan", "NaN", "NA", "", " ", "?", "None", "-"),
        *("true", "FALSE", "a", "b", "größe", "日本", "1,5", "1.234,56", "$1,000", "12345678901234567890123", "0x1F"),
        *("2026-01-02", "2026-01-02T03:04:05Z", "01/02/2026", "2026-02-30", "a;b", 'say ""so""', "'", "\t", "\x00"),
        *("{}", "[]", "*", "^x$", "line\nline", "\u2028", "\ufeff", "x" * 5000, "9223372036854775808", "1_000"),
    ]
)
NAMES = st.sampled_from(
    [
        "x",
        "t",
        "y",
        "",
        " x",
        "X",
        "row",
        "reason",
        "*",
        "^x$",
        "a.b",
        "x[0]",
        "x<1",
        "größe",
        "1",
        "target",
        "\x00",
        "y",
    ]
) | st.text(max_size=4)
FORMATS = st.sampled_from([".csv", ".csv", ".csv", ".tsv", ".csv.gz", ".jsonl", ".parquet", ".arrow", ".xlsx"])


USUAL = {  # what the columns of a table in order hold
    "x": ["1", "2", "-3", "2.5", "1e3", "", "0"],
    "t": ["a", "größe", "two words", "", "2026-01-02", "17"],
    "y": ["a", "b"],
}


def _one_in(draw, number):
    return draw(st.integers(1, number)) == number


@st.composite
def text_tables(draw):
    """CSV in order but for a few places, or CSV more or less."""
    if _one_in(draw, 4):
        names = draw(st.lists(NAMES, min_size=1, max_size=4))
        cells = [CELLS for _ in names]
    else:
        names = ["x", "t", "y"]
        odd = draw(st.sampled_from(["", "", "x", "t", "y"]))
        cells = [st.sampled_from(USUAL[name]) | (CELLS if name == odd else st.nothing()) for name in names]
    rows = draw(st.lists(st.tuples(*cells).map(list), min_size=1, max_size=8)) * draw(st.sampled_from([1, 3, 6]))
    if _one_in(draw, 12):
        rows[-1] = rows[-1][:-1] if draw(st.booleans()) else [*rows[-1], "more"]
    separator, quoted = draw(st.sampled_from([",", ",", ",", ",", ";", "\t"])), draw(st.booleans())
    lines = [separator.join(f'"{cell}"' if quoted else cell for cell in row) for row in [names, *rows]]
    if _one_in(draw, 12):
        lines.insert(draw(st.integers(0, len(lines))), "")
    end = draw(st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"]))
    text = end.join(lines) + draw(st.sampled_from([end, "", end]))
    return text.encode(draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "cp1252"])), "replace")


@st.composite
def json_lines(draw):
    values = st.none() | st.booleans() | st.integers() | st.floats() | CELLS | st.just([1]) | st.just({"a": 1})
    usual = st.fixed_dictionaries({name: st.sampled_from(cells) for name, cells in USUAL.items()})
    rows = draw(st.lists(usual, min_size=1, max_size=8)) * 4
    rows += draw(st.lists(st.dictionaries(NAMES | st.sampled_from("xty"), values, max_size=4), max_size=2))
    rows += draw(st.lists(values, max_size=1)) if _one_in(draw, 8) else []
    return "\n".join(json.dumps(row) for row in rows).encode()


DAY = dt.datetime(2026, 1, 2)  # noqa: DTZ001  Parquet has such times
COLUMNS = [
    ([1, 2, None], pl.Int64),
    ([1, 0, 1], pl.UInt8),
    ([1.5, float("nan"), float("inf")], pl.Float64),
    ([1.5, None, 2.5], pl.Float32),
    (["a", None, "NA"], pl.String),
    (["1", "2", "3.0"], pl.String),
    (["a", "b", "a"], pl.Categorical),
    (["a", "b", "a"], pl.Enum(["a", "b"])),
    ([True, None, False], pl.Boolean),
    ([dt.date(2026, 1, 2), None, dt.date(1, 1, 1)], pl.Date),
    ([DAY, None, DAY.replace(year=9999)], pl.Datetime("us")),
    ([DAY, None, None], pl.Datetime("ns", "Europe/Berlin")),
    ([dt.timedelta(1), None, None], pl.Duration),
    ([dt.time(1), None, None], pl.Time),
    ([Decimal("1.50"), None, Decimal("-2.25")], pl.Decimal(10, 2)),
    ([[1], None, []], pl.List(pl.Int64)),
    ([{"a": 1}, None, {"a": 2}], pl.Struct({"a": pl.Int64})),
    ([b"a", None, b"\xff"], pl.Binary),
    ([None, None, None], pl.Null),
]


@st.composite
def typed_tables(draw):
    """Parquet, Arrow or an Excel sheet's content."""
    names = [
        "y",
        *draw(
            st.lists((NAMES | st.sampled_from("xt")).filter(lambda n: n != "y"), min_size=1, max_size=3, unique=True)
        ),
    ]
    columns = [draw(st.sampled_from(COLUMNS)) for _ in names]
    if not _one_in(draw, 4):
        columns[0] = (["a", "b", "a"], pl.String)
    times = draw(st.sampled_from([0, 1, 1, 10]))
    return pl.DataFrame(
        [
            pl.Series(name, values * max(times, 1), dtype=dtype).head(len(values) * times)  # there is no empty struct
            for name, (values, dtype) in zip(names, columns, strict=True)
        ]
    )


def _sheet(rows):
    written = io.BytesIO()
    with xlsxwriter.Workbook(written, {"in_memory": True, "nan_inf_to_errors": True}) as book:
        book.set_properties({"created": DAY})  # the same bytes at any time
        page = book.add_worksheet()
        for row, cells in enumerate(rows):
            for column, cell in enumerate(cells):
                page.write(row, column, cell)
    return written.getvalue()


@st.composite
def raw_files(draw):
    """The name of a raw file and its bytes; one in four damaged."""
    ending = draw(FORMATS)
    if ending in {".parquet", ".arrow"}:
        written = io.BytesIO()
        table = draw(typed_tables())
        table.write_parquet(written) if ending == ".parquet" else table.write_ipc(written)
        content = written.getvalue()
    elif ending == ".xlsx":
        cells = st.tuples(st.integers(-9, 9) | CELLS, st.sampled_from("ab")).map(list)
        names = draw(st.lists(NAMES, min_size=1, max_size=3)) if _one_in(draw, 5) else ["x", "y"]
        rows = draw(st.lists(cells, min_size=1, max_size=6)) * 3
        content = _sheet([names, *rows, *draw(st.lists(st.lists(CELLS, max_size=3), max_size=1))])
    else:
        content = draw(json_lines() if ending == ".jsonl" else text_tables())
        content = gzip.compress(content, mtime=0) if ending.endswith(".gz") else content
    if content and _one_in(draw, 6):
        place = draw(st.integers(0, len(content) - 1))
        damage = draw(st.sampled_from([b"", b"\xff", b"\x00", b'"', b"\n"]) | st.binary(max_size=3))
        content = content[:place] + damage + content[place + draw(st.integers(0, 9)) :]
    return f"raw{ending}", content


@st.composite
def schemas(draw):
    """A dataset's block that is itself in order."""
    dtypes = st.sampled_from(["str", "int64", "int32", "float64", "float32", "bool", "date", "datetime"])
    names = draw(st.lists(st.sampled_from(["x", "t", "y"]), min_size=1, unique=True))
    right = {"x": "float64", "t": "str", "y": "str"}
    columns = {
        name: {
            "dtype": draw(dtypes) if _one_in(draw, 4) else right[name],
            "nullable": not _one_in(draw, 4),
            "required": False,
            "unique": _one_in(draw, 20),
        }
        for name in names
    }
    decimal = draw(st.sampled_from([".", ".", ","]))
    clean = {
        "engine": draw(st.sampled_from(["polars", "polars", "pandas"])),
        "max_rejected": draw(st.sampled_from([0.0, 1.0, 1.0])),
        "separator": draw(st.sampled_from([None] * 6 + [";"])),
        "null_values": draw(st.sampled_from([[""], ["", "NA"], []])),
        "encoding": draw(st.sampled_from(["utf-8"] * 6 + ["utf-16", "cp1252"])),
        "decimal": decimal,
        "thousands": draw(st.sampled_from(["", "." if decimal == "," else ","])),
    }
    return {"schema": {"columns": columns, "strict": _one_in(draw, 10)}, "clean": clean}


ODD = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1e308, float("inf"), float("nan"), 10**30])
    | st.sampled_from(
        [
            *(
                "",
                "x",
                "y",
                "auto",
                "none",
                "sklearn.svm.SVC",
                "sklearn.nothing.X",
                "os.path",
                "a.b",
                "${x}",
                "*",
                "mean",
            ),
            *("sklearn.linear_model.Ridge", "sklearn.dummy.DummyClassifier", "int64", "str", "random", "ü", "x" * 300),
        ]
    )
    | st.dates()
    | st.lists(st.integers(0, 2) | st.sampled_from(["x", "y"]), max_size=3)
    | st.dictionaries(
        st.sampled_from(["x", "estimator", "params", "min_value"]) | st.integers(0, 1), st.integers(), max_size=2
    )
)


ESTIMATORS = st.sampled_from(
    [
        *("sklearn.linear_model.LogisticRegression", "sklearn.svm.SVC", "sklearn.naive_bayes.GaussianNB"),
        *("sklearn.ensemble.HistGradientBoostingClassifier", "sklearn.neighbors.KNeighborsClassifier"),
        *("sklearn.linear_model.Ridge", "sklearn.tree.DecisionTreeRegressor", "sklearn.dummy.DummyClassifier"),
        *("sklearn.pipeline.Pipeline", "sklearn.ensemble.VotingClassifier", "sklearn.cluster.KMeans"),
        *("sklearn.model_selection.GridSearchCV", "sklearn.preprocessing.StandardScaler", "sklearn.svm.NuSVC"),
    ]
)
CHECKS = st.sampled_from(["eq", "gt", "in_range", "isin", "notin", "str_matches", "str_length", "str_startswith", "no"])
SCALARS = ODD.filter(lambda value: not isinstance(value, list | dict))
LOGISTIC = "sklearn.linear_model.LogisticRegression"
PARTS = st.recursive(
    ESTIMATORS.map(lambda path: {"estimator": path}) | SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.builds(lambda name, part: [[name, part]], st.sampled_from(["a", "b__c", ""]), inner)
        | st.builds(lambda path, given: {"estimator": path, "params": {"estimator": given}}, ESTIMATORS, inner)
    ),
    max_leaves=4,
)
STEPS = st.sampled_from(
    [
        *("sklearn.preprocessing.StandardScaler", "sklearn.decomposition.PCA", "sklearn.impute.SimpleImputer"),
        *(
            "skrub.TableVectorizer",
            "sklearn.svm.SVC",
            "sklearn.no.Such",
            "os.path.join",
            "sklearn.preprocessing.Normalizer",
        ),
    ]
)
WHOLE = {  # an estimator with params that go with it
    "stacking": (
        "sklearn.ensemble.StackingClassifier",
        st.fixed_dictionaries({"estimators": st.lists(st.tuples(st.sampled_from("ab"), PARTS).map(list), max_size=2)}),
    ),
    "pipeline": ("sklearn.pipeline.Pipeline", st.fixed_dictionaries({"steps": PARTS})),
    "calibrated": ("sklearn.calibration.CalibratedClassifierCV", st.fixed_dictionaries({"estimator": PARTS})),
    "weighed": (LOGISTIC, st.fixed_dictionaries({"class_weight": ODD, "threshold": ODD})),
    "decided": (
        "sklearn.naive_bayes.GaussianNB",
        st.fixed_dictionaries(
            {"threshold": st.floats(-0.1, 1.1), "class_weight": st.sampled_from(["balanced", None, {}])}
        ),
    ),
    "boosted": (
        "xgboost.XGBClassifier",
        st.dictionaries(st.sampled_from(["n_estimators", "max_depth", "booster"]), ODD),
    ),
    "searched": (
        "sklearn.model_selection.GridSearchCV",
        st.fixed_dictionaries({"estimator": PARTS, "param_grid": ODD, "cv": st.integers(-1, 4)}),
    ),
}
LIKELY = {  # places in which many values are possible
    ("models", "m", "target"): st.sampled_from(["x", "t", "y", "z"]),
    ("models", "m", "train", "estimator"): ESTIMATORS,
    ("models", "m", "train", "params"): st.just({})
    | st.dictionaries(st.sampled_from(["max_depth", "criterion", "class_weight", "splitter", "min_samples_leaf"]), ODD),
    ("models", "m", "train", "prepare"): st.sampled_from(["auto", "minimal", "none"])
    | st.lists(
        STEPS | st.builds(lambda path, given: {"estimator": path, "params": given}, STEPS, st.just({"x": 1})),
        max_size=2,
    ),
    ("models", "m", "train", "search"): st.fixed_dictionaries(
        {
            "space": st.dictionaries(
                st.sampled_from(
                    [
                        "max_depth",
                        "criterion",
                        "prepare",
                        "prepare__pca__n_components",
                        "estimator__C",
                        "a__C",
                        "x",
                        "__",
                    ]
                ),
                ODD
                | st.lists(ODD, max_size=3)
                | st.builds(lambda low, high: {"low": low, "high": high}, st.integers(-1, 5), st.floats(-1, 9))
                | st.builds(
                    lambda low, high, more: {"low": low, "high": high, **more},
                    ODD,
                    ODD,
                    st.sampled_from([{}, {"log": True}, {"step": 1}]),
                ),
                max_size=3,
            ),
            "trials": st.integers(0, 3),
        },
        optional={"metric": st.sampled_from(["accuracy", "r2", "roc_auc", "no"]), "seed": st.integers(-1, 2**33)},
    ),
    ("models", "m", "split", "folds"): st.integers(1, 30),
    ("models", "m", "split", "repeats"): st.integers(0, 3),
    ("models", "m", "gates"): st.dictionaries(
        st.sampled_from(["accuracy", "baseline", "data", "slices", "champion", "pickle", "serving", "validation.r2"]),
        ODD
        | st.dictionaries(
            st.sampled_from(["min", "max", "on", "margin", "metric", "required", "allow", "p99_ms", "x"]),
            ODD | st.sampled_from(["low", {"metric": "accuracy", "min": 0.5}]),
            max_size=3,
        ),
        max_size=3,
    ),
    ("models", "m", "split", "time"): st.sampled_from(["x", "t", "y", "z"]),
    ("models", "m", "split", "group"): st.sampled_from(["x", "t", "y", "z"]),
    ("models", "m", "split", "test_size"): st.floats(0.01, 0.99),
    ("models", "m", "split", "seed"): st.integers(0, 2**70),
    ("models", "m", "split", "stratify"): st.booleans() | st.just("auto"),
    ("models", "m", "split", "drop"): st.lists(st.sampled_from(["x", "t", "y", "z"]), max_size=3),
    ("datasets", "d", "schema", "columns", "x", "checks"): st.dictionaries(CHECKS, ODD, max_size=2),
    ("datasets", "d", "schema", "columns", "y", "checks"): st.dictionaries(CHECKS, ODD, max_size=2),
    ("datasets", "d", "schema", "columns", "x", "dtype"): st.sampled_from(["str", "int32", "float32", "bool", "date"]),
    ("datasets", "d", "clean", "null_values"): st.lists(st.sampled_from(["", "a", "0", "b"]), max_size=3),
    ("datasets", "d", "clean", "separator"): st.sampled_from([",", ";", "a", '"', "\n", "ü", " "]),
    ("datasets", "d", "clean", "encoding"): st.sampled_from(["utf-16", "ascii", "utf-7", "punycode", "latin-1"]),
    ("datasets", "d", "clean", "engine"): st.just("pandas"),
}


def _places(node, path=()):
    yield path
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _places(inner, (*path, key))


def _set(content, path, value):
    node = content
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


def _change_likely(draw, content):
    for path in draw(st.lists(st.sampled_from(sorted(LIKELY)), min_size=1, max_size=4)):
        _set(content, path, draw(LIKELY[path]))
    if draw(st.booleans()):
        estimator, given = WHOLE[draw(st.sampled_from(sorted(WHOLE)))]
        content["models"]["m"]["train"] |= {"estimator": estimator, "params": draw(given)}


def _change_any(draw, content):
    path = draw(st.sampled_from(list(_places(content))[1:] or [()]))
    if not path:
        return
    node = content
    for key in path[:-1]:
        node = node[key]
    how, last = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add", "rename"])), path[-1]
    if how == "delete":
        del node[last]
    elif how == "rename" and isinstance(node, dict):
        node[draw(st.sampled_from(["x", "m.n", 5, True, "", "ü"]))] = node.pop(last)
    elif how == "add" and isinstance(node[last], dict):
        node[last][draw(st.sampled_from(["more", "prepare", "estimator", "x", 1]))] = draw(ODD)
    else:
        old = node[last]
        like = ODD.filter(lambda value: type(value) is type(old))
        node[last] = draw(like if isinstance(old, str | int | float) and draw(st.booleans()) else ODD)


@st.composite
def params_texts(draw):
    """params.yaml with a few places changed, half of the time to what could be, or a few characters of its text."""
    content = {"sources": {}, "datasets": {"d": copy.deepcopy(DATASET)}, "models": {"m": copy.deepcopy(MODEL)}}
    if draw(st.booleans()):
        _change_likely(draw, content)
    else:
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            _change_any(draw, content)
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    if _one_in(draw, 8):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.text(max_size=2)) + text[place + draw(st.integers(0, 3)) :]
    return text
