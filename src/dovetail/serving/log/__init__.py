"""What was served, remembered in Parquet files."""
