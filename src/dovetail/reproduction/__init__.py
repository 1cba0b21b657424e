"""Rebuilding a version from its commit and its data."""
