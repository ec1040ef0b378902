"""A plugin whose hook takes the wrong arguments."""

from rerank import hookimpl


@hookimpl
def rerank_register_backends(config):
    return []
