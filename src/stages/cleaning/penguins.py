"""Penguins of the Palmer archipelago: measures of a bird, its island, sex and species."""

import narwhals as nw

MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    """Drop birds that nobody measured. A single missing value stays: the model has to cope with it."""
    return frame.filter(~nw.all_horizontal(nw.col(*MEASURES).is_null(), ignore_nulls=False))
