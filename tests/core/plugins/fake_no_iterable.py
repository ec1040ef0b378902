"""A plugin that returns a backend where several are expected."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    return fake_backend("single")
