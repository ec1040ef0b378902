"""A plugin whose own dependency is missing."""

raise ImportError("needs libfancy: pip install fancy")
