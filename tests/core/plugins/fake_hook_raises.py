"""A plugin that fails while it describes itself."""

from rerank import hookimpl


@hookimpl
def rerank_register_backends():
    raise ValueError("no table today")
