"""Rows split by a hash of their key: no row moves when others are added, whoever does the work."""

import datetime as dt
import json

import numpy as np
import polars as pl
import pytest
from modelling import config, files, params, stage

from stages import evaluate, split, train
from stages.common.errors import StageError
from stages.modelling.shuffled import shuffled
from stages.parts.row_hash import row_hash

PINNED = [13733897004165070379, 17287157726201797388, 7397718492176819470, 8667649776344838159]
PINNED_BY_SEED = [16224358038177002008, 14418310973240835626, 5367656241298028170, 14982322402422575936]
ONE_COLUMN = {
    "whole": [0, 13029008251332137628, 48217637070315139, 13029008251332137628],
    "real": [306524380386894098, 0, 5087927243459887485, 5087927243459887485],
    "text": [1760245842864441444, 15078629747994861997, 17869346941037063452, 1760245842864441444],
    "time": [17259534004617917130, 7888855123156673541, 13029008251332137628, 13029008251332137628],
    "yes": [6238072759023023373, 0, 13029008251332137628, 13029008251332137628],
}
KEY = {"split": {"key": "id", "test_size": 0.25, "seed": 7}}


def people(start, stop):
    number = np.arange(start, stop)
    return pl.DataFrame(
        {
            "id": number,
            "name": [f"Ä{n * 7919}" for n in number],
            "x": np.sin(number),
            "y": np.cos(number * 3.0),
            "species": np.where(np.sin(number) + 0.1 * np.cos(7.0 * number) > 0, "a", "b").tolist(),
        }
    )


def parts(folder, tables):
    folder.mkdir()
    for number, table in enumerate(tables):
        table.write_parquet(folder / f"part-{number:05}.parquet")
    return folder


def run(folder, clean, workers="1", monkeypatch=None, **how):
    if monkeypatch:
        monkeypatch.setenv("PARTS_WORKERS", workers)
    paths = {name: folder / f"{name}.parquet" for name in ("train", "test")}
    split.run("m", params(**{**KEY, **how}), clean=clean, **paths)
    return pl.read_parquet(paths["train"]), pl.read_parquet(paths["test"])


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files(folder)}


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setenv("PARTS_WORKERS", "1")


def test_the_hash_of_a_row_is_the_same_on_every_machine():
    rows = pl.DataFrame(
        {
            "whole": [0, -1, 2**40, None],
            "real": [0.5, -0.0, float("nan"), None],
            "text": ["", "Grün", "a\nb", None],
            "time": [
                dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
                dt.datetime(1969, 1, 1, tzinfo=dt.UTC),
                None,
                None,
            ],
            "yes": [True, False, None, None],
        }
    )
    assert row_hash(rows).tolist() == PINNED
    assert shuffled(row_hash(rows), 7).tolist() == PINNED_BY_SEED
    for name, values in ONE_COLUMN.items():
        assert row_hash(rows.select(name)).tolist() == values


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pl.Series([1, 2], dtype=pl.Int8), pl.Series([1, 2], dtype=pl.UInt64)),
        (pl.Series([0.0, float("nan")]), pl.Series([-0.0, -float("nan")])),
        (pl.Series([0.5, 1.0], dtype=pl.Float32), pl.Series([0.5, 1.0])),
        (pl.Series(["a", "b"], dtype=pl.Categorical), pl.Series(["a", "b"])),
        (pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), pl.Series(["a", "b"])),
    ],
)
def test_equal_values_have_one_hash_however_they_are_stored(one, other):
    assert row_hash(one.to_frame("x")).tolist() == row_hash(other.to_frame("y")).tolist()


def test_numbers_beyond_int64_and_all_other_types_have_a_hash():
    odd = pl.DataFrame({"a": pl.Series([2**64 - 1, 1], dtype=pl.UInt64), "b": [dt.time(1), None]})
    assert len(set(row_hash(odd.with_columns(c=pl.col("a").cast(pl.Decimal(30, 2)))))) == 2


def test_a_row_stays_in_its_part_when_others_are_added_before_between_and_behind(tmp_path):
    all_rows = people(0, 1200)
    _, few = run(tmp_path, parts(tmp_path / "few", [all_rows[100:600]]))
    learned, more = run(tmp_path, parts(tmp_path / "more", [all_rows[900:], all_rows[:400], all_rows[400:900]]))
    assert set(few["name"]) == set(more["name"]) & set(all_rows[100:600]["name"])
    assert learned.height + more.height == 1200
    assert 0.2 < more.height / 1200 < 0.3


def test_a_part_that_is_added_changes_no_file_before_it(tmp_path):
    tables = [people(0, 300), people(300, 400)]
    run(tmp_path, parts(tmp_path / "two", tables))
    before = {name: contents(tmp_path / f"{name}.parquet") for name in ("train", "test")}
    run(tmp_path, parts(tmp_path / "three", [*tables, people(400, 450)]))
    for name, old in before.items():
        new = contents(tmp_path / f"{name}.parquet")
        assert len(new) == 3
        assert old.items() <= new.items()


def test_one_and_two_workers_and_one_file_give_the_same_rows_and_bytes(tmp_path, monkeypatch):
    tables = [people(0, 200), people(200, 300), people(0, 0), people(300, 600)]
    clean = parts(tmp_path / "clean", tables)
    found = []
    for workers in ("1", "2"):
        rows = run(tmp_path, clean, workers, monkeypatch)
        found.append([contents(tmp_path / f"{name}.parquet") for name in ("train", "test")])
    assert found[0] == found[1]
    pl.concat(tables).write_parquet(tmp_path / "clean.parquet")
    assert all(map(pl.DataFrame.equals, rows, run(tmp_path, tmp_path / "clean.parquet")))
    assert (tmp_path / "train.parquet").is_file()
    assert not list(tmp_path.glob(".*"))


def test_the_model_gets_no_key_unless_columns_names_it(tmp_path):
    clean = parts(tmp_path / "clean", [people(0, 50)])
    assert run(tmp_path, clean)[0].columns == ["name", "x", "y", "species"]
    assert run(tmp_path, clean, split={**KEY["split"], "columns": ["y", "id"]})[0].columns == ["id", "y", "species"]
    both = {"key": ["name", "id"], "test_size": 0.25, "drop": ["x"]}
    assert run(tmp_path, clean, split=both)[1].columns == ["y", "species"]


def test_a_whole_row_is_a_key_and_equal_rows_stand_in_one_part(tmp_path):
    clean = parts(tmp_path / "clean", [people(0, 200), people(100, 250)])
    learned, tested = run(tmp_path, clean, split={"key": "*", "test_size": 0.3})
    assert learned.height + tested.height == 350
    assert set(learned["id"]).isdisjoint(tested["id"])


def test_a_seed_gives_other_parts(tmp_path):
    clean = parts(tmp_path / "clean", [people(0, 400)])
    one, other = (set(run(tmp_path, clean, split={**KEY["split"], "seed": seed})[1]["name"]) for seed in (0, 1))
    assert 0.1 < len(one & other) / len(one) < 0.5


@pytest.mark.parametrize(
    ("how", "table", "said"),
    [
        ({"key": "nr"}, people(0, 9), r"models\.m\.split\.key = 'nr' is not in the data 'd'; its columns: id, name"),
        ({"key": ["id", "nr"]}, people(0, 9), r"models\.m\.split\.key = 'nr' is not in the data"),
        ({"key": "species"}, people(0, 9), r"models\.m\.split\.key = 'species' is the target"),
        ({"columns": ["z"]}, people(0, 9), r"models\.m\.split\.columns = 'z' is not in the data"),
        ({"columns": ["species"]}, people(0, 9), r"columns = \['species'\] leaves no column to learn from"),
        (
            {},
            people(0, 9).with_columns(id=pl.col("id") // 8),
            r"key = id does not tell rows apart in .*clean: 0 comes 8 times, in part-00000\.parquet, part-00001\.",
        ),
        (
            {"key": ["id", "name"]},
            pl.concat([people(0, 9), people(3, 4)]),
            r"key = id, name does not tell rows apart in .*clean: 3, 'Ä23757' comes 2 times.*key: '\*' for the whole",
        ),
        (
            {},
            people(0, 9).with_columns(id=pl.when(pl.col("id") < 8).then("id")),
            r"'id' is missing in 1 rows of .*part",
        ),
        ({"key": "x"}, people(0, 9).with_columns(x=pl.lit(float("nan"))), r"key = 'x' is missing in"),
        ({"key": "x"}, people(0, 9).with_columns(x=pl.concat_list("y")), r"split\.key: column 'x' is large_list"),
        ({}, people(0, 9).with_columns(species=pl.lit("a")), r"target 'species' has one class, 'a'"),
        ({}, people(0, 9).with_columns(species=pl.lit(None, pl.String)), r"clean: 9 rows have no 'species'; drop them"),
        ({}, people(0, 9).with_columns(species=pl.col("species").replace("a", "NA")), r"a word for a missing value"),
        ({"test_size": 0.0001}, people(0, 9), r"test_size 0\.0001 of 9 rows by the hash of id leaves none to test on"),
    ],
)
def test_what_cannot_be_split_is_refused_and_nothing_is_written(tmp_path, how, table, said):
    clean = parts(tmp_path / "clean", [table[:4], table[4:]])
    with pytest.raises(StageError, match=said) as refused:
        run(tmp_path, clean, split={**KEY["split"], **how})
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["clean"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"time": "x"}, "time and key are 2 ways to split; choose one"),
        ({"stratify": True}, "stratify belongs to a split at random, without time, group and key"),
        ({"key": []}, "key names no column; write some, or '*' for the whole row"),
        ({"columns": ["x"], "drop": ["y"]}, "columns says which stay, and drop which go; choose one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, how, said):
    content = config(split={**KEY["split"], **how})
    people(0, 9).write_parquet(tmp_path / "clean.parquet")
    refused = stage(tmp_path, "split", content, clean="clean.parquet", train="a.parquet", test="b.parquet")
    assert refused.returncode == 2
    assert said in refused.stderr


def test_parts_are_trained_on_and_evaluated(tmp_path):
    clean = parts(tmp_path / "clean", [people(0, 200), people(200, 300)])
    given = params(split={**KEY["split"], "columns": ["x", "y"]}, n_estimators=5, random_state=0)
    halves = {name: tmp_path / f"{name}.parquet" for name in ("train", "test")}
    split.run("m", given, clean=clean, **halves)
    train.run("m", given, train=halves["train"], model=tmp_path / "m.joblib", search=tmp_path / "s.json")
    out = {name: tmp_path / name for name in ("metrics", "plots", "importance", "card")}
    evaluate.run("m", given, model=tmp_path / "m.joblib", **halves, **out)
    assert json.loads((tmp_path / "metrics").read_text())["rows"] == pl.read_parquet(halves["test"]).height
