"""A plugin written against some other hook."""

from rerank import hookimpl


@hookimpl
def rerank_register_backends(config):
    return []
