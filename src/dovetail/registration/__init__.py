"""What MLflow shows of git and DVC: registering, restoring, repairing, looking up."""
