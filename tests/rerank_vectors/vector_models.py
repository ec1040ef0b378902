"""A model whose vectors follow from the text alone, and which counts what it encodes; and the files that keep them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rerank_vectors import DocumentVectors

WIDTH = 24


def vectors_of(text: str, windows: int = 1) -> DocumentVectors:
    """Vectors that follow from the text alone: one per character, in windows; truncated beyond 50 characters."""
    rng = np.random.default_rng(list(text.encode()) or 0)
    return DocumentVectors(
        tuple(rng.normal(0, 1, (len(text[:50]), WIDTH)).astype(np.float32) for _ in range(windows)), len(text) > 50
    )


class Encoder:
    """Encodes texts, and remembers each call."""

    def __init__(self, windows: int = 1) -> None:
        self.calls: list[list[str]] = []
        self.windows = windows

    def __call__(self, texts: list[str]) -> list[DocumentVectors]:
        self.calls.append(texts)
        return [vectors_of(text, self.windows) for text in texts]


def same(left: Sequence[DocumentVectors], right: Sequence[DocumentVectors]) -> bool:
    """Whether two lists of documents are equal to the bit."""
    return len(left) == len(right) and all(
        a.truncated == b.truncated
        and len(a.windows) == len(b.windows)
        and all(v.dtype == w.dtype and np.array_equal(v, w) for v, w in zip(a.windows, b.windows))
        for a, b in zip(left, right)
    )


def is_right(documents: Sequence[DocumentVectors], texts: Sequence[str], windows: int = 1) -> bool:
    """Whether documents are those of their texts, rounded to half precision."""
    expected = [vectors_of(text, windows) for text in texts]
    halves = [DocumentVectors(tuple(w.astype(np.float16) for w in d.windows), d.truncated) for d in expected]
    return same(documents, halves)


def files(kept: Path, suffix: str) -> list[Path]:
    """The files of one kind in the collections of a folder."""
    return sorted(kept.glob(f"*/*{suffix}"))
