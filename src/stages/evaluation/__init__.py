"""What `evaluate` alone uses: validation in folds, importance, plots and the card."""
