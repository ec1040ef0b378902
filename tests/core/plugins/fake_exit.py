"""A plugin that exits on import, as a script does."""

raise SystemExit("usage: fake_exit FILE")
