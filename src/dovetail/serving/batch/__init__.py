"""Folders of rows scored part by part: what is read, who is asked, and files that appear whole."""
