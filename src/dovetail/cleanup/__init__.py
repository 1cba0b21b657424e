"""What nothing needs any more, across DVC's cache, its remote and MLflow's trash."""
