"""What the operating system gives: locks and processes."""
