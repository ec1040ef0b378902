"""A plugin that takes itself for a script."""

raise SystemExit("usage: fake_exit FILE")
