"""What kinds of model there are: told by content, read, named where they cannot be read."""
