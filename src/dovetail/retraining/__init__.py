"""Adding rows to the data of a model: where they go, what they are, how they are written."""
