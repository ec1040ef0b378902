"""A plugin with a missing dependency."""

raise ImportError("needs libfancy: pip install fancy")
