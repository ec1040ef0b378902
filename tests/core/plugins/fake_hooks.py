"""A plugin with a hook of its own, which it reads when asked for notes."""

import sys

from rerank import hookimpl, installed
from rerank.hookspecs import hookspec
from rerank.testing.fake import fake_backend


@hookspec
def rerank_register_words():
    """Name words. Called when the notes of the backend are read."""


def words():
    found = {}

    def add(word, distribution):
        found[word] = distribution

    installed().collect("rerank_register_words", add)
    return [f"{word} of {distribution}" for word, distribution in found.items()]


@hookimpl
def rerank_add_hooks(registry):
    registry.add_hooks(sys.modules[__name__])


@hookimpl
def rerank_register_backends():
    yield fake_backend("wordy", notes=words)
