"""Answering requests with the version that an alias names, and remembering what was answered."""
