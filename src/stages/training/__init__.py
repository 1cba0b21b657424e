"""What `train` alone uses: estimators from params.yaml, what is put before them, labels that they can take."""
