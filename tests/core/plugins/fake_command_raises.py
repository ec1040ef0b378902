"""A plugin whose backend works but whose command does not."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    yield fake_backend("commandless")


@hookimpl
def rerank_register_commands(cli):
    raise RuntimeError("no terminal today")
