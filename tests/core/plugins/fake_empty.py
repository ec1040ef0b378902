"""A plugin without hooks."""
