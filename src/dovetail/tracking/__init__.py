"""MLflow: the only room that asks it."""
