"""What `evaluate` alone uses: predictions, metrics, importance, plots and the card."""
