"""Where arrays begin in an entry, and entries in a file."""

from __future__ import annotations

from typing import Final

ALIGNMENT: Final = 64
"""Bytes: a processor's cache line and widest register."""


def aligned(length: int) -> int:
    """A length, raised to a multiple of `ALIGNMENT`."""
    return -(-length // ALIGNMENT) * ALIGNMENT


def padded(content: bytes) -> bytes:
    """``content``, with zeros up to a multiple of `ALIGNMENT`."""
    return content.ljust(aligned(len(content)), b"\0")
