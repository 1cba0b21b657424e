"""What the stages of the model half share: Parquet as estimators see it."""
