"""One short cleaning script per dataset: `clean` gets the rows that keep the schema, as a narwhals frame."""
