"""What the stages of the data half share: raw files, and URLs with secrets."""
