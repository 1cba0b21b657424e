"""How `split` tells rows to learn from and rows to test on apart, and what it refuses."""
