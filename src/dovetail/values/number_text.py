"""Numbers as people write them, with decimal commas and thousands, as text that every reader takes for a number."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from dovetail.values.reading import Reading


def plain_numbers(text: pa.Array, how: Reading) -> pa.Array:
    """`text`, with each value that is a number as `how` says they are written, written as Python does."""
    if how.plain_numbers:
        return text
    words = text.cast(pa.string())
    is_number = pc.fill_null(pc.match_substring_regex(words, _written(how)), fill_value=False)
    bare = pc.utf8_trim_whitespace(words)
    joined = pc.replace_substring(bare, how.thousands, "") if how.thousands else bare
    return pc.if_else(is_number, pc.replace_substring(joined, how.decimal, "."), words).cast(text.type)


def _written(how: Reading) -> str:
    point, between = re.escape(how.decimal), re.escape(how.thousands)
    whole = rf"\d{{1,3}}({between}\d{{3}})+|\d+" if between else r"\d+"
    return rf"^\s*[+-]?(({whole})({point}\d*)?|{point}\d+)([eE][+-]?\d+)?\s*$"
