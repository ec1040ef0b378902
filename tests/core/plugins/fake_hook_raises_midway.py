"""A plugin whose hook yields one backend and then raises."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    yield fake_backend("midway")
    raise ValueError("no more")
