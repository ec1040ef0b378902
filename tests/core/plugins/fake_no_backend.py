"""A plugin that yields something other than a backend."""

from rerank import hookimpl


@hookimpl
def rerank_register_backends():
    yield {"name": "dict"}
