"""A plugin that registers a name that is taken."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    yield fake_backend("goodie")
