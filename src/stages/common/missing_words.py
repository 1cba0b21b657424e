"""Words that files write for a missing value, in lower case: pandas' own and a few that people type."""

MISSING_WORDS = frozenset(
    {
        *("", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na"),
        *("nan", "null", "none", "nil", "?", "-", "--", ".", "missing"),
    }
)


def is_missing_word(text: str) -> bool:
    """Whether a text is such a word."""
    return text.strip().casefold() in MISSING_WORDS
