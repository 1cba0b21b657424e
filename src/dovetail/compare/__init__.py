"""What differs between two states of a model, or between two models."""
