"""The joint between DVC and MLflow: git and DVC are the truth, MLflow is a view of it that can be rebuilt."""
