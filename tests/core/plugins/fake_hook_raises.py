"""A plugin whose hook raises."""

from rerank import hookimpl


@hookimpl
def rerank_register_backends():
    raise ValueError("no table today")
