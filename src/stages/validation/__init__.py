"""What `clean` alone uses: rows held against a schema in pandera's vocabulary."""
