"""Plain values and the words for them: pure, frozen, each format beside its inverse."""
