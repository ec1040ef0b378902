"""A plugin for a later protocol."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    yield fake_backend("later", protocol=2)
