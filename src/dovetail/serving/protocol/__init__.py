"""What is asked and answered, checked against the version's signature."""
