"""Diabetes patients: ten standardised measures and the progression of the disease a year later."""

import narwhals as nw


def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    """Name the target for what it is."""
    return frame.rename({"target": "progression"})
