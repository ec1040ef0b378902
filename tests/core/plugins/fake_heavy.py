"""A plugin that works but imports torch too early."""

import torch  # noqa: F401 (the test puts a module of this name beside)

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    yield fake_backend("heavy")
