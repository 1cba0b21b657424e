"""What is broken or risky, each with the command that repairs it."""
