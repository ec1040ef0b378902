"""A plugin whose backends have few and many notes."""

from rerank import hookimpl
from rerank.testing.fake import fake_backend


@hookimpl
def rerank_register_backends():
    yield fake_backend("few", notes=lambda: ["one: a note", "two: another"])
    yield fake_backend("many", notes=lambda: [f"seen: {number}" for number in range(1, 5)])
