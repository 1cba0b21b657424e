"""Irises: four measures in cm and the species."""

import narwhals as nw

NAMES = {
    "sepal length (cm)": "sepal_length",
    "sepal width (cm)": "sepal_width",
    "petal length (cm)": "petal_length",
    "petal width (cm)": "petal_width",
    "target": "species",
}


def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    """Give the columns names that are easy to type."""
    return frame.rename(NAMES)
