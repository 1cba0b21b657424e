"""Which version an alias names: on evidence, in git's tags, with a way back."""
