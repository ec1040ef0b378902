"""A plugin that yields what is no backend."""

from rerank import hookimpl


@hookimpl
def rerank_register_backends():
    yield {"name": "dict"}
