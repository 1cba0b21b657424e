import polars as pl
import pytest
from modelling import config, files, iris, params, penguins, stage
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split

from stages import split
from stages.common.errors import StageError


def run(folder, table, **kwargs):
    table.write_parquet(folder / "clean.parquet")
    paths = {name: folder / "out" / f"{name}.parquet" for name in ("train", "test")}
    split.run("m", params(**kwargs), clean=folder / "clean.parquet", **paths)
    return pl.read_parquet(paths["train"]), pl.read_parquet(paths["test"])


def test_iris_parts_are_the_tutorials(tmp_path):
    train, test = run(tmp_path, iris(), split={"stratify": True})
    bunch = load_iris()
    features, _, target, _ = train_test_split(
        bunch.data, bunch.target, test_size=0.2, random_state=42, stratify=bunch.target
    )
    assert train.drop("species").to_numpy().tolist() == features.tolist()
    assert train["species"].to_list() == bunch.target_names[target].tolist()
    assert len(test) == 30
    assert test["species"].value_counts()["count"].to_list() == [10, 10, 10]


def test_every_row_is_in_one_part_with_its_missing_values(tmp_path):
    table = penguins()
    train, test = run(tmp_path, table)
    assert pl.concat([train, test]).sort(pl.all()).equals(table.sort(pl.all()))


def test_dropped_columns_are_gone_from_both_parts(tmp_path):
    for part in run(tmp_path, penguins(), split={"drop": ["year", "sex", "year"]}):
        assert part.columns == ["species", "island", "body_mass_g"]


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical])
def test_text_and_categories_are_stratified_alike(tmp_path, dtype):
    train, _ = run(tmp_path, iris().cast({"species": dtype}), split={"stratify": True})
    expected, _ = run(tmp_path, iris(), split={"stratify": True})
    assert train.cast({"species": pl.String}).equals(expected)


def test_the_same_data_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, penguins(), split={"stratify": True})
    for part in ("train", "test"):
        first, second = ((tmp_path / name / "out" / f"{part}.parquet").read_bytes() for name in ("a", "b"))
        assert first == second


DAYS = pl.DataFrame(
    {
        "day": pl.date_range(pl.date(2026, 1, 1), pl.date(2026, 1, 20), eager=True).shuffle(seed=3),
        "who": [f"p{row % 5}" for row in range(20)],
        "x": range(20),
        "species": ["a", "b"] * 10,
    }
)


def test_a_split_by_time_tests_on_the_last_rows(tmp_path):
    train, test = run(tmp_path, DAYS, split={"time": "day", "test_size": 0.25})
    assert (train.height, test.height) == (15, 5)
    assert train["day"].max() < test["day"].min()
    assert train["day"].is_sorted()


@pytest.mark.parametrize(("test_size", "rows"), [(0.25, (10, 10)), (0.9, (10, 10)), (0.5, (10, 10))])
def test_rows_of_one_time_stand_in_one_part(tmp_path, test_size, rows):
    twice = DAYS.with_columns(day=pl.col("day").dt.day() > 10).with_columns(pl.col("day").cast(pl.Int32))
    train, test = run(tmp_path, twice, split={"time": "day", "test_size": test_size})
    assert (train.height, test.height) == rows
    assert set(train["day"]).isdisjoint(test["day"])


def test_a_group_stands_in_one_part_and_is_no_feature(tmp_path):
    train, test = run(tmp_path, DAYS, split={"group": "who", "test_size": 0.4})
    assert train.columns == ["day", "x", "species"]
    groups = dict(DAYS.select("x", "who").iter_rows())
    assert {groups[x] for x in train["x"]}.isdisjoint({groups[x] for x in test["x"]})
    assert (train.height, test.height) == (12, 8)


@pytest.mark.parametrize(
    "target", [pl.col("species"), pl.col("species") == "setosa", pl.col("species").rank("dense").cast(pl.Int64)]
)
def test_stratify_auto_keeps_the_shares_of_classes(tmp_path, target):
    table = iris().with_columns(species=target)
    assert all(
        map(
            pl.DataFrame.equals,
            run(tmp_path, table, split={"stratify": "auto"}),
            run(tmp_path, table, split={"stratify": True}),
        )
    )


@pytest.mark.parametrize("target", ["sepal_length", "rare", "id"])
def test_stratify_auto_leaves_alone_what_cannot_be(tmp_path, target):
    table = iris().with_columns(
        rare=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("one")).otherwise("species"), id=pl.int_range(pl.len())
    )
    given = {"target": target}
    assert all(
        map(
            pl.DataFrame.equals,
            run(tmp_path, table, split={"stratify": "auto"}, **given),
            run(tmp_path, table, **given),
        )
    )


ONE_EACH = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 5.0], "species": ["a", "a", "a", "a", "rare"]})


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (iris(), {"target": "kind"}, r"models\.m\.target = 'kind' is not in the data 'd'; its columns: sepal_length, "),
        (iris(), {"split": {"drop": ["id"]}}, r"models\.m\.split\.drop = 'id' is not in the data 'd'; its columns: "),
        (iris(), {"split": {"drop": ["species"]}}, r"split\.drop = 'species' is the target; keep it"),
        (iris().select("species"), {}, r"leaves no column to learn from"),
        (iris().head(40), {}, r"clean\.parquet: the target 'species' has one class, 'setosa'"),
        (
            pl.DataFrame({"x": [1, 2, 3], "y": [1, 1, 1]}),
            {"target": "y", "split": {"stratify": True}},
            r"one class, 1;",
        ),
        (iris().head(1), {"target": "sepal_width"}, r"has 1 rows; a split with test_size 0\.2 leaves none"),
        (iris().head(0), {}, r"has 0 rows"),
        (ONE_EACH, {"split": {"stratify": True}}, r"class 'rare' of 'species' has one row"),
        (iris()[::20], {"split": {"stratify": True}}, r"6 train and 2 test rows are fewer than the 3 classes"),
        (
            penguins().with_columns(species=pl.when(pl.col("year") == 2007).then("species")),
            {},
            r"\d\d rows have no 'species'; drop them in the cleaning script",
        ),
        (
            iris().with_columns(species=pl.col("species").replace("setosa", " N/A ")),
            {},
            r"50 rows have ' N/A ' .*; add it to datasets\.d\.clean\.null_values and drop .* CSV nor Excel, drop",
        ),
        (DAYS, {"split": {"time": "days"}}, r"split\.time = 'days' is not in the data 'd'; its columns: day, who"),
        (DAYS, {"split": {"group": "species"}}, r"split\.group = 'species' is the target"),
        (DAYS, {"split": {"time": "who"}}, r"split\.time = 'who' is .*string.*; make it a date, datetime or number"),
        (DAYS.with_columns(day=1), {"split": {"time": "day"}}, r"is the same in all 20 rows"),
        (DAYS.with_columns(who=pl.lit("p")), {"split": {"group": "who"}}, r"is the same in all 20 rows"),
        (
            DAYS.with_columns(species=pl.Series(["setosa", "setosa ", "b", "b"] * 5)),
            {},
            r"'setosa' and 'setosa ', classes of 'species' .*, differ by blanks alone; in src/stages/cleaning/d\.py",
        ),
        (DAYS.with_columns(who=None), {"split": {"group": "who"}}, r"split\.group = 'who' is missing in 20 rows"),
        (DAYS.select("who", "species"), {"split": {"group": "who"}}, r"leaves no column to learn from"),
        (iris().with_columns(sepal_width=float("nan")), {"target": "sepal_width"}, r"150 rows have no 'sepal_width'"),
    ],
)
def test_what_cannot_be_split_is_refused_and_nothing_is_written(tmp_path, table, given, message):
    with pytest.raises(StageError, match=message) as refusal:
        run(tmp_path, table, **given)
    assert "\n" not in str(refusal.value)
    assert files(tmp_path) == ["clean.parquet"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing; make it: dvc repro clean@d"), (b"a,b\n1,2\n", "is not a Parquet file")],
)
def test_missing_or_broken_data_are_one_line_and_exit_code_2(tmp_path, content, message):
    if content:
        (tmp_path / "clean.parquet").write_bytes(content)
    answer = stage(
        tmp_path, "split", config(), clean="clean.parquet", train="out/train.parquet", test="out/test.parquet"
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("split@m: clean.parquet ")
    assert message in answer.stderr
    assert answer.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
