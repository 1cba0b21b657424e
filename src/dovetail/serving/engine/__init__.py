"""The processes behind the server: the model, and who watches the alias."""
