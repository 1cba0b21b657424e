"""What `clean` does with rows, of a whole file or of a range of it: the one place where they are cleaned."""
