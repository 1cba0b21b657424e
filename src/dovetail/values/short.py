"""How digests and commits are shortened."""

SHORT = 8  # characters that people compare
