"""What a user may type to name something, and its one spelling back."""

import pytest

from dovetail.values.reference import ByAlias, ByCommit, ByDigest, ByPath, ByRun, ByVersion, parse

MODELS = frozenset({"iris", "pipelines.iris"})
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("iris", ByAlias("iris")),
        ("iris@production", ByAlias("iris", "production")),
        ("models:/iris@production", ByAlias("iris", "production")),
        ("iris/3", ByVersion("iris", 3)),
        ("models:/iris/3", ByVersion("iris", 3)),
        ("runs:/0a1b2c", ByRun("0a1b2c")),
        ("v1.2:iris", ByCommit("v1.2", "iris")),
        ("HEAD~1:iris", ByCommit("HEAD~1", "iris")),
        (MD5, ByDigest(MD5)),
        (f"{MD5}.dir", ByDigest(f"{MD5}.dir")),
        ("data/raw/iris.parquet", ByPath("data/raw/iris.parquet")),
        ("people.csv", ByPath("people.csv")),
        ("pipelines/iris", ByAlias("pipelines.iris")),
        ("pipelines.iris", ByAlias("pipelines.iris")),
        ("pipelines/iris@production", ByAlias("pipelines.iris", "production")),
        ("pipelines/iris/3", ByVersion("pipelines.iris", 3)),
        ("models:/pipelines/iris/3", ByVersion("pipelines.iris", 3)),
        ("HEAD:pipelines/iris", ByCommit("HEAD", "pipelines.iris")),
        ("data/iris", ByPath("data/iris")),
        ("data/parts/2024", ByPath("data/parts/2024")),
        ("data/x@y", ByPath("data/x@y")),
    ],
)
def test_every_form_is_understood(text, means):
    assert parse(text, MODELS) == means


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("any/one", ByAlias("any.one")),
        ("any/one@staging", ByAlias("any.one", "staging")),
        ("any/one/2", ByVersion("any.one", 2)),
        ("iris/2", ByVersion("iris", 2)),
        ("data/x.csv", ByPath("data/x.csv")),
    ],
)
def test_where_no_models_are_known_whatever_can_be_one_is_one(text, means):
    assert parse(text, None) == means


@pytest.mark.parametrize(
    "reference",
    [
        ByAlias("iris"),
        ByAlias("iris", "staging"),
        ByVersion("iris", 3),
        ByRun("ab"),
        ByCommit("v1", "iris"),
        ByDigest(MD5),
    ],
)
def test_writing_and_parsing_are_inverses(reference):
    assert parse(str(reference), MODELS) == reference
