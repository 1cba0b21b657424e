"""Retraining a model on more rows: which rows, where they are added, the pipeline run, the candidate on a branch."""
