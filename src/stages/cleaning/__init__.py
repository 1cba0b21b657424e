"""A short script for each dataset that needs one: `clean` gets the rows that keep the schema, as a narwhals frame."""
