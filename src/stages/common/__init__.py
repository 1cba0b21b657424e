"""What every stage uses: params.yaml as frozen models, the errors that a user can correct, outputs written whole."""
