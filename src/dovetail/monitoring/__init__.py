"""What was served, compared with what the version was trained and tested on."""
