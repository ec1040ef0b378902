"""A plugin that exits while it adds its commands."""

from rerank import hookimpl


@hookimpl
def rerank_register_commands(cli):
    raise SystemExit(3)
