"""Data larger than a machine: ranges of rows, each worked on by itself, by any number of processes, with one result."""
