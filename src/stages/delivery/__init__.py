"""Where cleaned rows are delivered: files, tables of a database, tables of Delta Lake."""
