"""What Dovetail writes into a project."""
