"""What a user may type to name something, and its one spelling back."""

import pytest

from dovetail.values.reference import ByAlias, ByCommit, ByDigest, ByPath, ByRun, ByVersion, parse

MODELS = frozenset({"iris"})
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
    ],
)
def test_every_form_is_understood(text, means):
    assert parse(text, MODELS) == means


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
