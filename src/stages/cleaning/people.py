"""People with a name and an age, each young or adult."""

import narwhals as nw

ADULT = 30  # years


def clean(frame: nw.LazyFrame) -> nw.LazyFrame:
    """Drop rows with a missing value; derive `age_group`."""
    young = nw.when(nw.col("age") < ADULT).then(nw.lit("young")).otherwise(nw.lit("adult"))
    return frame.drop_nulls().with_columns(age_group=young)
