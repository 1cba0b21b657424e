"""Answers for people: each takes what `--json` prints and gives the text of it."""
