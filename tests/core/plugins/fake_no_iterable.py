"""A plugin that returns one backend instead of an iterable."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    return fake_backend("single")
