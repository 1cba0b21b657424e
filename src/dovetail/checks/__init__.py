"""What `dovetail doctor` looks at: each check is one function that yields the problems that it finds."""
